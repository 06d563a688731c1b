"""Our own model_dir: config.json and checkpoints."""

import pathlib

from fpn_tf import config as config_lib
from fpn_tf.checkpoint import CONFIG_FILE, Checkpoints
from fpn_tf.errors import CheckpointError
from fpn_tf.models.faster_rcnn import make_model


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
    model = make_model(config)
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
    imported = make_model(config_lib.load(folder / CONFIG_FILE))
    checkpoints.restore(folder, imported)
    old, new = imported.config, model.config
    same_count = old.model.num_classes == new.model.num_classes
    keeps = same_count and old.data.class_names in ((), new.data.class_names)
    head = getattr(model, "box_head", None)  # an RPN has none
    predictor = head.classifier.weights + head.regressor.weights if head else []
    keeps = keeps or not predictor
    stay_new = set() if keeps else {id(weight) for weight in predictor}
    pairs = list(zip(model.weights, imported.weights))
    for weight, source in pairs:
        fits = weight.shape == source.shape or id(weight) in stay_new
        if not fits or len(model.weights) != len(imported.weights):
            raise CheckpointError(
                f"{folder}: {source.path} is {source.shape}; "
                f"this run's model wants {weight.path}, {weight.shape}"
            )
    for weight, source in pairs:
        if id(weight) not in stay_new:
            weight.assign(source)
    if keeps:
        return f"starting from imported weights: {folder}"
    return (
        f"starting from imported weights: {folder}; the predictor is new: "
        f"{new.model.num_classes} classes, not their {old.model.num_classes}"
    )
