"""`fpn_tf.load`: a detector from whatever file or folder holds one."""

import json
import pathlib

import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.checkpoint import WEIGHTS_FILE
from fpn_tf.errors import CheckpointError, ConfigError, WeightsError
from fpn_tf.files import written_whole
from fpn_tf.models.faster_rcnn import make_model
from fpn_tf.pretrained import detectron, detectron2, naming, torchvision
from fpn_tf.pretrained.architecture import check_anchors
from fpn_tf.pretrained.backbone import read_arrays
from fpn_tf.pretrained.model_dir import load_model_dir

SOURCES = {"torchvision": torchvision, "Detectron2": detectron2, "Detectron": detectron}
CONFIG_ENTRY = "config.json"  # of our own .npz, besides the weights


def load(path, overrides=()):
    """A detector with its weights, ready to detect, evaluate, fine-tune and export.

    Args:
        path: a model_dir; a `.weights.h5` with `config.json` beside it; an `.npz` written by
            `--mode=export --format=npz`; or another library's checkpoint: torchvision's (`.pth`,
            `.npz`), Detectron2's (`.pkl`, `.pth`), Detectron's (`.pkl`). Pickles are read without
            running code.
        overrides: `dotted.key=value` texts, applied to the config that comes with the weights.

    Returns:
        FasterRCNN, or RPN where the file holds no box head; `model.config` is its Config.

    Raises:
        UserError: there is no detector, or not every tensor has its place, in one line.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return load_model_dir(path, overrides)[1]
    if path.name.endswith(".weights.h5"):
        return _load_keras_weights(path, overrides)
    arrays = read_arrays(path)
    if CONFIG_ENTRY in arrays:
        config = _own_config(arrays.pop(CONFIG_ENTRY), path)
    else:
        _, source = source_of(arrays, path)
        config, arrays = source.convert(arrays, path)
    config = config_lib.override(config, overrides)
    check_anchors(arrays, config, path)
    model = make_model(config)
    naming.assign(naming.detector_weights(model), arrays, path, naming.map_size(model))
    return model


def source_of(arrays, path):
    """(name, module) of the library whose names {name: array} has. Raises: WeightsError."""
    for name, module in SOURCES.items():
        if module.is_source(arrays) and not _is_backbone_alone(arrays):
            return name, module
    if _is_backbone_alone(arrays):
        raise WeightsError(
            f"{path}: holds a backbone alone; name it in model.backbone_weights to train a detector on it"
        )
    shown = ", ".join(sorted(arrays)[:3])
    raise WeightsError(
        f"{path}: holds {shown}, ...; expected a detector of {', '.join(SOURCES)} or of this project"
    )


def save_npz(model, path):
    """Writes all weights under torchvision's names, and the config, as one `.npz`."""
    text = json.dumps(config_lib.to_dict(model.config)).encode()
    write_arrays(naming.state_dict(model) | {CONFIG_ENTRY: np.frombuffer(text, np.uint8)}, path)


def write_arrays(arrays, path):
    """{name: array} as an `.npz`, whole or not at all."""
    with written_whole(path) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays)


def _is_backbone_alone(arrays):
    return not any("rpn" in name or "proposal_generator" in name for name in arrays) and (
        "conv1.weight" in arrays or "conv1_w" in arrays
    )


def _own_config(entry, path):
    try:
        return config_lib.from_dict(json.loads(bytes(entry)))
    except (ValueError, ConfigError) as error:
        raise WeightsError(f"{path}: its {CONFIG_ENTRY} is damaged ({error})") from None


def _load_keras_weights(path, overrides):
    config = config_lib.override(config_lib.load(path.with_name("config.json")), overrides)
    model = make_model(config)
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: does not fit {path.with_name('config.json')} ({reason}); "
            f"expected a {WEIGHTS_FILE} of that model"
        ) from None
    return model
