"""Models of a run: its model_dir has a config.json and checkpoints."""

import pathlib

from fpn_tf import config as config_lib
from fpn_tf import files
from fpn_tf.checkpoint import CONFIG_FILE, Checkpoints, read_weights, write_model
from fpn_tf.checkpoint_state import check_whole, is_checkpoint
from fpn_tf.errors import CheckpointError
from fpn_tf.pretrained.custom_parts import model_of


def load_model_dir(path, overrides=(), checkpoint="newest"):
    """The model of a run.

    Args:
        path: the model_dir, or the folder of a checkpoint.
        overrides: `dotted.key=value` texts, applied to its config.
        checkpoint: of a model_dir: "newest", "best" or a step, see `Checkpoints.find`.

    Returns:
        (Config, model, step).

    Raises:
        ConfigError: no such folder, no or a damaged config.json, or a bad override.
        CheckpointError: no whole checkpoint, or one that does not fit the config.
    """
    path = pathlib.Path(files.expanded(path))
    config = config_lib.override(config_lib.load(path / CONFIG_FILE), overrides)
    folder = checkpoint_of(path, checkpoint)
    model = model_of(config, folder)
    return config, model, read_weights(model, folder)


def checkpoint_of(path, which="newest"):
    """The folder of a checkpoint: `path` itself where it is one, else one of the model_dir that `path` is.

    Raises:
        CheckpointError: it is damaged, or there is none.
    """
    if is_checkpoint(path):
        check_whole(path)
        return path
    checkpoints = Checkpoints(path)
    folder = checkpoints.find(which)
    if folder is None:
        steps = ", ".join(map(str, checkpoints.steps()))
        expected = f"; the steps there are: {steps}" if steps else ""
        raise CheckpointError(f"{checkpoints.folder}: holds no whole checkpoint ({which}){expected}")
    return folder


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
        if not key.startswith(config_lib.TUNABLE):
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
    note = note_of_new_predictor(imported, model)
    stay_new = {id(weight) for weight in predictor_of(model)} if note else set()
    for weight, source in zip(model.weights, imported.weights, strict=True):
        if id(weight) not in stay_new:
            weight.assign(source)
    return f"starting from imported weights: {folder}{note}"


def predictor_of(model):
    """The weights of a model that belong to its classes; none where it knows one class alone."""
    head = getattr(getattr(model, "box_head", None), "head", None)
    layers = (getattr(head, name, None) for name in ("classifier", "regressor"))
    return [weight for layer in layers if layer is not None for weight in layer.weights]


def note_of_new_predictor(source, model):
    """What a user is told where a model cannot use another's predictor; "" where it can.

    Args:
        source: the model whose weights are taken.
        model: the one that begins with them.
    """
    old, new = source.config, model.config
    same_count = old.model.num_classes == new.model.num_classes
    if not predictor_of(model) or (same_count and old.data.class_names in ((), new.data.class_names)):
        return ""
    count = f"{new.model.num_classes} classes, not their {old.model.num_classes}"
    if same_count:
        count = f"{new.model.num_classes} other classes"
    return f"; the predictor is new: {count}"
