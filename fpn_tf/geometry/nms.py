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
"""Boxes whose IoU matrix the keras.ops kernel holds at once: 16 MB."""


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


def nms_by_chunks(boxes, scores, valid, iou_threshold, max_output, chunk=CHUNK):
    """`nms` made of `keras.ops`, a row at a time; exact for any N.

    Boxes are sorted and taken a chunk at a time. What an earlier chunk kept suppresses first;
    inside the chunk the greedy result is the fixed point of "kept, unless overlapped by a kept
    box of higher score", reached in a few rounds because each settles at least one more box.
    The loop ends when the row is full, so that later (worse) boxes cost nothing.
    """
    count = boxes.shape[1]
    chunk = min(chunk, count)
    padded = -(-count // chunk) * chunk

    def one_row(row):
        boxes, scores, valid = row
        order = ops.argsort(ops.where(valid, -scores, float("inf")))  # stable
        order = ops.pad(ops.cast(order, "int32"), [[0, padded - count]])
        live = ops.take(valid, order) & (ops.arange(padded) < count)
        sorted_boxes = ops.take(boxes, order, axis=0)

        def more_to_do(start, kept_count, indices, kept_boxes):
            return ops.logical_and(start < padded, kept_count < max_output)

        def take_chunk(start, kept_count, indices, kept_boxes):
            candidates = ops.slice(sorted_boxes, [start, 0], [chunk, 4])
            index, alive = (ops.slice(x, [start], [chunk]) for x in (order, live))
            taken = ops.arange(max_output) < kept_count
            beaten = pairwise_iou(candidates, kept_boxes) > iou_threshold  # [chunk, M]
            kept = _fixed_point(candidates, alive & ~ops.any(beaten & taken, axis=1), iou_threshold)
            # Output slot m takes the kept candidate whose running number is m.
            number = kept_count + ops.cumsum(ops.cast(kept, "int32")) - 1
            takes = kept & (number == ops.arange(max_output)[:, None])  # [M, chunk]
            filled, source = ops.any(takes, axis=1), ops.argmax(takes, axis=1)
            indices = ops.where(filled, ops.take(index, source), indices)
            kept_boxes = ops.where(filled[:, None], ops.take(candidates, source, axis=0), kept_boxes)
            kept_count = ops.minimum(kept_count + ops.sum(ops.cast(kept, "int32")), max_output)
            return start + chunk, kept_count, indices, kept_boxes

        zero = ops.convert_to_tensor(0, "int32")
        state = (zero, zero, ops.zeros([max_output], "int32"), ops.zeros([max_output, 4]))
        _, kept_count, indices, _ = ops.while_loop(more_to_do, take_chunk, state)
        return indices, ops.arange(max_output) < kept_count

    return ops.map(one_row, (boxes, scores, valid))


def _fixed_point(boxes, alive, iou_threshold):
    """Greedy survivors among score-sorted `boxes` [M, 4], of those `alive` [M]."""
    rank = ops.arange(boxes.shape[0])
    overlaps = (pairwise_iou(boxes, boxes) > iou_threshold) & (rank[:, None] < rank)

    def changed(kept, before):
        return ops.any(kept != before)

    def suppress(kept, before):
        return alive & ~ops.any(overlaps & kept[:, None], axis=0), kept

    kept, _ = ops.while_loop(changed, suppress, suppress(alive, alive))
    return kept
