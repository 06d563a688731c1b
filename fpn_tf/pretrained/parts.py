"""Weights that pass from one model of this project to another, part by part.

Parts are a model's attributes `backbone`, `neck`, `rpn`, `box_head` and `segment_head`, and its further
heads. A run that begins with another one's weights takes them, and so does the paper's 4-step training
(Table 5).
"""

import itertools

import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.assemble import adopt, build
from fpn_tf.errors import CheckpointError
from fpn_tf.models.rpn import RPN
from fpn_tf.pretrained.model_dir import load_model_dir, note_of_new_predictor, predictor_of

SECTIONS = {"rpn": "rpn.", "box_head": "roi.", "segment_head": "segment."}  # part -> its keys of `model`


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
    shared = shared_parts(source, target)
    assign_parts(source, target, shared, source_name)
    return shared


def shared_parts(source, target):
    """The names of the parts that two models have, in order."""
    parts, others = parts_of(source), parts_of(target)
    return [name for name in parts if name in others]


def parts_of(model):
    """{name: part} of a model, its further heads under their own names."""
    parts = {name: getattr(model, name) for name in model.part_names}
    return parts | {head.name: head for head in getattr(model, "heads", ())}


def assign_parts(source, target, names, source_name, new_weights=()):
    """Copies the weights of parts, all of them or none.

    Args:
        source, target: models.
        names: of the parts.
        source_name: for messages.
        new_weights: of the target, which stay as they are, whatever their shapes.

    Raises:
        CheckpointError: a part has another shape.
    """
    stay_new, pairs = {id(weight) for weight in new_weights}, []
    for name in names:
        old, new = parts_of(source)[name].weights, parts_of(target)[name].weights
        kept = [(a, b) for a, b in zip(old, new) if id(b) not in stay_new]
        if len(old) != len(new) or any(tuple(a.shape) != tuple(b.shape) for a, b in kept):
            raise CheckpointError(
                f"{source_name}: its {name} has another shape than this model's; "
                "expected the same configuration"
            )
        pairs += kept
    for old_weight, new_weight in pairs:
        new_weight.assign(old_weight)


def start_from(model, model_dir):
    """Begins with the weights of another run, as far as both models go.

    A box head of other classes is taken without its predictor, which starts new.

    Args:
        model: whose weights are random so far.
        model_dir: the folder of the other run, or of one of its checkpoints.

    Returns:
        A note for the user: the parts that are taken, and whether the predictor is new.

    Raises:
        UserError: the folder holds no run, or its model does not fit.
    """
    source, step = load_model_dir(model_dir)[1:]
    names = shared_parts(source, model)
    new_heads = [n for n in names if n not in model.part_names and _shapes(source, n) != _shapes(model, n)]
    names = [name for name in names if name not in new_heads]
    note = note_of_new_predictor(source, model) if "box_head" in names else ""
    assign_parts(source, model, names, model_dir, predictor_of(model) if note else ())
    _check_meaning(source, model, names, model_dir)
    note += f"; new as well, of another shape: {', '.join(new_heads)}" if new_heads else ""
    return f"starting with {', '.join(names)} of {model_dir} (step {step}){note}"


def _shapes(model, part):
    """The shapes of the weights of a model's part."""
    return [tuple(weight.shape) for weight in parts_of(model)[part].weights]


def _check_meaning(source, model, names, model_dir):
    """Raises CheckpointError where weights of equal shapes were trained for other pixels or boxes."""
    if source.kind == model.kind and model.is_assembled and not source.is_assembled:
        raise CheckpointError(
            f"{model_dir}: has parts of its own; expected --experiment with the get_model that makes them"
        )
    different = {}
    if model.is_assembled and source.is_assembled:  # or its config does not tell of its parts
        different = config_lib.differences(source.config.model, model.config.model)
    preprocessors = source.preprocessor, model.preprocessor
    different |= {key: tuple(getattr(each, key) for each in preprocessors) for key in config_lib.PIXELS}
    unshared = tuple(section for part, section in SECTIONS.items() if part not in names)
    for key, (old, new) in different.items():
        if old != new and not key.startswith(("kind", *config_lib.TUNABLE, *unshared)):
            raise CheckpointError(
                f"{model_dir}: has model.{key}={old}, this run asks for {new}; expected the same network"
            )


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
