"""Boxes: area, intersection over union, clipping, the (dx, dy, dw, dh) coding; and anchors, boxes on a grid.

Functions of boxes take any leading axes and compute in float32, whatever the precision policy.
"""

import math

import numpy as np
from keras import ops

MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest dw, dh that decoding admits: a box grows at most 62.5-fold (Detectron)."""


def box_area(boxes):
    """Areas of `boxes` [..., 4] -> [...], in square pixels; negative sides count as zero."""
    x1, y1, x2, y2 = ops.unstack(ops.convert_to_tensor(boxes), 4, axis=-1)
    return ops.maximum(x2 - x1, 0) * ops.maximum(y2 - y1, 0)


def pairwise_iou(boxes, others):
    """Intersection over union of all pairs.

    Args:
        boxes: [..., N, 4].
        others: [..., M, 4].

    Returns:
        [..., N, M] float32 in 0..1; pairs whose union is empty have IoU 0.
    """
    boxes, others = ops.cast(boxes, "float32"), ops.cast(others, "float32")
    # [..., N, 1] against [..., 1, M], a coordinate at a time: no [..., N, M, 2] is ever held.
    x1, y1, x2, y2 = ops.unstack(boxes[..., :, None, :], 4, axis=-1)
    u1, v1, u2, v2 = ops.unstack(others[..., None, :, :], 4, axis=-1)
    width = ops.maximum(ops.minimum(x2, u2) - ops.maximum(x1, u1), 0)
    height = ops.maximum(ops.minimum(y2, v2) - ops.maximum(y1, v1), 0)
    intersection = width * height
    union = box_area(boxes)[..., :, None] + box_area(others)[..., None, :] - intersection
    return ops.where(union > 0, intersection / ops.where(union > 0, union, 1), 0)


def clip_boxes(boxes, image_sizes):
    """Clips boxes to their images.

    Args:
        boxes: [B, ..., 4].
        image_sizes: [B, 2] (height, width) in pixels, any numeric dtype.

    Returns:
        [B, ..., 4] float32 with x in 0..width and y in 0..height.
    """
    sizes = ops.cast(image_sizes, "float32")
    limits = ops.tile(ops.flip(sizes, axis=1), [1, 2])  # (width, height, width, height)
    # [B, 4] -> [B, 1, ..., 4]
    limits = ops.reshape(limits, [-1] + [1] * (len(boxes.shape) - 2) + [4])
    return ops.minimum(ops.maximum(ops.cast(boxes, "float32"), 0), limits)


def _centers_and_sides(boxes):
    x1, y1, x2, y2 = ops.unstack(boxes, 4, axis=-1)
    width, height = x2 - x1, y2 - y1
    return x1 + width / 2, y1 + height / 2, width, height


def encode_deltas(boxes, anchors, weights):
    """The deltas that move `anchors` onto `boxes` (R-CNN, eq. 6-9).

    Args:
        boxes: [..., 4] targets.
        anchors: [..., 4] boxes to start from, broadcast against `boxes`.
        weights: four factors for (dx, dy, dw, dh).

    Returns:
        [..., 4] float32. Sides are taken as at least 1e-6 px, so that padding stays finite.
    """
    boxes, anchors = ops.cast(boxes, "float32"), ops.cast(anchors, "float32")
    x, y, w, h = _centers_and_sides(boxes)
    ax, ay, aw, ah = _centers_and_sides(anchors)
    w, h, aw, ah = (ops.maximum(side, 1e-6) for side in (w, h, aw, ah))
    deltas = ((x - ax) / aw, (y - ay) / ah, ops.log(w / aw), ops.log(h / ah))
    return ops.stack([d * k for d, k in zip(deltas, weights)], axis=-1)


def decode_deltas(deltas, anchors, weights):
    """The inverse of `encode_deltas`; dw and dh are clamped at `MAX_LOG_SCALE`.

    Args:
        deltas: [..., 4].
        anchors: [..., 4], broadcast against `deltas`.
        weights: the factors that the deltas were encoded with.

    Returns:
        [..., 4] float32 boxes.
    """
    deltas, anchors = ops.cast(deltas, "float32"), ops.cast(anchors, "float32")
    ax, ay, aw, ah = _centers_and_sides(anchors)
    dx, dy, dw, dh = (d / k for d, k in zip(ops.unstack(deltas, 4, axis=-1), weights))
    x, y = dx * aw + ax, dy * ah + ay
    half_w = ops.exp(ops.minimum(dw, MAX_LOG_SCALE)) * aw / 2
    half_h = ops.exp(ops.minimum(dh, MAX_LOG_SCALE)) * ah / 2
    return ops.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)


def base_anchors(sizes, ratios, rounding="none", stride=None):
    """The anchors of one cell, around the pixel (0, 0) of its corner.

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: height / width, for each of the sizes.
        rounding: "none"; "torchvision", corners to whole pixels; or "detectron", sides to whole
            multiples of size / stride, and centred in the cell, not on its corner.
        stride: pixels between cells; "detectron" alone needs it.

    Returns:
        [A, 4] float32 NumPy array, A = len(sizes) * len(ratios); ratios vary slowest, as in
        torchvision, which for one size per level is Detectron2's order too.
    """
    anchors = []
    for ratio in ratios:
        for size in sizes:
            height, width = size * np.sqrt(ratio), size / np.sqrt(ratio)
            if rounding == "detectron":
                width = np.round(stride / np.sqrt(ratio))
                height, width = np.round(width * ratio) * size / stride, width * size / stride
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    anchors = np.asarray(anchors, "float32")
    if rounding == "detectron":
        anchors += stride / 2
    return np.round(anchors) if rounding == "torchvision" else anchors


def cell_anchors(levels, sizes, ratios, rounding="none"):
    """The anchors of one cell of every level: {level: [A, 4]}, see `base_anchors`.

    Args:
        levels: level l has stride 2^l; one size belongs to each, or all of them to the only one.
        sizes, ratios, rounding: see `base_anchors`.
    """
    sizes_of_levels = [sizes] if len(levels) == 1 else [(size,) for size in sizes]
    return {k: base_anchors(s, ratios, rounding, 2**k) for k, s in zip(levels, sizes_of_levels)}


def anchor_grid(feature_size, stride, cell_anchors):
    """Places `cell_anchors` on every cell of a map; those of cell (0, 0) stay where they are.

    Args:
        feature_size: (H, W) of the map; numbers or scalar tensors.
        stride: pixels between neighbouring cells: a number, or (vertical, horizontal).
        cell_anchors: [A, 4], see `base_anchors`.

    Returns:
        [H*W*A, 4] float32, row by row, the anchors of a cell together. Nothing is clipped.
    """
    height, width = feature_size
    down, right = stride if isinstance(stride, tuple) else (stride, stride)
    y = ops.cast(ops.arange(height, dtype="int32"), "float32") * ops.cast(down, "float32")
    x = ops.cast(ops.arange(width, dtype="int32"), "float32") * ops.cast(right, "float32")
    y, x = ops.meshgrid(y, x, indexing="ij")
    shifts = ops.stack([x, y, x, y], axis=-1)  # [H, W, 4]
    grid = shifts[:, :, None, :] + ops.convert_to_tensor(cell_anchors, "float32")
    return ops.reshape(grid, [-1, 4])  # [H, W, A, 4] -> [H*W*A, 4]
