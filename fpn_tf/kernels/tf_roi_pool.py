"""TensorFlow's `roi_pool`: one gather per level and number of cells in a bin."""

import tensorflow as tf

from fpn_tf.geometry.max_pooling import bins_on_map
from fpn_tf.kernels.tf_pooling import pool_by_level, pool_by_size


def roi_pool(pyramid, boxes, box_levels, output_size=7):
    """See `fpn_tf.geometry.max_pooling.roi_pool`; the same numbers."""

    def pool_level(level, boxes, image_index):
        return _pool_map(tf.cast(pyramid[level], tf.float32), boxes, image_index, 2.0**level, output_size)

    return pool_by_level(pyramid, tf.cast(boxes, tf.float32), box_levels, output_size, pool_level)


def _pool_map(feature, boxes, image_index, stride, bins):
    """Boxes [M, 4] on a map [B, H, W, C] -> [M, S, S, C]."""
    height, width, channels = tf.shape(feature)[1], tf.shape(feature)[2], feature.shape[-1]
    cells = tf.reshape(feature, [-1, channels])  # of all images
    sides = bins_on_map(boxes, stride, height, width, bins)  # top, bottom, left, right: [M, S] each
    top, bottom, left, right = sides
    most_cells = tf.stack([tf.reduce_max(bottom - top, 1), tf.reduce_max(right - left, 1)], axis=1)

    def pool_group(members, rows, columns):
        top, bottom, left, right = (tf.gather(side, members)[..., None] for side in sides)  # [N, S, 1]
        y = tf.minimum(top + tf.range(rows), bottom - 1)  # [N, S, rows]: the last cell again in smaller bins
        x = tf.minimum(left + tf.range(columns), right - 1)  # [N, S, columns]
        line = tf.gather(image_index, members)[:, None, None] * height + tf.maximum(y, 0)
        numbers = line[:, :, None, :, None] * width + tf.maximum(x, 0)[:, None, :, None, :]
        maxima = tf.reduce_max(tf.gather(cells, numbers), axis=(3, 4))  # [N, S, S, C]
        is_filled = (bottom > top)[:, :, None] & (right > left)[:, None]  # [N, S, S, 1]
        return tf.where(is_filled, maxima, 0.0)

    return pool_by_size(tf.maximum(most_cells, 1), pool_group, [bins, bins, channels])
