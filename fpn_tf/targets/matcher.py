"""Which ground truth does a box stand for, if any?"""

from keras import ops

from fpn_tf.geometry.box_ops import pairwise_iou

FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1


def match(boxes, gt_boxes, gt_valid, foreground_iou, background_iou, keep_best):
    """Labels boxes by their best overlap with a ground truth.

    Args:
        boxes: [B, N, 4] or [N, 4] (the same for every image).
        gt_boxes: [B, G, 4], G >= 1 (padding will do).
        gt_valid: [B, G] bool.
        foreground_iou: from this IoU on a box is foreground.
        background_iou: below this IoU it is background; between the two it is ignored.
        keep_best: also make the best box of every ground truth (all of them, on a tie)
            foreground, whatever its IoU above 0 (Faster R-CNN, sec. 3.1.2).

    Returns:
        (gt_index [B, N] int32, the ground truth of highest IoU; labels [B, N] int32, 1 foreground,
        0 background, -1 ignored). Without ground truth everything is background.
    """
    iou = ops.where(gt_valid[:, None, :], pairwise_iou(boxes, gt_boxes), 0.0)  # [B, N, G]
    best = ops.max(iou, axis=2)
    gt_index = ops.cast(ops.argmax(iou, axis=2), "int32")
    labels = ops.where(best < background_iou, BACKGROUND, IGNORED)
    labels = ops.where(best >= foreground_iou, FOREGROUND, labels)
    if keep_best:
        best_of_gt = ops.max(iou, axis=1, keepdims=True)
        is_best = ops.any((iou == best_of_gt) & (iou > 0), axis=2)
        labels = ops.where(is_best, FOREGROUND, labels)
    return gt_index, ops.cast(labels, "int32")
