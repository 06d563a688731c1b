"""Anchors: fixed reference boxes on a regular grid over the image."""

import numpy as np
from keras import ops


def base_anchors(sizes, ratios, rounded=False):
    """The anchors of one cell, centred on the origin.

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: height / width, for each of the sizes.
        rounded: round the corners to whole pixels (torchvision, Detectron).

    Returns:
        [A, 4] float32 NumPy array, A = len(sizes) * len(ratios); ratios vary slowest, as in
        torchvision, which for one size per level is Detectron2's order too.
    """
    anchors = []
    for ratio in ratios:
        for size in sizes:
            height, width = size * np.sqrt(ratio), size / np.sqrt(ratio)
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    anchors = np.asarray(anchors, "float32")
    return np.round(anchors) if rounded else anchors


def anchor_grid(feature_size, stride, cell_anchors):
    """Places `cell_anchors` on every cell of a map; cell (0, 0) is centred on pixel (0, 0).

    Args:
        feature_size: (H, W) of the map; numbers or scalar tensors.
        stride: pixels between neighbouring cells.
        cell_anchors: [A, 4], see `base_anchors`.

    Returns:
        [H*W*A, 4] float32, row by row, the anchors of a cell together. Nothing is clipped.
    """
    height, width = feature_size
    y = ops.cast(ops.arange(height), "float32") * stride
    x = ops.cast(ops.arange(width), "float32") * stride
    y, x = ops.meshgrid(y, x, indexing="ij")
    shifts = ops.stack([x, y, x, y], axis=-1)  # [H, W, 4]
    grid = shifts[:, :, None, :] + ops.convert_to_tensor(cell_anchors, "float32")
    return ops.reshape(grid, [-1, 4])  # [H, W, A, 4] -> [H*W*A, 4]
