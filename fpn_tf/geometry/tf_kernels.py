"""TensorFlow's kernels for `nms` and `roi_align`: the fast path on CPU and GPU.

They are exact; only the way differs. Imported by the public functions alone, when Keras runs on
TensorFlow.
"""

import tensorflow as tf

from fpn_tf.geometry.roi_align import boxes_on_map


def nms(boxes, scores, valid, iou_threshold, max_output):
    """See `fpn_tf.geometry.nms.nms`; a C++/CUDA kernel on every row."""
    lowest = scores.dtype.min
    scores = tf.where(valid, scores, lowest)

    def one_row(row):
        # Not tf.image.non_max_suppression_padded: that is a loop of small ops, many times slower.
        indices, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=row[0],
            scores=row[1],
            max_output_size=max_output,
            iou_threshold=iou_threshold,
            score_threshold=lowest,
            pad_to_max_output_size=True,
        )
        return indices, tf.range(max_output) < count

    signature = (tf.TensorSpec([max_output], tf.int32), tf.TensorSpec([max_output], tf.bool))
    return tf.map_fn(one_row, (boxes, scores), fn_output_signature=signature)


def roi_align_fixed(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with the same number of samples in every bin: one crop per level."""
    samples = output_size * sampling_ratio

    def pool_level(padded, rois, image_index):
        crops = _sample(padded, rois, image_index, (samples, samples))
        return tf.nn.avg_pool2d(crops, sampling_ratio, sampling_ratio, "VALID")

    return _pool_by_level(pyramid, boxes, box_levels, output_size, aligned, pool_level)


def roi_align_adaptive(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with ceil(side / bins) samples: one crop per level and number of samples.

    `sampling_ratio` is not read (it is 0).
    """
    del sampling_ratio

    def pool_level(padded, rois, image_index):
        channels = padded.shape[-1]
        sides = tf.stack([rois[:, 3], rois[:, 2]], axis=-1)  # (height, width) in cells
        counts = tf.maximum(tf.cast(tf.math.ceil(sides / output_size), tf.int32), 1)
        # One key for each (rows, columns) pair; a crop must have the same pair throughout.
        unique, group = tf.unique(counts[:, 0] * 65536 + counts[:, 1])

        def pool_group(i, pooled):
            members = tf.where(group == i)  # [M, 1]
            rows, columns = unique[i] // 65536, unique[i] % 65536
            size = tf.stack([rows, columns]) * output_size
            crops = _sample(padded, tf.gather_nd(rois, members), tf.gather_nd(image_index, members), size)
            bins = tf.stack([-1, output_size, rows, output_size, columns, channels])
            means = tf.reduce_mean(tf.reshape(crops, bins), axis=(2, 4))
            return i + 1, tf.tensor_scatter_nd_update(pooled, members, means)

        pooled = tf.zeros([tf.shape(rois)[0], output_size, output_size, channels])
        groups = tf.size(unique)
        _, pooled = tf.while_loop(lambda i, _: i < groups, pool_group, (0, pooled))
        return pooled

    return _pool_by_level(pyramid, boxes, box_levels, output_size, aligned, pool_level)


def _pool_by_level(pyramid, boxes, box_levels, output_size, aligned, pool_level):
    """Splits the boxes by level, pools each level's, and puts the results back in order."""
    levels = sorted(pyramid)
    channels = pyramid[levels[0]].shape[-1]
    batch, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
    flat_boxes = tf.reshape(boxes, [-1, 4])
    flat_levels = tf.reshape(box_levels, [-1])
    image_index = tf.repeat(tf.range(batch), count)
    pooled, members = [], []
    for level in levels:
        here = tf.where(flat_levels == level)[:, 0]
        rois = tf.gather(flat_boxes, here)
        rois = tf.stack(boxes_on_map(rois, tf.fill(tf.shape(rois)[:1], 2.0**level), aligned), -1)
        padded = tf.pad(tf.cast(pyramid[level], tf.float32), [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        pooled.append(pool_level(padded, rois, tf.gather(image_index, here)))
        members.append(here)
    order = tf.math.invert_permutation(tf.concat(members, 0))
    pooled = tf.gather(tf.concat(pooled, 0), order)
    pooled = tf.reshape(pooled, [batch, count, output_size, output_size, channels])
    return tf.cast(pooled, pyramid[levels[0]].dtype)


def _sample(padded, rois, image_index, size):
    """Bilinear samples [M, size[0], size[1], C] at the centres of `size` equal parts of each roi.

    `padded` is a map with its border repeated once: a sample up to one cell outside then reads
    the border's value and one further out reads 0, which are ROIAlign's rules, and
    `crop_and_resize` does the rest once its corner convention is met.

    Args:
        padded: [B, H + 2, W + 2, C] float32.
        rois: [M, 4] float32 (x1, y1, width, height) in cells of the unpadded map.
        image_index: [M] int32.
        size: (rows, columns), numbers or an int32 tensor.
    """
    x1, y1, width, height = tf.unstack(rois, axis=-1)
    last = tf.cast(tf.shape(padded)[1:3] - 1, tf.float32)
    parts = tf.cast(size, tf.float32)

    def ends(start, side, count, limit):
        half = side / count / 2
        return (start + half + 1) / limit, (start + side - half + 1) / limit

    top, bottom = ends(y1, height, parts[0], last[0])
    left, right = ends(x1, width, parts[1], last[1])
    corners = tf.stack([top, left, bottom, right], axis=-1)
    return tf.image.crop_and_resize(padded, corners, image_index, size)
