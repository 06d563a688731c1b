"""`nms` made of `keras.ops`, many boxes at a time: for backends whose compilers want static shapes."""

from keras import ops

from fpn_tf.geometry.boxes import pairwise_iou
from fpn_tf.geometry.selection import gather_rows

CHUNK = 2048
"""Boxes of a row whose IoU matrix is held at once: 16 MB."""


def nms(boxes, scores, valid, iou_threshold, max_output, chunk=CHUNK):
    """See `fpn_tf.geometry.selection.nms`; the same boxes, for any N.

    A row after the other, so that none of them waits for the slowest, nor memory grows with their number.
    """

    def one_row(row):
        row = (ops.expand_dims(x, 0) for x in row)
        return tuple(x[0] for x in nms_of_rows(*row, iou_threshold, max_output, chunk))

    return ops.map(one_row, (boxes, scores, valid))


def nms_of_rows(boxes, scores, valid, iou_threshold, max_output, chunk):
    """`nms` of all rows in step with each other.

    Boxes are sorted and taken a chunk at a time. What an earlier chunk kept suppresses first; inside the
    chunk the greedy result is a fixed point, see `_survivors`. The loop ends when every row is full, so that
    later (worse) boxes cost nothing.

    Args:
        boxes, scores, valid: [R, N, 4], [R, N], [R, N] as in `nms`.
        iou_threshold, max_output: as there; M boxes at most.
        chunk: boxes of a row whose IoU matrix is held at once.

    Returns:
        (indices [R, M] int32, kept [R, M] bool).
    """
    boxes, scores = ops.cast(boxes, "float32"), ops.cast(scores, "float32")
    rows, chunk = ops.shape(boxes)[0], min(chunk, boxes.shape[1])
    order, alive = _by_falling_score(scores, valid, chunk)  # [R, N'], N' a multiple of the chunk
    sorted_boxes = gather_rows(boxes, order)  # [R, N', 4]
    slots = ops.arange(max_output, dtype="int32")  # of the output, [M]

    def unfinished(start, counts, indices, kept_boxes):
        return ops.logical_and(start < order.shape[1], ops.any(counts < max_output))

    def take_chunk(start, counts, indices, kept_boxes):
        candidates = ops.slice(sorted_boxes, [0, start, 0], [rows, chunk, 4])
        candidate_indices, candidate_alive = (ops.slice(x, [0, start], [rows, chunk]) for x in (order, alive))
        overlaps = pairwise_iou(candidates, kept_boxes) > iou_threshold  # [R, chunk, M]
        beaten = ops.any(overlaps & (slots < counts[:, None])[:, None], axis=2)
        survives = _survivors(candidates, candidate_alive & ~beaten, iou_threshold)
        # The slot of each survivor is its running number: [R, M, chunk], at most one True in a line.
        slot = counts[:, None] + ops.cumsum(ops.cast(survives, "int32"), axis=1) - 1
        fills = (survives & (slot < max_output))[:, None] & (slot[:, None] == slots[:, None])
        is_filled, source = ops.any(fills, axis=2), ops.cast(ops.argmax(fills, axis=2), "int32")
        indices = ops.where(is_filled, gather_rows(candidate_indices, source), indices)
        kept_boxes = ops.where(is_filled[..., None], gather_rows(candidates, source), kept_boxes)
        counts = ops.minimum(counts + ops.sum(ops.cast(survives, "int32"), axis=1), max_output)
        return start + chunk, counts, indices, kept_boxes

    nothing_kept = (
        ops.convert_to_tensor(0, "int32"),
        ops.zeros([rows], "int32"),
        ops.zeros([rows, max_output], "int32"),
        ops.zeros([rows, max_output, 4], "float32"),
    )
    _, counts, indices, _ = ops.while_loop(unfinished, take_chunk, nothing_kept)
    return indices, slots < counts[:, None]


def _by_falling_score(scores, valid, chunk):
    """(order [R, N'] int32 of the boxes, valid ones first; which are valid [R, N']), N' whole chunks."""
    count = scores.shape[1]
    padded = -(-count // chunk) * chunk
    order = ops.argsort(ops.where(valid, -scores, float("inf")), axis=1)  # stable: ties by lower index
    order = ops.pad(ops.cast(order, "int32"), [[0, 0], [0, padded - count]])
    return order, gather_rows(valid, order) & (ops.arange(padded, dtype="int32") < count)


def _survivors(boxes, alive, iou_threshold):
    """Greedy survivors [R, N] bool among score-sorted `boxes` [R, N, 4], of those `alive` [R, N].

    They are the fixed point of "alive, unless overlapped by a survivor of higher score", reached in a few
    rounds, because each settles at least one more box.
    """
    rank = ops.arange(boxes.shape[1], dtype="int32")
    beats = (pairwise_iou(boxes, boxes) > iou_threshold) & (rank[:, None] < rank)  # [R, N, N]

    def changed(survives, before):
        return ops.any(survives != before)

    def one_round(survives, before):
        return alive & ~ops.any(beats & survives[..., None], axis=1), survives

    survives, _ = ops.while_loop(changed, one_round, one_round(alive, alive))
    return survives
