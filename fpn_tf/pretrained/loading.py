"""`fpn_tf.load`: a detector from whatever file or folder holds one."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.checkpoint import read_weights_file
from fpn_tf.errors import WeightsError
from fpn_tf.files import expanded, written_whole
from fpn_tf.models.detector import Detector
from fpn_tf.pretrained import detectron, detectron2, naming, torchvision
from fpn_tf.pretrained.architecture import check_anchors
from fpn_tf.pretrained.backbone_files import BODY, CONFIG_ENTRY, SUFFIXES, config_in, read_arrays
from fpn_tf.pretrained.custom_parts import model_of
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.pretrained.pixel_convention import check_pixels, convention_of
from fpn_tf.structures import FilePath

SOURCES = {"torchvision": torchvision, "Detectron2": detectron2, "Detectron": detectron}


def load(path: FilePath, overrides: Sequence[str] = ()) -> Detector:
    """A detector with its weights, ready to detect, evaluate, fine-tune and export.

    Args:
        path: a model_dir, or the folder of one of its checkpoints; a `.weights.h5` with `config.json`
            beside it; an `.npz` written by `--mode=export --format=npz`; or another library's
            checkpoint: torchvision's (`.pth`, `.npz`), Detectron2's (`.pkl`, `.pth`), Detectron's
            (`.pkl`). Pickles are read without running code.
        overrides: `dotted.key=value` texts, applied to the config that comes with the weights.

    Returns:
        FasterRCNN, or RPN where the file holds no box head; `model.config` is its Config.

    Raises:
        UserError: there is no detector, or not every tensor has its place, in one line.

    Example:

    >>> model = fpn_tf.load("runs/shapes", overrides=["eval.score_threshold=0.3"])
    >>> model.num_classes, model.score_threshold
    (3, 0.3)
    """
    path = pathlib.Path(expanded(path))
    if path.is_dir():
        return load_model_dir(path, overrides)[1]
    if not path.exists() and path.suffix not in (*SUFFIXES, ".h5"):
        raise WeightsError(
            f"{path}: no such folder; expected a model_dir, the folder of one of its checkpoints, or a file "
            f"of weights that ends in {', '.join(SUFFIXES)} or .weights.h5"
        )
    if path.name.endswith(".weights.h5"):
        return _load_keras_weights(path, overrides)
    arrays = read_arrays(path)
    if CONFIG_ENTRY in arrays:
        config = config_lib.override(config_in(arrays.pop(CONFIG_ENTRY), path), overrides)
    else:
        _, source = source_of(arrays, path)
        config, arrays = source.convert(arrays, path)
        config = config_lib.override(config, overrides)
        if source is torchvision:  # the others tell their pixels, or have always the same
            body = {n.removeprefix(BODY): array for n, array in arrays.items() if n.startswith(BODY)}
            check_pixels(config.model, convention_of(body), path)
    check_anchors(arrays, config, path)
    model = build(config)
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
    """Writes all weights under torchvision's names, and the config, as one `.npz`.

    Raises:
        WeightsError: the model has parts that its config does not describe.
    """
    if not model.is_assembled:
        raise WeightsError(
            f"{path}: an .npz is made again from its config, and this model has parts of its own; "
            "expected --format=savedmodel, or model.save(PATH.keras)"
        )
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


def _load_keras_weights(path, overrides):
    config = config_lib.override(config_lib.load(path.with_name("config.json")), overrides)
    model = model_of(config, path.parent)
    read_weights_file(model, path, path)
    return model
