"""ROIAlign over a pyramid (Mask R-CNN, sec. 3) and the level that a box is pooled from.

One function, a kernel per backend: TensorFlow pools by `crop_and_resize` on edge-padded maps;
other backends gather (a fixed number of samples per bin) or multiply with the interpolation
matrices (adaptive sampling). All are exact against torchvision's and Detectron2's kernels.
"""

import keras
from keras import ops

from fpn_tf.geometry.box_ops import box_area


def assign_levels(boxes, levels, canonical_size=224, canonical_level=4):
    """The pyramid level of each box: k = floor(k0 + log2(sqrt(w*h) / 224)) (FPN paper, eq. 1).

    Args:
        boxes: [..., 4] in pixels.
        levels: the levels there are, in rising order; k is clamped to them.
        canonical_size: side in pixels of the box that belongs to `canonical_level`.
        canonical_level: k0.

    Returns:
        [...] int32. A box without area belongs to the finest level.
    """
    side = ops.sqrt(box_area(ops.cast(boxes, "float32")))
    # The 1e-6 (torchvision's) keeps a side of exactly 2^n * canonical_size on its own level.
    octave = ops.log(ops.maximum(side, 1e-6) / canonical_size) / ops.log(ops.cast(2.0, "float32"))
    level = ops.floor(canonical_level + octave + 1e-6)
    return ops.cast(ops.clip(level, levels[0], levels[-1]), "int32")


def roi_align(pyramid, boxes, box_levels, output_size=7, sampling_ratio=2, aligned=True):
    """Pools a fixed-size map from under each box by bilinear sampling.

    Args:
        pyramid: {level: [B, H, W, C]}; level l has stride 2^l.
        boxes: [B, R, 4] float32 in pixels of the image.
        box_levels: [B, R] int32, one of the pyramid's levels for each box.
        output_size: bins along each side.
        sampling_ratio: samples per bin along each side; 0 means adaptive, ceil(side / bins) on
            the map (Detectron2's default).
        aligned: shift by half a cell, so that cell centres lie at half-integer coordinates
            (Detectron2); False is the original ROIAlign (torchvision's detectors), in which a
            box is also at least one cell wide and high.

    Returns:
        [B, R, output_size, output_size, C] in the maps' dtype.
    """
    boxes = ops.cast(boxes, "float32")
    if keras.config.backend() == "tensorflow":
        from fpn_tf.geometry import tf_kernels

        pool = tf_kernels.roi_align_fixed if sampling_ratio else tf_kernels.roi_align_adaptive
    else:
        pool = roi_align_by_gather if sampling_ratio else roi_align_by_matrices
    return pool(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned)


def boxes_on_map(boxes, strides, aligned):
    """Boxes in cells of their maps, as (x1, y1, width, height), each [...].

    Args:
        boxes: [..., 4] in pixels.
        strides: [...] float32, the stride of each box's map.
        aligned: see `roi_align`.
    """
    boxes = boxes / strides[..., None] - (0.5 if aligned else 0.0)
    x1, y1, x2, y2 = ops.unstack(boxes, 4, axis=-1)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = ops.maximum(width, 1.0), ops.maximum(height, 1.0)
    return x1, y1, width, height


def _interpolation(position, size):
    """Bilinear neighbours along one axis, with ROIAlign's border rules.

    Args:
        position: float32, in cells; cell centres lie at whole numbers.
        size: float32 number of cells, broadcast against `position`.

    Returns:
        (low index, high index, weight of low, weight of high) as `position`; a position more
        than one cell outside has weights 0, others outside take the border's value.
    """
    inside = ops.cast((position >= -1.0) & (position <= size), "float32")
    position = ops.clip(position, 0.0, size - 1.0)
    low = ops.floor(position)
    high = ops.minimum(low + 1.0, size - 1.0)
    fraction = position - low
    return ops.cast(low, "int32"), ops.cast(high, "int32"), inside * (1 - fraction), inside * fraction


