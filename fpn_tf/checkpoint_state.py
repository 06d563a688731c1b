"""What tells a whole checkpoint from a damaged one: the hashes in its state.json."""

import hashlib
import json
import os
import pathlib
import re

from fpn_tf import files
from fpn_tf.errors import CheckpointError

STATE_FILE, WEIGHTS_FILE = "state.json", "model.weights.h5"
STEP_PREFIX = "step_"  # of a checkpoint's folder, before eight digits


def is_checkpoint(folder):
    """Whether a folder is that of a checkpoint, whole or not, wherever it lies."""
    return (pathlib.Path(folder) / STATE_FILE).is_file()


def check_whole(folder):
    """Raises CheckpointError where the folder of a checkpoint is damaged."""
    if not is_whole(folder):
        raise CheckpointError(f"{folder}: is damaged; expected a whole checkpoint")


def state_of(folder):
    """The dict in a checkpoint's state.json, see `Checkpoints.save`; {} where it holds none."""
    try:
        state = files.json_of((folder / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def hash_of(state, name):
    """The hash of a file of a checkpoint, by its state; "" where that tells none."""
    hashes = state.get("files")
    return hashes.get(name, "") if isinstance(hashes, dict) else ""


def is_rated_by(state, scored_by):
    """Whether a checkpoint's state has an AP that compares with one of `scored_by`, see `Checkpoints.rate`.

    An AP of the version before, which does not say what it was scored by, does.
    """
    return "AP" in state and (scored_by is None or state.get("scored_by", scored_by) == scored_by)


def seal(folder, state):
    """Has a checkpoint's files last, and writes its state with the hash of each."""
    names = sorted(path.name for path in folder.iterdir() if path.name != STATE_FILE)
    for name in names:
        sync(folder / name)
    state["files"] = {name: _fingerprint(folder / name) for name in names}
    write_state(folder, state)
    sync(folder)


def write_state(folder, state):
    """Writes state.json with its own hash; the others in it stay as they are."""
    files.write_json(folder / STATE_FILE, state | {"state": _fingerprint_of_state(state)})


def _fingerprint_of_state(state):
    """The hash of a state.json's values, but for the hash itself."""
    values = {name: value for name, value in state.items() if name != "state"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _fingerprint(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path):
    """Makes a file's content, or a folder's entries, last through a machine's restart."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def step_in_name(folder):
    """The step in the name of a checkpoint's folder."""
    return int(folder.name.removeprefix(STEP_PREFIX))


def is_whole(folder):
    """Whether all that a checkpoint's state.json tells of is in its folder, as it was written."""
    state = state_of(folder)
    try:
        return _is_sound(state, folder) and all(
            _fingerprint(folder / name) == fingerprint for name, fingerprint in state["files"].items()
        )
    except OSError:
        return False


def _is_sound(state, folder):
    """Whether a state.json holds what was written for its folder."""
    step, hashes = state.get("step"), state.get("files")
    if type(step) is not int or not isinstance(hashes, dict):  # True is no step
        return False
    if re.fullmatch(STEP_PREFIX + "[0-9]{8}", folder.name) and step != step_in_name(folder):
        return False
    if "state" in state:
        return state["state"] == _fingerprint_of_state(state)
    return WEIGHTS_FILE in hashes and _has_usual_values(state)  # the version before wrote no such hash


def _has_usual_values(state):
    skipped = state.get("skipped", [])
    are_steps = isinstance(skipped, list) and all(type(step) is int for step in skipped)
    return are_steps and type(state.get("AP", 0.0)) in (int, float)
