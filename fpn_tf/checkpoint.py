"""Checkpoints: one folder a step, written beside and renamed.

checkpoints/step_00001000/model.weights.h5   Keras' own format
                          config.json        of the model that the weights belong to
                          optimizer.npz      velocities and step counter (not after an import)
                          state.json         step, and the hash of each of the others
checkpoints/best/                            the same, of the best AP, with `AP` in state.json
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np
from absl import logging

from fpn_tf import config as config_lib
from fpn_tf.errors import CheckpointError

WEIGHTS_FILE, OPTIMIZER_FILE, CONFIG_FILE = "model.weights.h5", "optimizer.npz", "config.json"


class Checkpoints:
    """The checkpoints of a model_dir.

    Args:
        model_dir: the folder of the run.
        keep: how many of the newest to keep.
    """

    def __init__(self, model_dir, keep=3):
        self.folder = pathlib.Path(model_dir) / "checkpoints"
        self.keep = keep

    def save(self, model, optimizer, step):
        """Writes the checkpoint of `step`, then removes what is older than the newest `keep`.

        Imported weights are the checkpoint of step 0 and have no optimizer (None).
        """
        with self._folder_written_whole(self.folder / f"step_{step:08d}") as folder:
            model.save_weights(folder / WEIGHTS_FILE)
            config_lib.save(model.config, folder / CONFIG_FILE)
            if optimizer is not None:
                arrays = {f"{i:04d}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
                np.savez(folder / OPTIMIZER_FILE, **arrays)
            _seal(folder, {"step": int(step)})
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(old)

    def keep_best(self, step, average_precision):
        """Copies the checkpoint of `step` to `best` if its AP beats the one there. Returns whether."""
        best = self.folder / "best"
        state = _state(best)
        if state is not None and state.get("AP", -1.0) >= average_precision:
            return False
        source = self.folder / f"step_{step:08d}"
        with self._folder_written_whole(best) as folder:
            for path in source.iterdir():
                shutil.copyfile(path, folder / path.name)
            _seal(folder, {"step": int(step), "AP": float(average_precision)})
        return True

    def find(self, which="newest"):
        """The folder of the newest whole checkpoint, or of the best; None if there is none.

        A damaged one is passed over with a warning.
        """
        candidates = [self.folder / "best"] if which == "best" else reversed(self._steps())
        for folder in candidates:
            if not folder.is_dir():
                continue
            if _is_whole(folder):
                return folder
            logging.warning("passed over: %s is damaged", folder)
        return None

    def restore(self, folder, model, optimizer=None):
        """Loads a checkpoint into `model` (and `optimizer`). Returns its step.

        Raises:
            CheckpointError: it belongs to another architecture.
        """
        try:
            model.load_weights(folder / WEIGHTS_FILE)
            if optimizer is not None:
                with np.load(folder / OPTIMIZER_FILE) as arrays:
                    values = [arrays[name] for name in sorted(arrays.files)]
                if [v.shape for v in values] != [tuple(v.shape) for v in optimizer.variables]:
                    raise ValueError("the optimizer's variables differ in number or shape")
                for variable, value in zip(optimizer.variables, values):
                    variable.assign(value)
        except (ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{folder}: does not fit the model of config.json ({reason})") from None
        return _state(folder)["step"]

    def _steps(self):
        return sorted(self.folder.glob("step_????????"))

    @contextlib.contextmanager
    def _folder_written_whole(self, folder):
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            if folder.exists():
                old = folder.with_name(f".{folder.name}.old")
                shutil.rmtree(old, ignore_errors=True)
                os.replace(folder, old)
                os.replace(beside, folder)
                shutil.rmtree(old)
            else:
                os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def is_import(folder):
    """Whether a checkpoint (or None) holds imported weights, from which nothing was trained yet."""
    return folder is not None and not (folder / OPTIMIZER_FILE).exists()


def _seal(folder, state):
    names = sorted(path.name for path in folder.iterdir() if path.name != "state.json")
    state["files"] = {name: _fingerprint(folder / name) for name in names}
    with open(folder / "state.json", "w") as file:
        json.dump(state, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _state(folder):
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return None


def _is_whole(folder):
    state = _state(folder)
    try:
        return state is not None and all(_fingerprint(folder / n) == h for n, h in state["files"].items())
    except (OSError, KeyError):
        return False