def roi_align_by_gather(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with a fixed `sampling_ratio`, as one gather from all maps laid end to end."""
    levels = sorted(pyramid)
    batch, channels = pyramid[levels[0]].shape[0], pyramid[levels[0]].shape[-1]
    table = ops.concatenate([ops.reshape(pyramid[k], [batch, -1, channels]) for k in levels], axis=1)
    heights = [pyramid[k].shape[1] for k in levels]
    widths = [pyramid[k].shape[2] for k in levels]
    starts = [sum(h * w for h, w in zip(heights[:i], widths[:i])) for i in range(len(levels))]

    index = box_levels - levels[0]  # [B, R]

    def per_box(values, dtype):
        return ops.take(ops.convert_to_tensor(values, dtype), index, axis=0)[..., None]

    strides = ops.take(ops.convert_to_tensor([2.0**k for k in levels], "float32"), index, axis=0)
    x1, y1, width, height = boxes_on_map(boxes, strides, aligned)
    samples = output_size * sampling_ratio
    steps = (ops.arange(samples, dtype="float32") + 0.5) / samples
    y = y1[..., None] + steps * height[..., None]  # [B, R, S]
    x = x1[..., None] + steps * width[..., None]
    y_low, y_high, y_low_weight, y_high_weight = _interpolation(y, per_box(heights, "float32"))
    x_low, x_high, x_low_weight, x_high_weight = _interpolation(x, per_box(widths, "float32"))
    start, row = per_box(starts, "int32"), per_box(widths, "int32")

    def corner(y_index, x_index, y_weight, x_weight):
        cells = (start + y_index * row)[..., :, None] + x_index[..., None, :]  # [B, R, S, S]
        flat = ops.reshape(cells, [batch, -1, 1])
        values = ops.take_along_axis(table, flat, axis=1)
        values = ops.reshape(values, [*cells.shape, channels])
        weights = y_weight[..., :, None, None] * x_weight[..., None, :, None]
        return values * ops.cast(weights, values.dtype)

    sampled = (
        corner(y_low, x_low, y_low_weight, x_low_weight)
        + corner(y_low, x_high, y_low_weight, x_high_weight)
        + corner(y_high, x_low, y_high_weight, x_low_weight)
        + corner(y_high, x_high, y_high_weight, x_high_weight)
    )
    # [B, R, S, S, C] -> [B, R, bins, k, bins, k, C] -> [B, R, bins, bins, C]
    rois = boxes.shape[1]
    bins = [batch, rois, output_size, sampling_ratio, output_size, sampling_ratio, channels]
    return ops.mean(ops.reshape(sampled, bins), axis=(3, 5))


def roi_align_by_matrices(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with adaptive sampling: bins = Y @ map @ X^T, Y and X the averaged hat functions.

    Exact and static in shape, at the price of work in proportion to the map's size.
    `sampling_ratio` is not read (it is 0).
    """
    del sampling_ratio
    pooled = 0
    for level, feature in pyramid.items():
        strides = ops.full(boxes.shape[:-1], 2.0**level)
        on_map = ops.stack(boxes_on_map(boxes, strides, aligned), axis=-1)  # [B, R, 4]
        here = ops.cast(box_levels == level, feature.dtype)

        def pool_image(args):
            maps, image_boxes, weight = args  # [H, W, C], [R, 4], [R]

            def pool_box(args):
                (x1, y1, width, height), used = args
                rows = _averaging_matrix(y1, height, maps.shape[0], output_size)
                columns = _averaging_matrix(x1, width, maps.shape[1], output_size)
                by_row = ops.tensordot(ops.cast(rows, maps.dtype), maps, axes=1)  # [bins, W, C]
                return used * ops.einsum("qw,pwc->pqc", ops.cast(columns, maps.dtype), by_row)

            return ops.map(pool_box, (image_boxes, weight))

        pooled = pooled + ops.map(pool_image, (feature, on_map, here))
    return pooled


def _averaging_matrix(start, side, size, bins):
    """[bins, size] weights with which the cells of an axis enter each bin's mean.

    Args:
        start: scalar, where the box begins, in cells.
        side: scalar, its length in cells.
        size: int, cells along the axis.
        bins: int.
    """
    count = ops.maximum(ops.ceil(side / bins), 1.0)  # samples per bin
    bin_side = side / bins
    first = start + ops.arange(bins, dtype="float32")[:, None] * bin_side  # [bins, 1]
    # Samples lie more than half a cell apart (or are single), so 2 * (size + 1) reach across the
    # map; in a box that is larger still, they start at the first sample that is not beyond it.
    skip = ops.clip(ops.floor((-1.0 - first) / ops.maximum(bin_side, 1e-6) * count - 0.5), 0.0, 1e9)
    sample = ops.arange(2 * (size + 1), dtype="float32") + skip
    position = first + (sample + 0.5) * bin_side / count
    low, high, low_weight, high_weight = _interpolation(position, float(size))
    # A box without area has no samples at all, and their mean is 0.
    used = ops.cast((sample < count) & (side > 0), "float32") / count
    cells = ops.arange(size)
    weights = ops.where(low[..., None] == cells, (low_weight * used)[..., None], 0.0)
    weights = weights + ops.where(high[..., None] == cells, (high_weight * used)[..., None], 0.0)
    return ops.sum(weights, axis=1)
