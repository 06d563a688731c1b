"""Non-maximum suppression, one function with a kernel per backend.

TensorFlow runs its own C++/CUDA kernel; elsewhere an exact version made of `keras.ops` runs,
which compiles (static shapes, no scalar loop). Both are greedy NMS as torchvision defines it:
boxes are taken by falling score (ties: lower index first), and one is dropped if its IoU with a
box taken before is ABOVE the threshold.
"""

import keras
from keras import ops

from fpn_tf.geometry.box_ops import pairwise_iou

CHUNK = 2048
"""Boxes whose IoU matrix the keras.ops kernel holds at once: 16 MB a row of the batch."""


def nms(boxes, scores, valid, iou_threshold, max_output):
    """Greedy NMS on every row of a batch.

    Args:
        boxes: [B, N, 4].
        scores: [B, N].
        valid: [B, N] bool; other boxes take no part.
        iou_threshold: float.
        max_output: int, the most boxes to keep in a row.

    Returns:
        (indices [B, max_output] int32 into N by falling score, kept [B, max_output] bool).
        Where `kept` is False the index is 0.
    """
    boxes, scores = ops.cast(boxes, "float32"), ops.cast(scores, "float32")
    if keras.config.backend() == "tensorflow":
        from fpn_tf.geometry import tf_kernels

        return tf_kernels.nms(boxes, scores, valid, iou_threshold, max_output)
    return nms_by_chunks(boxes, scores, valid, iou_threshold, max_output)


def class_wise_nms(boxes, scores, classes, valid, iou_threshold, max_output):
    """NMS in which boxes of different classes leave each other alone.

    Each class is moved to a region of its own, then one `nms` serves all (torchvision's
    `batched_nms`). Arguments as `nms`, with `classes` [B, N] of any integer dtype.
    """
    boxes = ops.cast(boxes, "float32")
    extent = ops.max(ops.where(valid[..., None], boxes, 0), axis=(1, 2)) + 1  # [B]
    offsets = ops.cast(classes, "float32") * extent[:, None]
    return nms(boxes + offsets[..., None], scores, valid, iou_threshold, max_output)


def nms_by_chunks(boxes, scores, valid, iou_threshold, max_output, chunk=CHUNK):
    """`nms` made of `keras.ops`; exact for any N.

    Boxes are sorted and taken a chunk at a time. What an earlier chunk kept suppresses first;
    inside the chunk the greedy result is the fixed point of "kept, unless overlapped by a kept
    box of higher score", reached in a few rounds because each settles at least one more box.
    The loop ends when every row is full, so that later (worse) boxes cost nothing.
    """
    rows, count = boxes.shape[0], boxes.shape[1]
    chunk = min(chunk, count)
    padded = -(-count // chunk) * chunk
    order = ops.argsort(ops.where(valid, -scores, float("inf")), axis=1)  # stable
    order = ops.pad(ops.cast(order, "int32"), [[0, 0], [0, padded - count]])
    live = ops.take_along_axis(valid, order, axis=1) & (ops.arange(padded) < count)
    sorted_boxes = ops.take_along_axis(boxes, order[..., None], axis=1)

    def chunk_of(x, start):
        return ops.slice(x, [0, start] + [0] * (len(x.shape) - 2), [rows, chunk, *x.shape[2:]])

    def more_to_do(start, kept_count, indices, kept_boxes):
        return ops.logical_and(start < padded, ops.any(kept_count < max_output))

    def take_chunk(start, kept_count, indices, kept_boxes):
        candidates, index = chunk_of(sorted_boxes, start), chunk_of(order, start)
        taken = ops.arange(max_output) < kept_count[:, None]  # [B, M]
        beaten = pairwise_iou(candidates, kept_boxes) > iou_threshold
        alive = chunk_of(live, start) & ~ops.any(beaten & taken[:, None, :], axis=2)
        kept = _fixed_point(candidates, alive, iou_threshold)
        # Output slot m takes the kept candidate whose running number is m.
        number = kept_count[:, None] + ops.cumsum(ops.cast(kept, "int32"), 1) - 1
        takes = kept[:, None, :] & (number[:, None, :] == ops.arange(max_output)[:, None])
        filled, source = ops.any(takes, axis=2), ops.argmax(takes, axis=2)  # [B, M]
        indices = ops.where(filled, ops.take_along_axis(index, source, axis=1), indices)
        new_boxes = ops.take_along_axis(candidates, source[..., None], axis=1)
        kept_boxes = ops.where(filled[..., None], new_boxes, kept_boxes)
        kept_count = ops.minimum(kept_count + ops.sum(ops.cast(kept, "int32"), 1), max_output)
        return start + chunk, kept_count, indices, kept_boxes

    start = ops.convert_to_tensor(0, "int32")
    none = ops.zeros([rows], "int32")
    state = (start, none, ops.zeros([rows, max_output], "int32"), ops.zeros([rows, max_output, 4]))
    _, kept_count, indices, _ = ops.while_loop(more_to_do, take_chunk, state)
    return indices, ops.arange(max_output) < kept_count[:, None]


def _fixed_point(boxes, alive, iou_threshold):
    """Greedy survivors among score-sorted `boxes` [B, M, 4], of those `alive` [B, M]."""
    rank = ops.arange(boxes.shape[1])
    overlaps = (pairwise_iou(boxes, boxes) > iou_threshold) & (rank[:, None] < rank[None, :])

    def changed(kept, before):
        return ops.any(kept != before)

    def suppress(kept, before):
        return alive & ~ops.any(overlaps & kept[:, :, None], axis=1), kept

    kept, _ = ops.while_loop(changed, suppress, suppress(alive, alive))
    return kept
