"""Our own model_dir: config.json and checkpoints."""

import pathlib

from fpn_tf import config as config_lib
from fpn_tf.checkpoint import Checkpoints
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


def load(path):
    """The detector of a model_dir, with the weights of its newest checkpoint.

    Args:
        path: a folder that `main.py` trained in.

    Returns:
        FasterRCNN; `model.config` is the run's Config.

    Raises:
        UserError: the folder is no model_dir, in one line.
    """
    return load_model_dir(path)[1]
