"""RoI pooling over a pyramid (Girshick, Fast R-CNN, sec. 2.1): the maximum of whole cells."""

import keras
from keras import ops


def roi_pool(pyramid, boxes, box_levels, output_size=7):
    """Pools a fixed-size map from under each box: a bin is the maximum of its cells.

    Corners are rounded to cells (halves up), the last cell belongs to the box, and the bins are
    rounded outwards, so that neighbours may share cells. A bin outside of the map is 0.

    Args:
        pyramid: {level: [B, H, W, C]}; level l has stride 2^l.
        boxes: [B, R, 4] float32 in pixels of the image.
        box_levels: [B, R] int32, one of the pyramid's levels for each box.
        output_size: S, bins along each side.

    Returns:
        [B, R, S, S, C] in the maps' dtype.
    """
    boxes = ops.cast(boxes, "float32")
    if keras.config.backend() == "tensorflow":
        from fpn_tf.geometry import tf_kernels

        return tf_kernels.roi_pool(pyramid, boxes, box_levels, output_size)
    pooled = 0
    for level, feature in pyramid.items():
        here = ops.cast(box_levels == level, feature.dtype)[..., None, None, None]
        pooled = pooled + here * _pool_by_tables(feature, boxes, 2.0**level, output_size)
    return pooled


def bins_on_map(boxes, stride, height, width, bins):
    """The cells of each bin along both axes.

    Args:
        boxes: [..., 4] float32 in pixels.
        stride: of the map.
        height, width: of the map, in cells.
        bins: S.

    Returns:
        (top, bottom, left, right), each [..., S] int32: a bin holds the cells top..bottom - 1 and
        left..right - 1; none where it lies outside.
    """
    corners = ops.cast(ops.floor(boxes / stride + 0.5), "int32")
    steps = ops.arange(bins, dtype="int32")

    def along(first, last, size):
        side = ops.maximum(last - first + 1, 1)[..., None]
        start = first[..., None] + (steps * side) // bins
        stop = first[..., None] - (-(steps + 1) * side) // bins
        return ops.clip(start, 0, size), ops.clip(stop, 0, size)

    x1, y1, x2, y2 = (corners[..., i] for i in range(4))
    return *along(y1, y2, height), *along(x1, x2, width)


def _pool_by_tables(feature, boxes, stride, bins):
    """All boxes from one map, whose shape is known while tracing.

    The maximum of a range of cells is that of two windows of 2^k cells that cover it: `table`
    holds the maxima of all windows of 2^i x 2^j cells.
    """
    batch, height, width, channels = feature.shape
    top, bottom, left, right = bins_on_map(boxes, stride, height, width, bins)
    powers = [(-(-side // bins) + 1).bit_length() for side in (height, width)]

    def doubled(x, axis, step):
        size = x.shape[axis]
        near = ops.arange(size)
        return ops.maximum(x, ops.take(x, ops.minimum(near + step, size - 1), axis=axis))

    rows, table = feature, []
    for i in range(powers[0]):
        window = rows
        for j in range(powers[1]):
            table.append(ops.reshape(window, [batch, -1, channels]))
            window = doubled(window, 2, 2**j)
        rows = doubled(rows, 1, 2**i)
    table = ops.concatenate(table, axis=1)  # [B, tables * H * W, C]

    def windows(start, stop, count):
        """(power [B, R, S], first cells of the two windows)."""
        length = ops.maximum(stop - start, 1)
        power = sum(ops.cast(length >= 2**k, "int32") for k in range(1, count))
        power = power + ops.zeros_like(length)
        return power, (start, stop - ops.left_shift(ops.ones_like(power), power))

    y_power, y_starts = windows(top, bottom, powers[0])
    x_power, x_starts = windows(left, right, powers[1])
    which = y_power[..., :, None] * powers[1] + x_power[..., None, :]  # [B, R, S, S]
    found = None
    for y in y_starts:
        for x in x_starts:
            y, x = ops.clip(y, 0, height - 1), ops.clip(x, 0, width - 1)
            index = (which * height + y[..., :, None]) * width + x[..., None, :]
            values = ops.take_along_axis(table, ops.reshape(index, [batch, -1, 1]), axis=1)
            found = values if found is None else ops.maximum(found, values)
    found = ops.reshape(found, [*which.shape, channels])
    filled = (bottom > top)[..., :, None] & (right > left)[..., None, :]
    return ops.where(filled[..., None], found, ops.zeros_like(found))
