"""What the rows of the paper's tables have in common: its settings (sec. 5 of 1612.03144).

COCO train2017 and val2017 under `data.root`, short side 800 (the longer side at most 1333, of which
the paper says nothing), ResNets of keras.applications, whose weights are Caffe's. 8 GPUs with 2
images each; on fewer, lower train.batch_size, which the learning rate follows, and raise train.steps.
A warm-up of 500 steps, horizontal flips and 1000 proposals an image in training (the paper has 2000)
are ours; RoI pooling, not ROIAlign, is the paper's.

Rows that need another row's run name its folder under `runs/paper`; `experiments.paper.study` runs
what a row needs before it.
"""

import importlib
import pathlib

from experiments import coco_r50_fpn_1x
from fpn_tf.config import replace

ROOT = "runs/paper"
HERE = pathlib.Path(__file__).parent
ROWS = sorted(path.stem for path in HERE.glob("table*.py"))
C4 = {"model.pyramid": "c4", "model.rpn.pre_nms_train": 10000, "model.rpn.pre_nms_test": 5000}
C5 = C4 | {"model.pyramid": "c5"}
FINEST = C4 | {"model.pyramid": "finest"}
BOTTOM_UP = {"model.pyramid": "bottom_up"}
TOP_DOWN = {"model.pyramid": "top_down"}
R101 = {"model.backbone": "resnet101"}
CONV5_HEAD = {"model.roi.head": "conv5", "model.roi.pool_size": 14}  # the stage halves it to 7
FINE_MASKS = {"model.mask.mask_size": 28}
FROZEN_TRUNK = {"train.freeze": ("backbone", "fpn")}


def rpn(name, *changes):
    """An RPN alone: 40,000 steps, lr .02 and .002 for the last quarter.

    Args:
        name: of the row, table<N>_<row>.
        *changes: dicts of dotted keys and values.
    """
    return _row(name, {"model.kind": "rpn", "train.steps": 40000, "train.decay_at": (0.75,)}, *changes)


def fast_rcnn(name, proposals, *changes):
    """A Fast R-CNN on the proposals of another row's RPN: 80,000 steps, 512 RoIs.

    Args:
        name: of the row.
        proposals: the row whose run's proposals are taken.
        *changes: dicts of dotted keys and values.
    """
    settings = {
        "data.train_proposals": f"{ROOT}/{proposals}/proposals/train.npz",
        "data.eval_proposals": f"{ROOT}/{proposals}/proposals/eval.npz",
        "model.kind": "fast_rcnn",
        "model.roi.pooling": "max",
        "train.steps": 80000,
        "train.decay_at": (0.75,),
    }
    return _row(name, settings, *changes)


def mask_proposals(name, *changes):
    """Segmentation proposals: 80,000 steps, lr .03 for 16 images, and .003 for the last quarter.

    Args:
        name: of the row.
        *changes: dicts of dotted keys and values.
    """
    settings = {
        "model.kind": "mask_proposals",
        "data.masks": True,
        "model.fpn_channels": 128,
        "train.steps": 80000,
        "train.base_learning_rate": 0.03,
        "train.decay_at": (0.75,),
    }
    return _row(name, settings, *changes)


def after(row):
    """Begins with the weights of another row's run."""
    return {"train.start_from": f"{ROOT}/{row}"}


def _row(name, *changes):
    config = coco_r50_fpn_1x.get_config()
    shared = {"name": name, "model.backbone_weights": "imagenet", "train.warmup_steps": 500}
    for change in (shared, *changes):
        config = replace(config, **change)
    return config


def config_of(row):
    """The Config of a row, at the paper's scale."""
    return importlib.import_module(f"experiments.paper.{row}").get_config()


def needs(row):
    """[(row that another one needs, the splits of its proposals)]."""
    config = config_of(row)
    found = []
    if config.data.train_proposals:
        found.append((pathlib.Path(config.data.train_proposals).parts[-3], ("train", "eval")))
    if config.train.start_from:
        found.append((pathlib.Path(config.train.start_from).name, ()))
    return found
