"""What the RPN should say about a sample of the anchors."""

from keras import ops

from fpn_tf.geometry.box_ops import encode_deltas
from fpn_tf.geometry.selection import gather_rows
from fpn_tf.structures import RPNTargets
from fpn_tf.targets.matcher import match
from fpn_tf.targets.sampler import sample


def assign_rpn_targets(anchors, gt, noise, config):
    """Matches, samples and encodes.

    Args:
        anchors: [N, 4], all levels. Those that cross the border take part (FPN paper, sec. 4.1).
        gt: GroundTruth.
        noise: [B, N] float32.
        config: RPNConfig.

    Returns:
        RPNTargets of `config.samples` entries.
    """
    gt_index, labels = match(
        anchors, gt.boxes, gt.valid, config.foreground_iou, config.background_iou, keep_best=True
    )
    drawn = sample(labels, noise, config.samples, config.foreground_fraction)
    sampled_anchors = ops.take(anchors, drawn.indices, axis=0)
    sampled_gt = gather_rows(gt.boxes, gather_rows(gt_index, drawn.indices))
    return RPNTargets(
        indices=drawn.indices,
        labels=ops.cast(drawn.foreground, "float32"),
        deltas=encode_deltas(sampled_gt, sampled_anchors, config.box_weights),
        valid=drawn.valid,
    )
