"""Checkpoints: one folder a step, written beside and renamed.

checkpoints/step_00001000/model.weights.h5     Keras' own format: what detection uses
                          config.json          of the model that the weights belong to
                          model.json           its parts, where some are not of this project
                          training.weights.h5  the trained weights, where model.weights.h5 is their average
                          optimizer.npz        velocities and step counter (not after an import)
                          training_set.npz     what the data set was, photo by photo: `data.snapshot`
                          state.json           step, AP if evaluated, hashes of the others and of itself
checkpoints/best/                              a copy of the one of the best AP
checkpoints/damaged_step_00001000/             one that a new run found, none being whole
"""

import collections
import contextlib
import errno
import io
import os
import pathlib
import shutil

import h5py
import keras
import numpy as np
from absl import logging
from keras.src.saving import saving_lib  # keras.saving has no way to write weights into memory

from fpn_tf import config as config_lib
from fpn_tf import files, old_files
from fpn_tf.checkpoint_state import (
    STEP_PREFIX,
    WEIGHTS_FILE,
    hash_of,
    is_rated_by,
    is_whole,
    seal,
    state_of,
    step_in_name,
    sync,
    write_state,
)
from fpn_tf.errors import CheckpointError
from fpn_tf.variable_names import optimizer_names, renamed

TRAINING_FILE = "training.weights.h5"
DISK_MARGIN = 1.05  # free bytes for a byte of weights: HDF5 adds names and tables
OPTIMIZER_FILE, CONFIG_FILE = "optimizer.npz", "config.json"
PARTS_FILE, TRAINING_SET_FILE = "model.json", "training_set.npz"
DAMAGED_PREFIX = "damaged_"  # before the name of a checkpoint's folder


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
            write: folder -> None, writes the checkpoint's files into it.
            size: bytes that it will write: refused beforehand where the disk has no room.
            **state: JSON values to find in `state_of` again.

        Raises:
            CheckpointError: it cannot be written; the earlier ones are whole.
        """
        with self._folder_written_whole(self._folder_of(step), size) as folder:
            write(folder)
            seal(folder, {"step": int(step)} | state)
        for old in self._step_folders()[: -self.keep]:
            if not self.keep_every or step_in_name(old) % self.keep_every:
                shutil.rmtree(old, ignore_errors=True)

    def rate(self, step, average_precision, scored_by=None):
        """Notes the AP of the checkpoint of `step`, and copies it to `best` if it beats the best so far.

        Args:
            step: int.
            average_precision: float.
            scored_by: JSON value that stands for what it was scored by. A best checkpoint that was scored
                by something else cannot be compared, and gives way. None: any can be.
        """
        source, best = self._folder_of(step), self.find("best")
        state = state_of(source) | {"AP": float(average_precision)}
        if scored_by is not None:
            state["scored_by"] = scored_by
        best_state = {} if best is None else state_of(best)
        if not is_rated_by(best_state, scored_by) or best_state["AP"] < average_precision:
            size = sum(path.stat().st_size for path in source.iterdir())
            with self._folder_written_whole(self.folder / "best", size) as folder:
                for path in source.iterdir():
                    shutil.copyfile(path, folder / path.name)
                seal(folder, state)
        write_state(source, state)

    def find(self, which="newest"):
        """The folder of a whole checkpoint; None if there is none.

        A damaged one is passed over with a warning.

        Args:
            which: "newest", "best" by AP, or the one of a step: its number or its folder's name.
                Where all that the newest is looked for among are damaged, the best one counts.
        """
        best = [self.folder / "best", _old(self.folder / "best")]  # the second: a kill between two renames
        if which == "newest":
            steps = self._step_folders()[::-1]
            candidates = [*steps, *best] if steps else []
        elif which == "best":
            candidates = best
        else:
            candidates = [self._folder_of(int(str(which).removeprefix(STEP_PREFIX)))]
        for folder in candidates:
            if not folder.is_dir():
                continue
            if is_whole(folder):
                return folder
            logging.warning("passed over: %s is damaged", folder)
        return None

    def weights_hash(self, step):
        """The hash of what detection uses in the checkpoint of `step`, the best one's too; "" if unknown."""
        states = map(state_of, (self._folder_of(step), self.folder / "best"))
        return next((hash_of(s, WEIGHTS_FILE) for s in states if s.get("step") == step), "")

    def steps(self):
        """The steps of all checkpoints, damaged ones included, in order."""
        return [step_in_name(folder) for folder in self._step_folders()]

    def set_aside(self):
        """Renames the checkpoints of all steps, so that a new run writes over none of them."""
        for folder in self._step_folders():
            aside = folder.with_name(f"{DAMAGED_PREFIX}{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)

    def _folder_of(self, step):
        return self.folder / f"{STEP_PREFIX}{step:08d}"

    def _step_folders(self):
        return sorted(self.folder.glob(f"{STEP_PREFIX}{'[0-9]' * 8}"))

    @contextlib.contextmanager
    def _folder_written_whole(self, folder, size):
        beside = folder.with_name(f".{folder.name}.part")
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            if shutil.disk_usage(beside).free < size * DISK_MARGIN:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield beside
            shutil.rmtree(_old(folder), ignore_errors=True)
            if folder.exists():
                os.replace(folder, _old(folder))
            os.replace(beside, folder)
            sync(self.folder)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error).strip().splitlines()[0]
            raise CheckpointError(
                f"{folder}: cannot be written ({reason}); what was saved before is whole, "
                "and the same command goes on from there"
            ) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(_old(folder), ignore_errors=True)


