"""From the RPN's outputs to proposals. Nothing here is learned, no gradient flows."""

from keras import ops

from fpn_tf.geometry.box_ops import clip_boxes, decode_deltas
from fpn_tf.geometry.nms import nms
from fpn_tf.geometry.selection import best_rows, gather_rows
from fpn_tf.structures import Proposals


def decode_proposals(rpn, image_sizes, pre_nms, post_nms, config):
    """The best boxes of the RPN: top-k per level, NMS per level, top-k of all.

    Args:
        rpn: RPNOutputs.
        image_sizes: [B, 2] (height, width) of the image inside its canvas.
        pre_nms: boxes that enter NMS, per level.
        post_nms: P, boxes that leave, per image.
        config: RPNConfig.

    Returns:
        Proposals, clipped to the image, with an area and sides >= config.min_size. (Detectron2's
        order of steps.)
    """
    deltas, anchors, logits, there, numbers, before = [], [], [], [], [], 0
    for name, level_logits in rpn.logits.items():
        level_logits = ops.stop_gradient(level_logits)
        values, indices, exist = best_rows(level_logits, pre_nms)
        deltas.append(gather_rows(ops.stop_gradient(rpn.deltas[name]), indices))
        anchors.append(ops.take(rpn.anchors[name], indices, axis=0))
        logits.append(values)
        there.append(exist)
        numbers.append(indices + before)  # among the anchors of all levels
        before = before + ops.shape(level_logits)[1]

    levels = len(logits)
    # [B, L, k, ...]
    deltas, anchors, logits, there, numbers = (
        ops.stack(x, axis=1) for x in (deltas, anchors, logits, there, numbers)
    )
    boxes = clip_boxes(decode_deltas(deltas, anchors, config.box_weights), image_sizes)
    sides = boxes[..., 2:] - boxes[..., :2]
    valid = there & ops.all((sides > 0) & (sides >= config.min_size), axis=-1)

    # NMS runs on [B*L, k]: levels are rows of their own, as images are.
    rows = (ops.reshape(x, [-1, pre_nms, *x.shape[3:]]) for x in (boxes, logits, valid))
    survivors = min(pre_nms, post_nms)
    indices, kept = nms(*rows, config.nms_threshold, survivors)
    # [B*L, S] -> [B, L*S], as indices into [B, L*k]
    shift = ops.reshape(ops.arange(levels, dtype="int32") * pre_nms, [1, levels, 1])
    indices = ops.reshape(ops.reshape(indices, [-1, levels, survivors]) + shift, [-1, levels * survivors])
    kept = ops.reshape(kept, [-1, levels * survivors])

    boxes = gather_rows(ops.reshape(boxes, [-1, levels * pre_nms, 4]), indices)
    logits, numbers = (
        gather_rows(ops.reshape(x, [-1, levels * pre_nms]), indices) for x in (logits, numbers)
    )
    values, best, there = best_rows(ops.where(kept, logits, -3e38), post_nms)
    valid = there & gather_rows(kept, best)
    boxes = ops.where(valid[..., None], gather_rows(boxes, best), 0.0)
    return Proposals(boxes, ops.where(valid, values, 0.0), valid, gather_rows(numbers, best))
