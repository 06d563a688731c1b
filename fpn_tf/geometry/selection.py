"""Rows of a batch: how many there are, and picked by index, the best by score, without overlap, at random.

Noise is a pure function of integers, the same on every backend and device.
"""

import keras
from keras import ops

from fpn_tf.geometry.boxes import pairwise_iou
from fpn_tf.kernels.choice import replaceable


@replaceable
def sizes_of(x):
    """The sizes of a tensor's axes, whole numbers, or int32 scalars where a graph does not know them."""
    return ops.shape(x)


@replaceable
def gather_rows(x, indices):
    """x [B, N, ...], indices [B, S] int32, none negative -> [B, S, ...]: row indices[b, s] of each x[b]."""
    x, indices = ops.convert_to_tensor(x), ops.convert_to_tensor(indices)
    images, count, *rest = sizes_of(x)
    first = ops.arange(images, dtype="int32")[:, None] * count
    return ops.take(ops.reshape(x, [-1, *rest]), indices + first, axis=0)


def best_rows(scores, count):
    """The `count` highest scores of every row, also where a row has fewer.

    Args:
        scores: [B, N]; N may be unknown while tracing.
        count: int.

    Returns:
        (values [B, count], indices [B, count] int32, exists [B, count] bool), falling; ties by
        lower index. Beyond N the values are the lowest float, the indices 0, `exists` False.
    """
    total = sizes_of(scores)[1]
    if scores.shape[1] is None or scores.shape[1] < count:
        scores = ops.pad(scores, [[0, 0], [0, count]], constant_values=-3e38)
    values, indices = ops.top_k(scores, count)
    indices = ops.cast(indices, "int32")
    exists = indices < total
    return values, ops.where(exists, indices, 0), exists


@replaceable
def nms(boxes, scores, valid, iou_threshold, max_output):
    """Greedy NMS on every row of a batch.

    Args:
        boxes: [B, N, 4].
        scores: [B, N], finite.
        valid: [B, N] bool; other boxes take no part.
        iou_threshold: float.
        max_output: int, the most boxes to keep in a row.

    Returns:
        (indices [B, max_output] int32 into N by falling score, kept [B, max_output] bool).
        Where `kept` is False the index is 0.
    """
    boxes, scores = ops.cast(boxes, "float32"), ops.cast(scores, "float32")
    slots = ops.arange(max_output, dtype="int32")

    def take_best(slot, alive, indices, kept):
        best = ops.cast(ops.argmax(ops.where(alive, scores, -float("inf")), axis=1), "int32")  # [B]
        best_box = ops.sum(ops.where(_is_at(best, boxes)[..., None], boxes, 0.0), axis=1)  # [B, 4]
        takes = (slots == slot) & ops.any(alive, axis=1)[:, None]  # [B, max_output]
        beaten = pairwise_iou(boxes, best_box[:, None])[..., 0] > iou_threshold  # [B, N]
        alive = alive & ~beaten & ~_is_at(best, boxes)
        return slot + 1, alive, ops.where(takes, best[:, None], indices), kept | takes

    def any_is_left(slot, alive, indices, kept):
        return ops.logical_and(slot < max_output, ops.any(alive))

    nothing = ops.zeros([sizes_of(boxes)[0], max_output], "int32")
    start = (ops.convert_to_tensor(0, "int32"), ops.cast(valid, "bool"), nothing, nothing > 0)
    _, _, indices, kept = ops.while_loop(any_is_left, take_best, start)
    return indices, kept


def _is_at(index, boxes):
    """[B, N] bool, True at `index` [B] of each row of `boxes` [B, N, 4]."""
    return ops.arange(sizes_of(boxes)[1], dtype="int32") == index[:, None]


def _mix(x):
    """One round of an avalanche hash on uint32 (the "lowbias32" constants of C. Wellons)."""
    x = ops.bitwise_xor(x, ops.right_shift(x, 16))
    x = _wrapped(x * ops.cast(0x7FEB352D, "uint32"))
    x = ops.bitwise_xor(x, ops.right_shift(x, 15))
    x = _wrapped(x * ops.cast(0x846CA68B, "uint32"))
    return ops.bitwise_xor(x, ops.right_shift(x, 16))


def _wrapped(x):
    """The lowest 32 bits of a sum or product of uint32, which Keras' PyTorch backend holds as int64."""
    if keras.backend.standardize_dtype(x.dtype) == "uint32":
        return x
    return ops.bitwise_and(x, ops.cast(0xFFFFFFFF, "uint32"))


def uniform_noise(seeds, count, stream):
    """Noise in [0, 1) for the numbers 0, 1, ... count - 1 of each seed: [B, count], see `noise_of`."""
    return noise_of(ops.arange(count, dtype="int32")[None], seeds, stream)


def noise_of(numbers, seeds, stream):
    """Noise in [0, 1) that belongs to numbers, wherever in the array they stand.

    Args:
        numbers: [B or 1, N] integers, 0 or more.
        seeds: [B] integers; equal seeds give equal noise.
        stream: int that separates uses of the same seed.

    Returns:
        [B, N] float32 with 24 random bits.
    """
    seeds = _mix(_wrapped(ops.cast(seeds, "uint32") + ops.cast(stream * 0x9E3779B9 % 2**32, "uint32")))
    steps = ops.cast(numbers, "uint32") * ops.cast(0x9E3779B9, "uint32")
    bits = _mix(_mix(_wrapped(seeds[:, None] + steps)))
    return ops.cast(ops.right_shift(bits, 8), "float32") * (1.0 / 2**24)
