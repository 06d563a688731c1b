"""What TensorFlow's RoI kernels share: boxes of one kind are pooled together, and put back in order."""

import tensorflow as tf


def pool_by_level(pyramid, boxes, box_levels, output_size, pool_level):
    """Splits the boxes by level, pools each level's, and puts the results back in order.

    Args:
        pyramid: {level: [B, H, W, C]}.
        boxes: [B, R, 4].
        box_levels: [B, R] int32.
        output_size: S.
        pool_level: (level, boxes [M, 4], image_index [M] int32) -> [M, S, S, C] float32.

    Returns:
        [B, R, S, S, C] in the maps' dtype.
    """
    levels = sorted(pyramid)
    channels = pyramid[levels[0]].shape[-1]
    batch, count = tf.unstack(tf.shape(boxes)[:2])
    flat_boxes, flat_levels = tf.reshape(boxes, [-1, 4]), tf.reshape(box_levels, [-1])
    image_index = tf.repeat(tf.range(batch), count)
    pooled, members_of_levels = [], []
    for level in levels:
        members = tf.where(flat_levels == level)[:, 0]
        pooled.append(pool_level(level, tf.gather(flat_boxes, members), tf.gather(image_index, members)))
        members_of_levels.append(members)
    order = tf.math.invert_permutation(tf.concat(members_of_levels, 0))
    pooled = tf.gather(tf.concat(pooled, 0), order)
    pooled = tf.reshape(pooled, [batch, count, output_size, output_size, channels])
    return tf.cast(pooled, pyramid[levels[0]].dtype)


def pool_by_size(counts, pool_group, shape):
    """Pools together what has as many cells or samples in a bin: a gather has one shape throughout.

    Args:
        counts: [M, 2] int32, rows and columns of each RoI's bins, 1 to 65535.
        pool_group: (members [N] int64 of the M, rows, columns) -> [N, *shape].
        shape: of a pooled map.

    Returns:
        [M, *shape] float32.
    """
    keys, key_of_roi = tf.unique(counts[:, 0] * 65536 + counts[:, 1])  # one key for each pair
    number_of_groups = tf.size(keys)

    def pool_next(group, pooled):
        members = tf.where(key_of_roi == group)[:, 0]
        maps = pool_group(members, keys[group] // 65536, keys[group] % 65536)
        return group + 1, tf.tensor_scatter_nd_update(pooled, members[:, None], maps)

    nothing = tf.zeros([tf.shape(counts)[0], *shape])
    return tf.while_loop(lambda group, _: group < number_of_groups, pool_next, (0, nothing))[1]
