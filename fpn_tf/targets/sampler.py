"""A random, balanced draw of fixed size."""

from keras import ops

from fpn_tf.geometry.selection import best_rows, gather_rows
from fpn_tf.structures import Samples
from fpn_tf.targets.matcher import BACKGROUND, FOREGROUND


def sample(labels, noise, count, foreground_fraction):
    """Draws up to `count` boxes of every image: a share of foreground, the rest background.

    Args:
        labels: [B, N] int, 1 foreground, 0 background, -1 ignored.
        noise: [B, N] float32 in [0, 1): the draw is a pure function of it.
        count: S.
        foreground_fraction: foreground is drawn up to int(S * fraction); what it does not fill
            goes to background (torchvision's and Detectron2's rule).

    Returns:
        Samples of S entries; `valid` is False beyond what there was to draw.
    """
    most_foreground = int(count * foreground_fraction)

    def draw(wanted, number):
        _, indices, there = best_rows(ops.where(labels == wanted, noise, -1.0), number)
        return indices, there & (gather_rows(labels, indices) == wanted)

    bg_index, bg_valid = draw(BACKGROUND, count)
    if most_foreground == 0:
        return Samples(bg_index, ops.zeros_like(bg_valid), bg_valid)
    fg_index, fg_valid = draw(FOREGROUND, most_foreground)
    drawn = ops.sum(ops.cast(fg_valid, "int32"), axis=1, keepdims=True)
    bg_valid = bg_valid & (ops.arange(count) < count - drawn)

    indices = ops.concatenate([fg_index, bg_index], axis=1)
    valid = ops.concatenate([fg_valid, bg_valid], axis=1)
    foreground = ops.concatenate([fg_valid, ops.zeros_like(bg_valid)], axis=1)
    # Of the S + most_foreground entries at most S are valid: bring those to the front, in order.
    rank = ops.arange(count + most_foreground)
    _, front, _ = best_rows(ops.cast(ops.where(valid, -rank, -rank - 2 * count), "float32"), count)
    return Samples(*(gather_rows(x, front) for x in (indices, foreground, valid)))
