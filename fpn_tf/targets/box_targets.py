"""Ground truth meets boxes: the label of every box, the draw of those that the losses see, their targets."""

from keras import ops

from fpn_tf.geometry.boxes import encode_deltas, pairwise_iou
from fpn_tf.geometry.selection import best_rows, gather_rows, sizes_of
from fpn_tf.structures import GroundTruth, ROITargets, RPNTargets, Samples

FOREGROUND, BACKGROUND, IGNORED = 1, 0, -1
GT_CHUNK = 8
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

    Differs from Detectron2, where with `keep_best` a ground truth that overlaps no box at all, such as one
    without area, has the highest IoU 0 with every box and makes all of them foreground: 256 anchors are then
    drawn from anywhere and sent to it. Here it claims none, as in torchvision, which drops it beforehand.
    """
    images, count, _ = sizes_of(gt_boxes)
    chunk = min(count, GT_CHUNK) if isinstance(count, int) else ops.minimum(count, GT_CHUNK)
    shape = (images, sizes_of(boxes)[-2])

    def iou_of_chunk(first):
        """[B, chunk, N], of the ground truths from `first` on; 0 where they are padding."""
        chunk_boxes = ops.slice(gt_boxes, (0, first, 0), (images, chunk, 4))
        valid = ops.slice(gt_valid, (0, first), (images, chunk))
        return ops.where(valid[..., None], pairwise_iou(chunk_boxes, boxes), 0.0)

    def match_chunk(i, highest, gt_index, is_best):
        # The last few may come up twice. Of two Python numbers Keras would make one of floatx' width.
        first = ops.cast(ops.minimum(i * chunk, count - chunk), "int32")
        iou = iou_of_chunk(first)
        chunk_highest = ops.max(iou, axis=1)  # [B, N]
        chunk_index = first + ops.cast(ops.argmax(iou, axis=1), "int32")
        gt_index = ops.where(chunk_highest > highest, chunk_index, gt_index)
        if keep_best:
            is_best = is_best | _is_best_of_any(iou)
        return i + 1, ops.maximum(highest, chunk_highest), gt_index, is_best

    nothing = (0, ops.zeros(shape, "float32"), ops.zeros(shape, "int32"), ops.zeros(shape, "bool"))
    _, highest, gt_index, is_best = ops.while_loop(lambda i, *_: i * chunk < count, match_chunk, nothing)
    labels = ops.where(highest < background_iou, BACKGROUND, IGNORED)
    labels = ops.where((highest >= foreground_iou) | is_best, FOREGROUND, labels)
    return gt_index, ops.cast(labels, "int32")


def _is_best_of_any(iou):
    """[B, G, N] -> [B, N], whether no box has a higher IoU with one of the ground truths."""
    best_of_gt = ops.max(iou, axis=2, keepdims=True)
    return ops.any((iou == best_of_gt) & (iou > 0), axis=1)


def sample(labels, noise, count, foreground_fraction):
    """Draws up to `count` boxes of every image: a share of foreground, the rest background.

    Args:
        labels: [B, N] int, 1 foreground, 0 background, -1 ignored.
        noise: [B, N] float32 in [0, 1): the draw is a pure function of it.
        count: S.
        foreground_fraction: foreground is drawn up to int(S * fraction); what it does not fill
            goes to background (torchvision's and Detectron2's rule).

    Returns:
        Samples of S entries; `valid` is False where an image has no more boxes to draw.
    """
    most_foreground = int(count * foreground_fraction)

    def draw(wanted, number):
        _, indices, exists = best_rows(ops.where(labels == wanted, noise, -1.0), number)
        return indices, exists & (gather_rows(labels, indices) == wanted)

    bg_index, bg_valid = draw(BACKGROUND, count)
    if most_foreground == 0:
        return Samples(bg_index, ops.zeros_like(bg_valid), bg_valid)
    fg_index, fg_valid = draw(FOREGROUND, most_foreground)
    drawn = ops.sum(ops.cast(fg_valid, "int32"), axis=1, keepdims=True)
    bg_valid = bg_valid & (ops.arange(count, dtype="int32") < count - drawn)

    indices = ops.concatenate([fg_index, bg_index], axis=1)
    valid = ops.concatenate([fg_valid, bg_valid], axis=1)
    foreground = ops.concatenate([fg_valid, ops.zeros_like(bg_valid)], axis=1)
    # Of the S + most_foreground entries at most S are valid: bring those to the front, in order.
    rank = ops.arange(count + most_foreground, dtype="int32")
    _, front, _ = best_rows(ops.cast(ops.where(valid, -rank, -rank - 2 * count), "float32"), count)
    return Samples(*(gather_rows(x, front) for x in (indices, foreground, valid)))


def assign_rpn_targets(
    anchors, gt, noise, *, foreground_iou, background_iou, samples, foreground_fraction, box_weights
):
    """Matches anchors with the ground truth, samples them and encodes what they should become.

    Args:
        anchors: [N, 4], all levels. Those that cross the border take part (FPN paper, sec. 4.1).
        gt: GroundTruth.
        noise: [B, N] float32, see `sample`.
        foreground_iou, background_iou: see `match`.
        samples: S, anchors to draw of each image.
        foreground_fraction: see `sample`.
        box_weights: four factors of the deltas, see `fpn_tf.geometry.boxes.encode_deltas`.

    Returns:
        RPNTargets of S entries.
    """
    gt_index, labels = match(anchors, gt.boxes, gt.valid, foreground_iou, background_iou, keep_best=True)
    drawn = sample(labels, noise, samples, foreground_fraction)
    sampled_anchors = ops.take(anchors, drawn.indices, axis=0)
    sampled_gt = gather_rows(gt.boxes, gather_rows(gt_index, drawn.indices))
    return RPNTargets(
        indices=drawn.indices,
        labels=ops.cast(drawn.foreground, "float32"),
        deltas=encode_deltas(sampled_gt, sampled_anchors, box_weights),
        valid=drawn.valid,
    )


def sample_rois(proposals, gt, noise, *, foreground_iou, samples, foreground_fraction, box_weights):
    """Samples RoIs from the proposals and the ground truth itself.

    Args:
        proposals: Proposals.
        gt: GroundTruth; its boxes join the proposals, so that foreground exists from the first step on.
        noise: [B, P + G] float32, see `sample`.
        foreground_iou: from this IoU on a box is foreground, below it background.
        samples: S, RoIs to draw of each image.
        foreground_fraction: see `sample`.
        box_weights: four factors of the deltas, see `fpn_tf.geometry.boxes.encode_deltas`.

    Returns:
        ROITargets of S entries.
    """
    boxes = ops.concatenate([proposals.boxes, gt.boxes], axis=1)
    valid = ops.concatenate([proposals.valid, gt.valid], axis=1)
    gt_index, labels = match(boxes, gt.boxes, gt.valid, foreground_iou, foreground_iou, keep_best=False)
    labels = ops.where(valid, labels, IGNORED)
    drawn = sample(labels, noise, samples, foreground_fraction)
    rois = gather_rows(boxes, drawn.indices)
    sampled_gt = gather_rows(gt_index, drawn.indices)
    classes = gather_rows(gt.classes, sampled_gt)
    return ROITargets(
        rois=rois,
        classes=ops.where(drawn.foreground, ops.cast(classes, "int32"), 0),
        deltas=encode_deltas(gather_rows(gt.boxes, sampled_gt), rois, box_weights),
        valid=drawn.valid,
        fields={name: gather_rows(values, sampled_gt) for name, values in gt.fields.items()},
    )


def ground_truth(y, truth_fields=()):
    """The GroundTruth in a batch's y.

    Args:
        y: {"boxes": [B, G, 4], "classes": [B, G], "valid": [B, G], ...}.
        truth_fields: names of what else y holds for each box.
    """
    fields = {name: ops.convert_to_tensor(y[name]) for name in truth_fields}
    valid = ops.convert_to_tensor(y["valid"])
    return GroundTruth(ops.cast(y["boxes"], "float32"), ops.cast(y["classes"], "int32"), valid, fields)
