"""Models with parts from outside the package, as an experiment or a checkpoint describes them."""

import importlib

import keras

from fpn_tf import files
from fpn_tf.assemble import adopt, build
from fpn_tf.checkpoint import PARTS_FILE
from fpn_tf.errors import CheckpointError


def model_of(config, folder=None, get_model=None):
    """The model of a run, with random weights.

    Args:
        config: Config of the run.
        folder: of a checkpoint, which describes the model's parts where a config cannot, or None.
        get_model: config -> model, of an experiment that brings parts, or None.

    Returns:
        What `get_model` gives, else what the checkpoint describes, else what the config describes.

    Raises:
        UserError: a part cannot be imported, or does not fit the config.
    """
    if get_model is not None:
        return adopt(get_model(config), config)
    if folder is not None and (folder / PARTS_FILE).exists():
        return adopt(_read(folder / PARTS_FILE), config)
    return build(config)


def _read(path):
    values = files.read_json(path)
    classes = dict(_classes_of(values, path))
    try:
        with keras.saving.custom_object_scope(classes):
            return keras.saving.deserialize_keras_object(values)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: its parts cannot be made again ({reason})") from None


def _classes_of(values, path):
    """Yields (name, class) of every class that is neither Keras' nor this project's, importing its module.

    Raises:
        CheckpointError: a module, or the class in it, cannot be imported.
    """
    if isinstance(values, list):
        for value in values:
            yield from _classes_of(value, path)
    elif isinstance(values, dict):
        module, name = values.get("module"), values.get("class_name")
        if isinstance(module, str) and isinstance(name, str) and not module.startswith(("keras", "builtins")):
            try:
                part = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise CheckpointError(
                    f"{path}: {name} is a part from the module {module}, which cannot be imported ({error}); "
                    "expected it on the Python path"
                ) from None
            yield name, part
            yield values.get("registered_name") or name, part
        for value in values.values():
            yield from _classes_of(value, path)
