"""Anchors: fixed reference boxes on a regular grid over the image."""

import numpy as np
from keras import ops


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
    own = [sizes] if len(levels) == 1 else [(size,) for size in sizes]
    return {k: base_anchors(own_sizes, ratios, rounding, 2**k) for k, own_sizes in zip(levels, own)}


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
    y = ops.cast(ops.arange(height), "float32") * ops.cast(down, "float32")
    x = ops.cast(ops.arange(width), "float32") * ops.cast(right, "float32")
    y, x = ops.meshgrid(y, x, indexing="ij")
    shifts = ops.stack([x, y, x, y], axis=-1)  # [H, W, 4]
    grid = shifts[:, :, None, :] + ops.convert_to_tensor(cell_anchors, "float32")
    return ops.reshape(grid, [-1, 4])  # [H, W, A, 4] -> [H*W*A, 4]
