"""From the box head's outputs to detections."""

from keras import ops

from fpn_tf.geometry.box_ops import clip_boxes, decode_deltas
from fpn_tf.geometry.nms import nms
from fpn_tf.geometry.selection import best_rows, gather_rows
from fpn_tf.structures import BatchDetections


def decode_detections(
    logits,
    deltas,
    proposals,
    image_sizes,
    box_weights,
    score_threshold,
    nms_threshold,
    max_detections,
    min_size=0.0,
):
    """Every (proposal, class) above the threshold, NMS within each class, the best of all.

    Args:
        logits: [B, P, K+1] float32, class 0 is background.
        deltas: [B, P, K, 4] float32.
        proposals: Proposals.
        image_sizes: [B, 2] (height, width).
        box_weights: factors of the deltas.
        score_threshold: a detection's softmax score must be above it.
        nms_threshold: IoU.
        max_detections: D.
        min_size: a detection's sides must be at least this, in pixels.

    Returns:
        BatchDetections, boxes clipped to the image.
    """
    count, classes = ops.shape(deltas)[1], deltas.shape[2]
    scores = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., 1:]  # [B, P, K]
    boxes = decode_deltas(deltas, proposals.boxes[:, :, None, :], box_weights)  # [B, P, K, 4]
    boxes = clip_boxes(boxes, image_sizes)
    large = ops.all(boxes[..., 2:] - boxes[..., :2] >= min_size, axis=-1)
    valid = (scores > score_threshold) & proposals.valid[..., None] & large

    def by_class(x):
        return ops.reshape(ops.swapaxes(x, 1, 2), [-1, count, *x.shape[3:]])  # [B, P, K] -> [B*K, P]

    # Every class is a row of its own: exact, where moving classes apart would round the boxes.
    indices, kept = nms(by_class(boxes), by_class(scores), by_class(valid), nms_threshold, max_detections)
    # [B*K, D] -> [B, K*D], as indices into [B, P*K]: ties go to the better proposal.
    label = ops.arange(classes, dtype="int32")[None, :, None]
    indices = ops.reshape(indices, [-1, classes, max_detections]) * classes + label
    indices = ops.reshape(indices, [-1, classes * max_detections])
    kept = ops.reshape(kept, [-1, classes * max_detections])
    order = ops.argsort(indices, axis=1)
    indices, kept = (ops.take_along_axis(x, order, axis=1) for x in (indices, kept))

    found = gather_rows(ops.reshape(scores, [-1, count * classes]), indices)
    values, best, there = best_rows(ops.where(kept, found, -1.0), max_detections)
    kept = there & gather_rows(kept, best)
    indices = gather_rows(indices, best)
    boxes = gather_rows(ops.reshape(boxes, [-1, count * classes, 4]), indices)
    return BatchDetections(
        boxes=ops.where(kept[..., None], boxes, 0.0),
        scores=ops.where(kept, values, 0.0),
        classes=ops.where(kept, indices % classes + 1, 0),
        valid=kept,
    )
