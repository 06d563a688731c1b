"""`nms` made of `keras.ops`, many boxes at a time: for backends whose compilers want static shapes."""

from keras import ops

from fpn_tf.geometry.boxes import pairwise_iou

CHUNK = 2048
"""Boxes whose IoU matrix is held at once: 16 MB."""


def nms(boxes, scores, valid, iou_threshold, max_output, chunk=CHUNK):
    """See `fpn_tf.geometry.selection.nms`; the same boxes, for any N.

    Boxes are sorted and taken a chunk at a time. What an earlier chunk kept suppresses first; inside the
    chunk the greedy result is a fixed point, see `_survivors`. The loop ends when the row is full, so that
    later (worse) boxes cost nothing.
    """
    boxes, scores = ops.cast(boxes, "float32"), ops.cast(scores, "float32")
    chunk = min(chunk, boxes.shape[1])

    def one_row(row):
        return _nms_of_row(*row, iou_threshold, max_output, chunk)

    return ops.map(one_row, (boxes, scores, valid))


def _nms_of_row(boxes, scores, valid, iou_threshold, max_output, chunk):
    """`nms` of boxes [N, 4], scores [N], valid [N] -> (indices [M], kept [M])."""
    order, alive = _by_falling_score(scores, valid, chunk)  # [N'], N' a multiple of the chunk
    sorted_boxes = ops.take(boxes, order, axis=0)  # [N', 4]
    slots = ops.arange(max_output, dtype="int32")  # of the output, [M]

    def unfinished(start, count, indices, kept_boxes):
        return ops.logical_and(start < order.shape[0], count < max_output)

    def take_chunk(start, count, indices, kept_boxes):
        candidates = ops.slice(sorted_boxes, [start, 0], [chunk, 4])
        candidate_indices, candidate_alive = (ops.slice(x, [start], [chunk]) for x in (order, alive))
        overlaps = pairwise_iou(candidates, kept_boxes) > iou_threshold  # [chunk, M]
        beaten = ops.any(overlaps & (slots < count), axis=1)
        survives = _survivors(candidates, candidate_alive & ~beaten, iou_threshold)
        # The slot of each survivor is its running number: [M, chunk], at most one True in a line.
        slot = count + ops.cumsum(ops.cast(survives, "int32")) - 1
        fills = survives & (slot == slots[:, None])
        is_filled, source = ops.any(fills, axis=1), ops.argmax(fills, axis=1)
        indices = ops.where(is_filled, ops.take(candidate_indices, source), indices)
        kept_boxes = ops.where(is_filled[:, None], ops.take(candidates, source, axis=0), kept_boxes)
        count = ops.minimum(count + ops.sum(ops.cast(survives, "int32")), max_output)
        return start + chunk, count, indices, kept_boxes

    zero = ops.convert_to_tensor(0, "int32")
    nothing_kept = (zero, zero, ops.zeros([max_output], "int32"), ops.zeros([max_output, 4], "float32"))
    _, count, indices, _ = ops.while_loop(unfinished, take_chunk, nothing_kept)
    return indices, slots < count


def _by_falling_score(scores, valid, chunk):
    """(order [N'] int32 of the boxes, valid ones first; which of them are valid [N']), N' whole chunks."""
    count = scores.shape[0]
    padded = -(-count // chunk) * chunk
    order = ops.argsort(ops.where(valid, -scores, float("inf")))  # stable: ties by lower index
    order = ops.pad(ops.cast(order, "int32"), [[0, padded - count]])
    return order, ops.take(valid, order) & (ops.arange(padded, dtype="int32") < count)


def _survivors(boxes, alive, iou_threshold):
    """Greedy survivors [M] bool among score-sorted `boxes` [M, 4], of those `alive` [M].

    They are the fixed point of "alive, unless overlapped by a survivor of higher score", reached in a few
    rounds, because each settles at least one more box.
    """
    rank = ops.arange(boxes.shape[0], dtype="int32")
    beats = (pairwise_iou(boxes, boxes) > iou_threshold) & (rank[:, None] < rank)

    def changed(survives, before):
        return ops.any(survives != before)

    def one_round(survives, before):
        return alive & ~ops.any(beats & survives[:, None], axis=0), survives

    survives, _ = ops.while_loop(changed, one_round, one_round(alive, alive))
    return survives
