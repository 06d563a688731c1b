"""Models of a run: its model_dir has a config.json and checkpoints."""

import pathlib

from fpn_tf import config as config_lib
from fpn_tf.checkpoint import CONFIG_FILE, Checkpoints, read_weights, write_model
from fpn_tf.errors import CheckpointError
from fpn_tf.pretrained.custom_parts import model_of

TUNABLE = (  # keys of `model` that fine-tuning may change: weights mean the same under any value
    "num_classes",
    "backbone_weights",
    "frozen_stages",
    *(f"rpn.{key}" for key in ("foreground", "background", "samples", "pre_nms", "post_nms", "smooth_l1")),
    *(f"roi.{key}" for key in ("foreground", "samples", "smooth_l1")),
)


def load_model_dir(path, overrides=(), checkpoint="newest"):
    """The model of a run.

    Args:
        path: the model_dir.
        overrides: `dotted.key=value` texts, applied to its config.
        checkpoint: "newest" or "best".

    Returns:
        (Config, model, step).

    Raises:
        ConfigError: no or a damaged config.json, or a bad override.
        CheckpointError: no whole checkpoint, or one that does not fit the config.
    """
    config = config_lib.override(config_lib.load(pathlib.Path(path) / "config.json"), overrides)
    checkpoints = Checkpoints(path)
    folder = checkpoints.find(checkpoint)
    if folder is None:
        raise CheckpointError(f"{checkpoints.folder}: holds no whole checkpoint ({checkpoint})")
    model = model_of(config, folder)
    return config, model, read_weights(model, folder)


def check_new(path):
    """Raises CheckpointError where a folder holds a run already."""
    if Checkpoints(path).find() is not None:
        raise CheckpointError(f"--model_dir={path}: holds a run already; choose another")


def write_model_dir(model, path):
    """Makes a model_dir of a model that no run has trained: its config and a checkpoint of step 0."""
    config_lib.save(model.config, pathlib.Path(path) / "config.json")
    Checkpoints(path).save(0, lambda folder: write_model(model, folder))


def check_start(config, folder):
    """Raises CheckpointError where imported weights would mean something else under `config`."""
    imported = config_lib.load(folder / CONFIG_FILE)
    for key, (imported_value, value) in config_lib.differences(imported.model, config.model).items():
        if not key.startswith(TUNABLE):
            raise CheckpointError(
                f"{folder}: has model.{key}={imported_value}, this run asks for {value}; "
                "without --experiment the imported configuration is used"
            )


def start_from_import(model, folder):
    """Loads imported weights into a model that may have other classes.

    Args:
        model: FasterRCNN or RPN whose config `check_start` has passed.
        folder: the checkpoint that is an import.

    Returns:
        A note for the user: whether the predictor is the imported one or new.
    """
    imported = model_of(config_lib.load(folder / CONFIG_FILE), folder)
    read_weights(imported, folder)
    old, new = imported.config, model.config
    same_count = old.model.num_classes == new.model.num_classes
    keeps = same_count and old.data.class_names in ((), new.data.class_names)
    head = model.box_head.head if hasattr(model, "box_head") else None  # an RPN has none
    predictor = head.classifier.weights + head.regressor.weights if head else []
    keeps = keeps or not predictor
    stay_new = set() if keeps else {id(weight) for weight in predictor}
    for weight, source in zip(model.weights, imported.weights, strict=True):
        if id(weight) not in stay_new:
            weight.assign(source)
    if keeps:
        return f"starting from imported weights: {folder}"
    return (
        f"starting from imported weights: {folder}; the predictor is new: "
        f"{new.model.num_classes} classes, not their {old.model.num_classes}"
    )
