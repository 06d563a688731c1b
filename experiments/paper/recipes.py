"""The settings that the rows of the paper's tables have in common (sec. 5 of 1612.03144).

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

RUNS = "runs/paper"  # the folder of the rows' runs
EXPERIMENTS = pathlib.Path(__file__).parents[1]
ROWS = sorted(path.stem for path in EXPERIMENTS.glob("paper/table[0-9]*.py"))
C4 = {"model.neck": "c4", "model.rpn.pre_nms_train": 10000, "model.rpn.pre_nms_test": 5000}
C5 = C4 | {"model.neck": "c5"}
FINEST = C4 | {"model.neck": "finest"}
BOTTOM_UP = {"model.neck": "bottom_up"}
TOP_DOWN = {"model.neck": "top_down"}
R101 = {"model.backbone": "resnet101"}
CONV5_HEAD = {"model.roi.head": "conv5", "model.roi.pool_size": 14}  # the stage halves it to 7
FINE_SEGMENTS = {"model.segment.segment_size": 28}
FROZEN_TRUNK = {"train.freeze": ("backbone", "neck")}


def rpn(name, *changes):
    """An RPN alone: 40,000 steps, lr .02 and .002 for the last quarter.

    Args:
        name: the row's, table<N>_<row>.
        *changes: dicts of dotted keys and values.
    """
    return _row(name, {"model.kind": "rpn", "train.steps": 40000, "train.decay_at": (0.75,)}, *changes)


def fast_rcnn(name, proposals, *changes):
    """A Fast R-CNN on the proposals of another row's RPN: 80,000 steps, 512 RoIs.

    Args:
        name: the row's.
        proposals: the row whose run's proposals are taken.
        *changes: dicts of dotted keys and values.
    """
    settings = {
        "data.train_proposals": f"{RUNS}/{proposals}/proposals/train.npz",
        "data.eval_proposals": f"{RUNS}/{proposals}/proposals/eval.npz",
        "model.kind": "fast_rcnn",
        "model.roi.pooling": "max",
        "train.steps": 80000,
        "train.decay_at": (0.75,),
    }
    return _row(name, settings, *changes)


def segment_proposals(name, *changes):
    """Segment proposals: 80,000 steps, lr .03 for 16 images, and .003 for the last quarter.

    Args:
        name: the row's.
        *changes: dicts of dotted keys and values.
    """
    settings = {
        "model.kind": "segment_proposals",
        "data.segments": True,
        "model.neck_channels": 128,
        "train.steps": 80000,
        "train.base_learning_rate": 0.03,
        "train.decay_at": (0.75,),
    }
    return _row(name, settings, *changes)


def after(row):
    """Begins with the weights of another row's run."""
    return {"train.initial_model_dir": f"{RUNS}/{row}"}


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
    needed = []
    if config.data.train_proposals:
        needed.append((pathlib.Path(config.data.train_proposals).parts[-3], ("train", "eval")))
    if config.train.initial_model_dir:
        needed.append((pathlib.Path(config.train.initial_model_dir).name, ()))
    return needed
