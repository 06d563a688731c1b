"""Picking rows of a batch: by index, and the best by score."""

import keras
from keras import ops


def gather_rows(x, indices):
    """x [B, N, ...] and indices [B, S] -> [B, S, ...]: row indices[b, s] of each x[b]."""
    if keras.config.backend() == "tensorflow":
        from fpn_tf.geometry import tf_kernels

        return tf_kernels.gather_rows(x, indices)
    count = ops.shape(x)[1]
    first = ops.arange(ops.shape(x)[0], dtype="int32")[:, None] * count
    return ops.take(ops.reshape(x, [-1, *x.shape[2:]]), indices + first, axis=0)


def best_rows(scores, count):
    """The `count` highest scores of every row, also where a row has fewer.

    Args:
        scores: [B, N]; N may be unknown while tracing.
        count: int.

    Returns:
        (values [B, count], indices [B, count] int32, there [B, count] bool), falling; ties by
        lower index. Beyond N the values are the lowest float, the indices 0, `there` False.
    """
    total = ops.shape(scores)[1]
    if scores.shape[1] is None or scores.shape[1] < count:
        scores = ops.pad(scores, [[0, 0], [0, count]], constant_values=-3e38)
    values, indices = ops.top_k(scores, count)
    indices = ops.cast(indices, "int32")
    there = indices < total
    return values, ops.where(there, indices, 0), there


def neighbourhoods(pyramid, cells, reach):
    """The surroundings of some cells of a pyramid, as small maps.

    Args:
        pyramid: {level name: [B, H, W, C]}.
        cells: [B, S] int32, counted through all levels.
        reach: cells on each side of the one in the middle.

    Returns:
        (maps [B*S, D, D, C], 0 outside of the pyramid's map; inside [B*S, D, D, 1] in their
        dtype, 1 or 0), D = 2 * reach + 1.
    """
    steps = ops.arange(-reach, reach + 1, dtype="int32")
    side = 2 * reach + 1
    before, maps, inside = 0, 0, 0
    for feature in pyramid.values():
        height, width, channels = ops.shape(feature)[1], ops.shape(feature)[2], feature.shape[-1]
        cell = cells - before
        here = (cell >= 0) & (cell < height * width)
        cell = ops.where(here, cell, 0)
        y = (cell // width)[..., None, None] + steps[:, None]  # [B, S, D, 1]
        x = (cell % width)[..., None, None] + steps  # [B, S, 1, D]
        valid = here[..., None, None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        around = ops.reshape(ops.where(valid, y * width + x, 0), [-1, ops.shape(cells)[1] * side**2])
        values = gather_rows(ops.reshape(feature, [-1, height * width, channels]), around)
        valid = ops.cast(ops.reshape(valid, [-1, side, side, 1]), feature.dtype)
        maps = maps + ops.reshape(values, [-1, side, side, channels]) * valid
        inside = inside + valid
        before = before + height * width
    return maps, inside
