"""Parameters, multiply-adds and anchors of every row of the paper's tables.

    python -m experiments.paper.costs

Multiply-adds are those of convolutions and matrix products on one image of 800 x 1024, with 1000
proposals; anchors those on an image of 800 x 1000, as the paper counts them.
"""

import functools
import math

import rich.box
import rich.table
import tensorflow as tf
from absl import app

from experiments.paper.recipes import ROWS, config_of
from fpn_tf import config as config_lib
from fpn_tf.benchmark import gflop
from fpn_tf.models.faster_rcnn import make_model
from fpn_tf.training.progress import console

CANVAS, PHOTO, PROPOSALS = (800, 1024), (800, 1000), 1000


def anchor_count(config, size):
    """The anchors of a config's RPN on an image of (height, width)."""
    levels = config_lib.PYRAMIDS[config.model.pyramid]
    cells = sum(math.ceil(size[0] / 2**k) * math.ceil(size[1] / 2**k) for k in levels)
    return cells * config.model.anchors_per_cell


def costs(config):
    """(millions of parameters, those of them that learn, 10^9 multiply-adds of detection)."""
    model = make_model(config_lib.replace(config, **{"model.num_classes": config.model.num_classes or 80}))

    def work(function, *shapes):
        specs = [tf.TensorSpec(shape) for shape in shapes]
        return gflop(tf.function(function, autograph=False).get_concrete_function(*specs)) / 2

    maps = tf.function(lambda x: model.fpn(model.backbone(x)), autograph=False)
    image = tf.TensorSpec((1, *CANVAS, 3))
    total = gflop(maps.get_concrete_function(image)) / 2
    shapes = maps.get_concrete_function(image).structured_outputs
    heads = [model.rpn_head] if hasattr(model, "rpn_head") else getattr(model, "mask_heads", [])
    for head in heads:
        call = functools.partial(_on_levels, head, list(shapes))
        total += work(call, *(feature.shape for feature in shapes.values()))
    if config.model.kind == "mask_proposals":
        mask = config.model.mask
        cells = sum(window**2 for window in mask.windows) * model.map_channels
        total += PROPOSALS * mask.hidden_units * (cells + len(heads) * (1 + mask.mask_size**2)) / 1e9
    if hasattr(model, "box_head"):
        size = config.model.roi.pool_size
        total += work(model.box_head, (1, PROPOSALS, size, size, model.map_channels))
    learned = sum(math.prod(v.shape) for v in model.trainable_variables)
    return model.count_params() / 1e6, learned / 1e6, total


def _on_levels(head, names, *maps):
    return head(dict(zip(names, maps)))


def main(arguments):
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    table = rich.table.Table("row", "parameters", "learned", "multiply-adds", "anchors", box=rich.box.SIMPLE)
    for row in ROWS:
        config = config_of(row)
        parameters, learned, work = costs(config)
        anchors = f"{anchor_count(config, PHOTO):,}" if config.model.kind == "rpn" else ""
        table.add_row(row, f"{parameters:.1f} M", f"{learned:.1f} M", f"{work:.1f} G", anchors)
    console.print(table)


if __name__ == "__main__":
    app.run(main)
