"""RoI pooling over a pyramid (Girshick, Fast R-CNN, sec. 2.1), as a function and as a layer."""

from typing import Any

import keras
from keras import ops

from fpn_tf.geometry.bilinear_pooling import Pooler, empty_pool
from fpn_tf.geometry.selection import sizes_of
from fpn_tf.kernels.choice import replaceable
from fpn_tf.structures import Array


@keras.saving.register_keras_serializable("fpn_tf")
class ROIPool(Pooler):
    """As `ROIAlign`, by RoI pooling: the maximum of whole cells (Fast R-CNN; what the paper used).

    Args:
        output_size: S, bins along each side.
        canonical_size, canonical_level, **kwargs: see `ROIAlign`.

    Raises:
        TypeError, ValueError: anything but maps by name, p2, p3, ..., and boxes [B, R, 4].

    Example:

    >>> pyramid = {"p2": np.ones((1, 16, 24, 8), "float32")}
    >>> boxes = np.array([[[4, 4, 30, 40], [200, 4, 230, 40]]], "float32")  # the second lies outside
    >>> pooled = fpn_tf.ROIPool(7)(pyramid, boxes)
    >>> tuple(pooled.shape), float(pooled[0, 0, 3, 3, 0]), float(pooled[0, 1, 3, 3, 0])
    ((1, 2, 7, 7, 8), 1.0, 0.0)

    Source: Girshick, Fast R-CNN, arXiv 1504.08083, sec. 2.1.
    """

    def __init__(
        self, output_size: int = 7, canonical_size: float = 224, canonical_level: int = 4, **kwargs: Any
    ):
        super().__init__(output_size, canonical_size, canonical_level, **kwargs)

    def pool(self, maps: dict[int, Array], boxes: Array, levels: Array) -> Array:
        return roi_pool(maps, boxes, levels, self.output_size)


@replaceable
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
    if boxes.shape[1] == 0:
        return empty_pool(pyramid, boxes, output_size)
    pooled = 0.0
    for level, feature in pyramid.items():
        bins = bins_on_map(boxes, 2.0**level, *sizes_of(feature)[1:3], output_size)  # [B, R, S] each
        is_of_level = ops.cast(box_levels == level, feature.dtype)[..., None, None, None]
        pooled = pooled + is_of_level * ops.map(lambda image: _pool_image(*image), (feature, *bins))
    return pooled


def _pool_image(feature, top, bottom, left, right):
    """Map [H, W, C] and the bins of its boxes, [R, S] each -> [R, S, S, C]."""

    def pool_box(bins):
        top, bottom, left, right = bins  # [S] each
        by_row = _maxima_of_lines(feature, top, bottom)  # [S, W, C]
        by_column = _maxima_of_lines(ops.transpose(by_row, [1, 0, 2]), left, right)  # [S of x, S of y, C]
        is_filled = (bottom > top)[:, None] & (right > left)  # [S, S]
        return ops.where(is_filled[..., None], ops.transpose(by_column, [1, 0, 2]), 0.0)

    return ops.map(pool_box, (top, bottom, left, right))


def _maxima_of_lines(x, start, stop):
    """[N, M, C] -> [S, M, C], the maxima over the lines start..stop - 1, [S] each; -inf over none."""
    line = ops.arange(sizes_of(x)[0], dtype="int32")
    maxima = []
    for i in range(start.shape[0]):  # one after another: together they would be S times the map
        is_inside = (line >= start[i]) & (line < stop[i])
        maxima.append(ops.max(ops.where(is_inside[:, None, None], x, -float("inf")), axis=0))
    return ops.stack(maxima)


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
