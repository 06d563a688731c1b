"""Which RoIs the box head learns from, and what it should say about them."""

from keras import ops

from fpn_tf.geometry.box_ops import encode_deltas
from fpn_tf.geometry.selection import gather_rows
from fpn_tf.structures import ROITargets
from fpn_tf.targets.matcher import match
from fpn_tf.targets.sampler import sample


def sample_rois(proposals, gt, noise, config):
    """Samples RoIs from the proposals and the ground truth itself.

    Args:
        proposals: Proposals.
        gt: GroundTruth; its boxes join the proposals, so that there is foreground from the start.
        noise: [B, P + G] float32.
        config: ROIConfig.

    Returns:
        ROITargets of `config.samples` entries.
    """
    boxes = ops.concatenate([proposals.boxes, gt.boxes], axis=1)
    there = ops.concatenate([proposals.valid, gt.valid], axis=1)
    gt_index, labels = match(
        boxes, gt.boxes, gt.valid, config.foreground_iou, config.foreground_iou, keep_best=False
    )
    labels = ops.where(there, labels, -1)
    drawn = sample(labels, noise, config.samples, config.foreground_fraction)
    rois = gather_rows(boxes, drawn.indices)
    sampled_gt = gather_rows(gt_index, drawn.indices)
    classes = gather_rows(gt.classes, sampled_gt)
    return ROITargets(
        rois=rois,
        classes=ops.where(drawn.foreground, ops.cast(classes, "int32"), 0),
        deltas=encode_deltas(gather_rows(gt.boxes, sampled_gt), rois, config.box_weights),
        valid=drawn.valid,
    )
