"""Checkpoints: one folder a step, written beside and renamed.

checkpoints/step_00001000/model.weights.h5     Keras' own format: what detection uses
                          config.json          of the model that the weights belong to
                          training.weights.h5  where model.weights.h5 is a moving average: the rest
                          optimizer.npz        velocities and step counter (not after an import)
                          state.json           step, AP if evaluated, and the hash of each of the others
checkpoints/best/                              a copy of the one of the best AP
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np
from absl import logging

from fpn_tf import config as config_lib
from fpn_tf import files
from fpn_tf.errors import CheckpointError

WEIGHTS_FILE, TRAINING_FILE = "model.weights.h5", "training.weights.h5"
ROOM = 1.05  # of the bytes of the numbers alone
OPTIMIZER_FILE, CONFIG_FILE, STATE_FILE = "optimizer.npz", "config.json", "state.json"


class Checkpoints:
    """The checkpoints of a model_dir.

    Args:
        model_dir: the folder of the run.
        keep: how many of the newest to keep.
        keep_every: those of multiples of this step are kept too; 0: none.
    """

    def __init__(self, model_dir, keep=3, keep_every=0):
        self.folder = pathlib.Path(model_dir) / "checkpoints"
        self.keep, self.keep_every = keep, keep_every

    def save(self, step, write, size=0, **state):
        """Makes the checkpoint of `step`, then removes what need not be kept.

        Args:
            step: int; imported weights are step 0.
            write: folder -> None, writes its files there.
            size: bytes that it will write: refused beforehand where the disk has no room, since
                HDF5 does not survive a disk that runs full.
            **state: JSON values to find in `state_of` again.

        Raises:
            CheckpointError: it cannot be written; the earlier ones are whole.
        """
        with self._folder_written_whole(self._of(step), size) as folder:
            write(folder)
            _seal(folder, {"step": int(step)} | state)
        for old in self._steps()[: -self.keep]:
            if not self.keep_every or state_of(old).get("step", 0) % self.keep_every:
                shutil.rmtree(old)

    def rate(self, step, average_precision):
        """Notes the AP of the checkpoint of `step`, and copies it to `best` if it beats the one there."""
        source, best = self._of(step), self.find("best")
        state = state_of(source) | {"AP": float(average_precision)}
        if best is None or state_of(best).get("AP", -1.0) < average_precision:
            size = sum(path.stat().st_size for path in source.iterdir())
            with self._folder_written_whole(self.folder / "best", size) as folder:
                for path in source.iterdir():
                    shutil.copyfile(path, folder / path.name)
                _seal(folder, state)
        files.write_json(source / STATE_FILE, state)

    def find(self, which="newest"):
        """The folder of the newest whole checkpoint, or of the best; None if there is none.

        A damaged one is passed over with a warning.
        """
        candidates = reversed(self._steps())
        if which == "best":  # the second is what a kill between two renames leaves
            candidates = [self.folder / "best", _old(self.folder / "best")]
        for folder in candidates:
            if not folder.is_dir():
                continue
            if _is_whole(folder):
                return folder
            logging.warning("passed over: %s is damaged", folder)
        return None

    def _of(self, step):
        return self.folder / f"step_{step:08d}"

    def _steps(self):
        return sorted(self.folder.glob("step_????????"))

    @contextlib.contextmanager
    def _folder_written_whole(self, folder, size):
        beside = folder.with_name(f".{folder.name}.part")
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            if shutil.disk_usage(beside).free < size * ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield beside
            shutil.rmtree(_old(folder), ignore_errors=True)
            if folder.exists():
                os.replace(folder, _old(folder))
            os.replace(beside, folder)
            _sync(self.folder)
        except (OSError, RuntimeError) as error:  # HDF5 raises either where the disk is full
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"{folder}: cannot be written ({reason}); what was saved before is whole, "
                "and the same command goes on from there"
            ) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(_old(folder), ignore_errors=True)


def write_model(model, folder):
    """Writes a model's weights and config into a checkpoint's folder."""
    model.save_weights(folder / WEIGHTS_FILE)
    config_lib.save(model.config, folder / CONFIG_FILE)


def read_weights(model, folder, file=WEIGHTS_FILE):
    """Loads a checkpoint's weights into a model. Returns: the checkpoint's step.

    Raises:
        CheckpointError: they belong to another architecture.
    """
    try:
        model.load_weights(folder / file)
    except (OSError, ValueError, KeyError) as error:
        raise _misfit(folder, error) from None
    return state_of(folder)["step"]


def write_optimizer(optimizer, folder):
    """Writes an optimizer's variables into a checkpoint's folder."""
    arrays = {f"{i:04d}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    np.savez(folder / OPTIMIZER_FILE, **arrays)


def read_optimizer(optimizer, folder):
    """The other way. Raises: CheckpointError, where they are another optimizer's."""
    with np.load(folder / OPTIMIZER_FILE) as arrays:
        values = [arrays[name] for name in sorted(arrays.files)]
    if [v.shape for v in values] != [tuple(v.shape) for v in optimizer.variables]:
        raise _misfit(folder, "the optimizer's variables differ in number or shape")
    for variable, value in zip(optimizer.variables, values):
        variable.assign(value)


def is_import(folder):
    """Whether a checkpoint (or None) holds imported weights, from which nothing was trained yet."""
    return folder is not None and not (folder / OPTIMIZER_FILE).exists()


def state_of(folder):
    """What `Checkpoints.save` noted; {} where it cannot be read."""
    try:
        return json.loads((folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        return {}


def _misfit(folder, error):
    reason = str(error).strip().splitlines()[0]
    return CheckpointError(f"{folder}: does not fit the model of config.json ({reason})")


def _old(folder):
    return folder.with_name(f".{folder.name}.old")


def _seal(folder, state):
    names = sorted(path.name for path in folder.iterdir() if path.name != STATE_FILE)
    state["files"] = {name: _fingerprint(folder / name) for name in names}
    with open(folder / STATE_FILE, "w") as file:
        json.dump(state, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    _sync(folder)


def _fingerprint(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _sync(folder):
    """Makes a folder's entries last through a machine's restart."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_whole(folder):
    try:
        return all(_fingerprint(folder / n) == h for n, h in state_of(folder)["files"].items())
    except (OSError, KeyError):
        return False
