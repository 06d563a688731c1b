"""From the box head's outputs to detections."""

from keras import ops

from fpn_tf.geometry.box_ops import clip_boxes, decode_deltas
from fpn_tf.geometry.nms import class_wise_nms
from fpn_tf.geometry.selection import gather_rows
from fpn_tf.structures import BatchDetections


def decode_detections(
    logits, deltas, proposals, image_sizes, box_weights, score_threshold, nms_threshold, max_detections
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

    Returns:
        BatchDetections, boxes clipped to the image.
    """
    classes = deltas.shape[2]
    count = ops.shape(deltas)[1] * classes
    scores = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., 1:]
    boxes = decode_deltas(deltas, proposals.boxes[:, :, None, :], box_weights)
    # [B, P, K, ...] -> [B, P*K, ...]
    boxes = clip_boxes(ops.reshape(boxes, [-1, count, 4]), image_sizes)
    valid = ops.reshape((scores > score_threshold) & proposals.valid[..., None], [-1, count])
    scores = ops.reshape(scores, [-1, count])
    labels = ops.broadcast_to(ops.arange(count, dtype="int32") % classes, ops.shape(scores))
    indices, kept = class_wise_nms(boxes, scores, labels, valid, nms_threshold, max_detections)
    return BatchDetections(
        boxes=ops.where(kept[..., None], gather_rows(boxes, indices), 0.0),
        scores=ops.where(kept, gather_rows(scores, indices), 0.0),
        classes=ops.where(kept, indices % classes + 1, 0),
        valid=kept,
    )