def check_present(model_dir):
    """Raises CheckpointError where the folder of a run has gone: nobody makes it anew, half."""
    if not (pathlib.Path(model_dir) / CONFIG_FILE).exists():
        raise CheckpointError(f"{model_dir}: has gone while the run used it, or its {CONFIG_FILE} has")


def write_model(model, folder):
    """Writes a model's weights and its config into a folder, and its parts where the config lacks them.

    Raises:
        CheckpointError: Keras has left out a weight.
    """
    write_weights(model, folder / WEIGHTS_FILE)
    config_lib.save(model.config, folder / CONFIG_FILE)
    if not model.is_assembled:
        files.write_json(folder / PARTS_FILE, keras.saving.serialize_keras_object(model))


def write_weights(model, path):
    """Writes a model's weights as Keras' `.weights.h5`.

    HDF5 makes the file in memory: on a disk that runs full it prints errors of its own or ends the process.

    Raises:
        CheckpointError: Keras has left out a weight.
    """
    file = io.BytesIO()
    store = saving_lib.H5IOStore(file, mode="w")
    saving_lib._save_state(
        model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set()
    )
    store.close()
    try:
        check_complete(model, file, path.name)
    except ValueError as error:
        raise CheckpointError(
            f"{path.parent}: Keras did not save every weight of the model ({error})"
        ) from None
    files.write_bytes(path, file.getbuffer())


def read_weights(model, folder, file=WEIGHTS_FILE):
    """Loads a checkpoint's weights into a model. Returns: the checkpoint's step.

    Raises:
        CheckpointError: they belong to another architecture.
    """
    read_weights_file(model, folder / file, folder)
    return state_of(folder)["step"]


def read_weights_file(model, path, name):
    """Loads a `.weights.h5` into a model, all of it.

    Args:
        model: `fpn_tf.models.detector.Detector`.
        path: of the file, of this version or the one before.
        name: of what it belongs to, for messages.

    Raises:
        CheckpointError: it belongs to another architecture.
    """
    try:
        with old_files.in_the_layout_of_today(path) as today:
            check_complete(model, today, today.name)
            model.load_weights(today)
    except (OSError, ValueError, KeyError) as error:
        raise _misfit(name, error) from None


def check_complete(model, file, name=WEIGHTS_FILE):
    """Raises ValueError unless a `.weights.h5` has as many arrays of each shape as the model has weights.

    Args:
        model: `fpn_tf.models.detector.Detector`.
        file: its path, or a file object.
        name: for the message.
    """
    shapes = []
    with h5py.File(file, "r") as h5:
        h5.visititems(
            lambda _, value: shapes.append(value.shape) if isinstance(value, h5py.Dataset) else None
        )
    surpluses = collections.Counter(shapes)
    surpluses.subtract(tuple(v.shape) for v in model.weights)
    for shape, surplus in surpluses.items():
        if surplus:
            kind = "more" if surplus > 0 else "fewer"
            raise ValueError(f"{name} has {abs(surplus)} {kind} arrays of shape {shape} than the model")


def write_optimizer(optimizer, folder):
    """Writes an optimizer's variables, by name, into a checkpoint's folder.

    Args:
        optimizer: Keras optimizer, built.
        folder: path of the checkpoint.
    """
    arrays = map(np.asarray, optimizer.variables)
    np.savez(folder / OPTIMIZER_FILE, **dict(zip(optimizer_names(optimizer), arrays, strict=True)))


def read_optimizer(optimizer, folder, new_prefixes=None):
    """Gives an optimizer's variables the values of a checkpoint: all of them or, with an error, none.

    Args:
        optimizer: Keras optimizer, built.
        folder: path of the checkpoint.
        new_prefixes: {old beginning of a name: new one}, of parts that were renamed since the
            checkpoint was written; see `variable_names.renamed`.

    Raises:
        CheckpointError: they are another optimizer's or another model's.
    """
    with np.load(folder / OPTIMIZER_FILE) as arrays:
        values = {renamed(name, new_prefixes or {}): arrays[name] for name in arrays.files}
    variables = dict(zip(optimizer_names(optimizer), optimizer.variables, strict=True))
    if all(name.isdigit() for name in values):  # version 0.1 stored them in order, without names
        if len(values) != len(variables):
            raise _misfit(folder, f"{OPTIMIZER_FILE} has {len(values)} variables, not {len(variables)}")
        values = dict(zip(variables, (values[number] for number in sorted(values))))
    faults = {
        "lacks": [name for name in variables if name not in values],
        "has besides": [name for name in values if name not in variables],
        "has another shape of": [
            f"{name} {list(values[name].shape)} for {list(variable.shape)}"
            for name, variable in variables.items()
            if name in values and values[name].shape != tuple(variable.shape)
        ],
    }
    if any(faults.values()):
        texts = (f"{fault} {_first(names)}" for fault, names in faults.items() if names)
        raise _misfit(folder, f"{OPTIMIZER_FILE} {'; '.join(texts)}")
    for name, variable in variables.items():
        variable.assign(values[name])


def _first(names, count=3):
    """The first few names, and how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def is_import(folder):
    """Whether a checkpoint (or None) holds imported weights, from which nothing was trained yet."""
    return folder is not None and not (folder / OPTIMIZER_FILE).exists()


def _misfit(folder, error):
    reason = str(error).strip().splitlines()[0]
    return CheckpointError(f"{folder}: does not fit the model of config.json ({reason})")


def _old(folder):
    return folder.with_name(f".{folder.name}.old")
