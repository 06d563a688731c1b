"""`roi_pool` from tables of maxima, made of `keras.ops`: for backends that compile static shapes."""

from keras import ops

from fpn_tf.geometry.max_pooling import bins_on_map


def roi_pool(pyramid, boxes, box_levels, output_size=7):
    """See `fpn_tf.geometry.max_pooling.roi_pool`; the same numbers.

    For speed: a bin is four cells of a table, however many cells of the map it holds.
    """
    boxes = ops.cast(boxes, "float32")
    pooled = 0
    for level, feature in pyramid.items():
        is_of_level = ops.cast(box_levels == level, feature.dtype)[..., None, None, None]
        pooled = pooled + is_of_level * _pool_map(feature, boxes, 2.0**level, output_size)
    return pooled


def _pool_map(feature, boxes, stride, bins):
    """All boxes [B, R, 4] from one map [B, H, W, C], of static shape -> [B, R, S, S, C].

    The maximum of a range of cells is that of two windows of 2^k cells that cover it.
    """
    batch, height, width, channels = feature.shape
    top, bottom, left, right = bins_on_map(boxes, stride, height, width, bins)  # [B, R, S] each
    powers = height.bit_length(), width.bit_length()  # a box far larger than the map has bins as large as it
    table = _table_of_maxima(feature, *powers)

    y_power, y_starts = _windows(top, bottom, powers[0])
    x_power, x_starts = _windows(left, right, powers[1])
    entry = y_power[..., :, None] * powers[1] + x_power[..., None, :]  # [B, R, S, S]
    maxima = None
    for y in y_starts:
        for x in x_starts:
            y, x = ops.clip(y, 0, height - 1), ops.clip(x, 0, width - 1)
            cells = (entry * height + y[..., :, None]) * width + x[..., None, :]
            values = ops.take_along_axis(table, ops.reshape(cells, [batch, -1, 1]), axis=1)
            maxima = values if maxima is None else ops.maximum(maxima, values)
    maxima = ops.reshape(maxima, [*entry.shape, channels])
    is_filled = (bottom > top)[..., :, None] & (right > left)[..., None, :]
    return ops.where(is_filled[..., None], maxima, ops.zeros_like(maxima))


def _table_of_maxima(feature, y_powers, x_powers):
    """[B, H, W, C] -> [B, y_powers * x_powers * H * W, C].

    Entry (i, j, y, x) is the maximum of the 2^i x 2^j cells from (y, x) on, as far as there are any.
    """
    batch, _, _, channels = feature.shape
    table, window = [], feature
    for i in range(y_powers):
        wider = window
        for j in range(x_powers):
            table.append(ops.reshape(wider, [batch, -1, channels]))
            wider = _maximum_with_shifted(wider, 2, 2**j)
        window = _maximum_with_shifted(window, 1, 2**i)
    return ops.concatenate(table, axis=1)


def _maximum_with_shifted(x, axis, step):
    """Each cell's maximum with the cell `step` further along an axis, or with the last one."""
    size = x.shape[axis]
    shifted = ops.minimum(ops.arange(size, dtype="int32") + step, size - 1)
    return ops.maximum(x, ops.take(x, shifted, axis=axis))


def _windows(start, stop, powers):
    """Two windows of 2^power cells that cover start..stop - 1, [B, R, S] each.

    Returns:
        (power, (first cell of one, first cell of the other)), each [B, R, S] int32.
    """
    length = ops.maximum(stop - start, 1)
    power = ops.zeros_like(length)
    for k in range(1, powers):
        power = power + ops.cast(length >= 2**k, "int32")
    return power, (start, stop - ops.left_shift(ops.ones_like(power), power))
