"""Parameters, multiply-adds and anchors of every row of the paper's tables.

    python -m experiments.paper.costs

Multiply-adds are those of convolutions and matrix products on one image of 800 x 1024, with 1000
proposals, without Winograd's algorithm; anchors those on an image of 800 x 1000, as the paper counts them.
"""

import functools
import math

import rich.box
import rich.table
import tensorflow as tf
from absl import app

from experiments.paper.recipes import ROWS, config_of
from fpn_tf import catalogue, kernels
from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.stage_times import gflop
from fpn_tf.training.progress import console

CANVAS, PHOTO, PROPOSALS = (800, 1024), (800, 1000), 1000


def anchor_count(config, size):
    """The anchors of a config's RPN on an image of (height, width)."""
    levels = catalogue.NECKS[config.model.neck]
    cells = sum(math.ceil(size[0] / 2**k) * math.ceil(size[1] / 2**k) for k in levels)
    return cells * config.model.anchors_per_cell


@kernels.plain()
def costs(config):
    """(millions of parameters, those of them that learn, 10^9 multiply-adds of detection)."""
    model = build(config_lib.replace(config, **{"model.num_classes": config.model.num_classes or 80}))

    def work(function, *shapes):
        specs = [tf.TensorSpec(shape) for shape in shapes]
        return gflop(tf.function(function, autograph=False).get_concrete_function(*specs)) / 2

    maps = tf.function(lambda x: model.neck(model.backbone(x)), autograph=False)
    image = tf.TensorSpec((1, *CANVAS, 3))
    total = gflop(maps.get_concrete_function(image)) / 2
    shapes = {name: x.shape for name, x in maps.get_concrete_function(image).structured_outputs.items()}
    channels = next(iter(shapes.values()))[-1]
    for head in _heads_on_maps(model):
        total += work(functools.partial(_on_levels, head, list(shapes)), *shapes.values())
    if config.model.kind == "segment_proposals":
        settings = config.model.segment
        inputs = sum(window**2 for window in settings.windows) * channels
        outputs = len(settings.windows) * (1 + settings.segment_size**2)
        total += PROPOSALS * settings.hidden_units * (inputs + outputs) / 1e9
    if hasattr(model, "box_head"):
        size = config.model.roi.pool_size
        total += work(model.box_head.head, (1, PROPOSALS, size, size, channels))
    learned = sum(math.prod(v.shape) for v in model.trainable_variables)
    return model.count_params() / 1e6, learned / 1e6, total


def _heads_on_maps(model):
    """The heads of a model that see every cell of the maps."""
    if hasattr(model, "rpn"):
        return [model.rpn.head]
    return model.segment_head.heads if hasattr(model, "segment_head") else []


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
