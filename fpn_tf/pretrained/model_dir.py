"""Our own model_dir: config.json and checkpoints."""

import pathlib

from fpn_tf import config as config_lib
from fpn_tf.checkpoint import CONFIG_FILE, Checkpoints
from fpn_tf.errors import CheckpointError
from fpn_tf.models.faster_rcnn import FasterRCNN


def load_model_dir(path, overrides=(), checkpoint="newest"):
    """The model of a run.

    Args:
        path: the model_dir.
        overrides: `dotted.key=value` texts, applied to its config.
        checkpoint: "newest" or "best".

    Returns:
        (Config, FasterRCNN, step).

    Raises:
        ConfigError: no or a damaged config.json, or a bad override.
        CheckpointError: no whole checkpoint, or one that does not fit the config.
    """
    config = config_lib.override(config_lib.load(pathlib.Path(path) / "config.json"), overrides)
    checkpoints = Checkpoints(path)
    folder = checkpoints.find(checkpoint)
    if folder is None:
        raise CheckpointError(f"{checkpoints.folder}: holds no whole checkpoint ({checkpoint})")
    model = FasterRCNN(config)
    return config, model, checkpoints.restore(folder, model)


def start_from_import(model, checkpoints):
    """Loads imported weights into a model that may have other classes.

    Args:
        model: FasterRCNN.
        checkpoints: Checkpoints whose newest is an import.

    Returns:
        What to tell the user: whether the predictor is the imported one or new.

    Raises:
        CheckpointError: the model differs in more than its classes.
    """
    folder = checkpoints.find()
    config = config_lib.load(folder / CONFIG_FILE)
    old, new = config.model.num_classes, model.config.model.num_classes
    same_names = config.data.class_names in ((), model.config.data.class_names)
    if old == new and same_names:
        checkpoints.restore(folder, model)
        return f"starting from imported weights: {folder}"
    same_classes = {"model.num_classes": old}
    changed = config_lib.differences(config.model, config_lib.replace(model.config, **same_classes).model)
    for key, (there, here) in changed.items():
        raise CheckpointError(f"{folder}: has model.{key}={there}, this run asks for {here}")
    imported = FasterRCNN(config)
    checkpoints.restore(folder, imported)
    predictor = model.box_head.classifier.weights + model.box_head.regressor.weights
    stay_new = {id(weight) for weight in predictor}
    for weight, source in zip(model.weights, imported.weights, strict=True):
        if id(weight) not in stay_new:
            weight.assign(source)
    return f"starting from imported weights: {folder}; the predictor is new: {new} classes, not their {old}"
