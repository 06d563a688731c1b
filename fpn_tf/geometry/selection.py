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
