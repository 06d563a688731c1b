"""Weights that pass from one model of this project to another, part by part.

Parts are a model's attributes `backbone`, `neck`, `rpn` and `box_head`: the paper's 4-step
training (Table 5) hands them on.
"""

import itertools

import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.assemble import adopt, build
from fpn_tf.config import PARTS
from fpn_tf.errors import CheckpointError
from fpn_tf.models.rpn import RPN
from fpn_tf.pretrained.model_dir import load_model_dir


def copy_parts(source, target, source_name):
    """Copies the weights of every part that two models have.

    Args:
        source, target: models.
        source_name: for messages.

    Returns:
        The names of the parts.

    Raises:
        CheckpointError: a part has another shape.
    """
    copied = [part for part in PARTS if hasattr(source, part) and hasattr(target, part)]
    for part in copied:
        old, new = getattr(source, part).weights, getattr(target, part).weights
        if [tuple(w.shape) for w in old] != [tuple(w.shape) for w in new]:
            raise CheckpointError(
                f"{source_name}: its {part} has another shape than this model's; "
                "expected the same configuration"
            )
    for part in copied:
        for old, new in zip(getattr(source, part).weights, getattr(target, part).weights):
            new.assign(old)
    return copied


def start_from(model, model_dir):
    """Begins with the weights of another run, as far as both models go.

    Returns:
        A note for the user.

    Raises:
        UserError: the folder holds no run, or its model does not fit.
    """
    source, step = load_model_dir(model_dir)[1:]
    parts = copy_parts(source, model, model_dir)
    return f"starting with {', '.join(parts)} of {model_dir} (step {step})"


def rpn_of(model):
    """The RPN of a model that has one, as a model by itself.

    Raises:
        CheckpointError: the model has no RPN.
    """
    if not hasattr(model, "rpn"):
        raise CheckpointError(f"model.kind={model.kind}: has no RPN; expected rpn or faster_rcnn")
    config = config_lib.replace(model.config, **{"model.kind": "rpn"})
    return adopt(RPN(model.backbone, model.neck, model.rpn, model.preprocessor), config)


def joined(rpn_dir, fast_rcnn_dir):
    """One FasterRCNN of the RPN and the Fast R-CNN of two runs.

    Raises:
        UserError: they are something else, or their trunks are not the same.
    """
    rpn, fast = make_pair(rpn_dir, fast_rcnn_dir)
    for part in ("backbone", "neck"):
        pairs = itertools.zip_longest(getattr(rpn, part).get_weights(), getattr(fast, part).get_weights())
        if not all(np.array_equal(a, b) for a, b in pairs):
            raise CheckpointError(
                f"{rpn_dir} and {fast_rcnn_dir}: {part} differs; expected the same, frozen in both"
            )
    changes = {"model.kind": "faster_rcnn", "data.train_proposals": "", "data.eval_proposals": ""}
    changes |= {"train.freeze": (), "train.initial_model_dir": ""}
    config = config_lib.replace(fast.config, **changes)
    config = config_lib.replace(
        config, **{f"model.rpn.{key}": value for key, value in vars(rpn.config.model.rpn).items()}
    )
    model = build(config)
    copy_parts(rpn, model, rpn_dir)
    copy_parts(fast, model, fast_rcnn_dir)
    return model


def make_pair(rpn_dir, fast_rcnn_dir):
    """The models of two runs. Raises: UserError, where they are not an RPN and a Fast R-CNN."""
    pair = []
    for folder, kind in ((rpn_dir, "rpn"), (fast_rcnn_dir, "fast_rcnn")):
        config, model, _ = load_model_dir(folder)
        if config.model.kind != kind:
            raise CheckpointError(f"{folder}: model.kind={config.model.kind}: expected {kind}")
        pair.append(model)
    return pair
