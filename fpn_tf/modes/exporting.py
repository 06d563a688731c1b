"""`--mode=export`: a checkpoint as a SavedModel, or its weights as one file."""

import functools
import io
import pathlib

from absl import logging

from fpn_tf import files
from fpn_tf.errors import ConfigError
from fpn_tf.evaluation.kinds import check_served
from fpn_tf.modes.export_record import export_once
from fpn_tf.pretrained import naming, torchvision
from fpn_tf.pretrained.loading import save_npz, write_arrays
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.training.progress import console

TORCHVISION_HAS = {"neck": "fpn", "rpn.shared_head": True, "roi.head": "fc"}  # below `model.`


def export(model_dir, overrides, checkpoint, file_format):
    """Exports a checkpoint of `model_dir`: as a SavedModel, or its weights as one file.

    Args:
        model_dir: the folder of a run.
        overrides: `dotted.key=value` texts.
        checkpoint: "newest" or "best".
        file_format: "savedmodel"; "npz", weights and config for `fpn_tf.load`; or "torchvision",
            a state dict that torchvision's model of the same shape loads with `strict=True`: a
            `.pth` where PyTorch is installed, an `.npz` of the same names elsewhere.

    Raises:
        ConfigError: the model is of a kind that is not served, or torchvision has none like it.
    """
    config, model, step = load_model_dir(model_dir, overrides, checkpoint)
    check_served(config.model.kind, "export")
    folder = pathlib.Path(model_dir) / "export"
    if file_format == "savedmodel":
        path = export_once(model, folder)
    elif file_format == "npz":
        path = folder / "detector.npz"
        save_npz(model, path)
    else:
        path = _export_torchvision(model, folder)
    console.print(f"exported step {step}: {path}")


def _export_torchvision(model, folder):
    """Writes a state dict for torchvision into `folder`. Returns: its path. Raises: ConfigError."""
    for key, expected in TORCHVISION_HAS.items():
        value = functools.reduce(getattr, key.split("."), model.config.model)
        if value != expected:
            raise ConfigError(f"--format=torchvision: model.{key}={value}: expected {expected}, all it has")
    unknown = naming.unknown_weights(model)
    if unknown:
        raise ConfigError(f"--format=torchvision: its detectors have no {', '.join(unknown[:3])}")
    arrays = naming.state_dict(model)
    for key, (theirs, ours) in torchvision.unlike(model.config).items():
        logging.warning("model.%s is %s, torchvision's %s: its detections will differ", key, ours, theirs)
    try:
        import torch
    except ImportError:
        path = folder / "torchvision.npz"
        write_arrays(arrays, path)
        return path
    path, file = folder / "torchvision.pth", io.BytesIO()  # PyTorch tells little of a disk that is full
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, file)
    files.write_bytes(path, file.getbuffer())
    return path
