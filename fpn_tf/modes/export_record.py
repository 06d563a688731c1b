"""One SavedModel for one model: each version of an export tells what it was made of."""

import dataclasses
import hashlib
import json
import pathlib
import re

import keras
import numpy as np

from fpn_tf import __version__, files
from fpn_tf import config as config_lib
from fpn_tf.exporting import saved_model

RECORD = "assets.extra/fpn_tf.json"  # below a version; where a SavedModel keeps what does not run
THRESHOLDS = ("score_threshold", "nms_threshold", "max_detections")  # of a config's `eval`


def export_once(model, folder):
    """The path of a model's SavedModel: `<folder>/<version>/`, written unless one of the same model is there.

    Args:
        model: FasterRCNN.
        folder: of the exports.

    Raises:
        ConfigError, OSError: as `saved_model.export`.
    """
    fingerprint = fingerprint_of(model)
    for version in sorted(pathlib.Path(folder).glob("[0-9]*"), reverse=True):
        if (version / "saved_model.pb").is_file() and recorded(version) == fingerprint:
            return version
    path = saved_model.export(model, pathlib.Path(folder), **dataclasses.asdict(model.config.export))
    files.write_json(path / RECORD, {"model": fingerprint})
    return path


def recorded(version):
    """The fingerprint of the model that a version was made of; None where nothing tells it."""
    try:
        return files.json_of((version / RECORD).read_bytes())["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint_of(model):
    """The hash of all that decides what a model's SavedModel gives: text."""
    description = {
        "version": __version__,
        "model": config_lib.to_dict(model.config)["model"],
        "export": dataclasses.asdict(model.config.export),
        "eval": {name: getattr(model.config.eval, name) for name in THRESHOLDS},
        "preprocessor": dataclasses.asdict(model.preprocessor),
        "parts": None if model.is_assembled else _parts_of(model),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for variable in model.variables:
        array = np.asarray(variable)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _parts_of(model):
    """A model's parts as text, without the numbers by which Keras tells the models of a process apart."""
    return re.sub(r"_\d+(?=\")", "", json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True))
