"""Predictions and targets -> scalars, all float32.

Each image's terms are divided by the number of that image's samples, then images are averaged; so a
batch split over replicas or micro-batches gives the same loss. Differs from
- Detectron2's RPN, which divides by the quota times the images (`batch_size_per_image` * images), however
  many samples were drawn;
- torchvision's RPN and both box heads, which divide by the samples of the whole batch.
All are the same wherever every image fills its quota, which all but the smallest do.
"""

from keras import ops

from fpn_tf.geometry.selection import gather_rows, sizes_of


def mean_per_image(values, valid):
    """Mean over images of (sum of the valid values / number of valid entries, at least 1).

    Args:
        values: [B, S] float32.
        valid: [B, S] bool.
    """
    valid = ops.cast(valid, "float32")
    count = ops.maximum(ops.sum(valid, axis=1), 1.0)
    return ops.mean(ops.sum(values * valid, axis=1) / count)


def smooth_l1(predictions, targets, beta):
    """Huber-like loss summed over the four deltas: [..., 4] -> [...]; plain L1 where beta is 0.

    Below `beta` it is d^2 / (2 beta), above it |d| - beta / 2 (Fast R-CNN, eq. 3).
    """
    distance = ops.abs(predictions - targets)
    if beta > 0:
        distance = ops.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)
    return ops.sum(distance, axis=-1)


def binary_cross_entropy(logits, labels):
    """Cross entropy of labels 0 or 1, entry by entry: in the log(1 + e^-|x|) form, finite for any logit."""
    return ops.maximum(logits, 0) - logits * labels + ops.softplus(-ops.abs(logits))


def rpn_losses(logits, deltas, targets, beta):
    """Losses of the RPN's outputs at the sampled anchors.

    Args:
        logits: [B, S] float32.
        deltas: [B, S, 4] float32.
        targets: RPNTargets.
        beta: of the smooth L1.

    Returns:
        (rpn_objectness_loss, rpn_box_loss), scalars.
    """
    cross_entropy = binary_cross_entropy(logits, targets.labels)
    distance = smooth_l1(deltas, targets.deltas, beta) * targets.labels
    return mean_per_image(cross_entropy, targets.valid), mean_per_image(distance, targets.valid)


def head_losses(logits, deltas, targets, beta):
    """Losses of the box head's outputs at the sampled RoIs.

    Args:
        logits: [B, R, K+1] float32.
        deltas: [B, R, K, 4] float32; only those of the RoI's class count.
        targets: ROITargets.
        beta: of the smooth L1.

    Returns:
        (head_class_loss, head_box_loss), scalars.
    """
    log_scores = ops.log_softmax(logits, axis=-1)
    foreground = targets.classes > 0
    _, rois, classes, _ = sizes_of(deltas)
    roi = ops.arange(rois, dtype="int32")
    # [B, R, K+1] -> [B, R*(K+1)], [B, R, K, 4] -> [B, R*K, 4]: of each RoI's class, [B, R] and [B, R, 4]
    score_rows = roi * (classes + 1) + targets.classes
    cross_entropy = -gather_rows(ops.reshape(log_scores, [-1, rois * (classes + 1)]), score_rows)
    delta_rows = roi * classes + ops.maximum(targets.classes - 1, 0)
    deltas_of_class = gather_rows(ops.reshape(deltas, [-1, rois * classes, 4]), delta_rows)
    distance = smooth_l1(deltas_of_class, targets.deltas, beta) * ops.cast(foreground, "float32")
    return mean_per_image(cross_entropy, targets.valid), mean_per_image(distance, targets.valid)


def segment_losses(scores, segments, targets):
    """Losses of segment heads at the sampled windows.

    Args:
        scores: [B, S] float32.
        segments: [B, S, M, M] float32.
        targets: SegmentTargets.

    Returns:
        (segment_score_loss over all samples, segment_loss over the pixels of foreground), scalars.
    """
    score_loss = mean_per_image(binary_cross_entropy(scores, targets.labels), targets.valid)
    of_pixels = ops.mean(binary_cross_entropy(segments, targets.segments), axis=(2, 3))  # [B, S]
    return score_loss, mean_per_image(of_pixels, targets.valid & (targets.labels > 0))
