"""Which ground truth does a box stand for, if any?"""

from keras import ops

from fpn_tf.geometry.box_ops import pairwise_iou

FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1
TOGETHER = 8
"""Ground truths that all boxes are compared with at a time, so that a crowded photo needs no more
memory than another (a quarter of a million anchors with 500 objects: 0.2 instead of 6.8 GB)."""


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
    images, count = ops.shape(gt_boxes)[:2]
    together = min(count, TOGETHER) if isinstance(count, int) else ops.minimum(count, TOGETHER)
    shape = (images, ops.shape(boxes)[-2])

    def match_some(i, best, gt_index, is_best):
        first = ops.minimum(i * together, count - together)  # the last few may come up twice
        some = ops.slice(gt_boxes, (0, first, 0), (images, together, 4))
        valid = ops.slice(gt_valid, (0, first), (images, together))
        iou = ops.where(valid[..., None], pairwise_iou(some, boxes), 0.0)  # [B, together, N]
        highest = ops.max(iou, axis=1)
        which = first + ops.cast(ops.argmax(iou, axis=1), "int32")
        if keep_best:
            of_gt = ops.max(iou, axis=2, keepdims=True)
            is_best = is_best | ops.any((iou == of_gt) & (iou > 0), axis=1)
        return i + 1, ops.maximum(best, highest), ops.where(highest > best, which, gt_index), is_best

    start = (0, ops.zeros(shape), ops.zeros(shape, "int32"), ops.zeros(shape, "bool"))
    _, best, gt_index, is_best = ops.while_loop(lambda i, *_: i * together < count, match_some, start)
    labels = ops.where(best < background_iou, BACKGROUND, IGNORED)
    labels = ops.where((best >= foreground_iou) | is_best, FOREGROUND, labels)
    return gt_index, ops.cast(labels, "int32")
