"""Checkpoints that are whole, and every way in which one is not."""

import errno
import json
import os
import shutil

import keras
import numpy as np
import pytest

from fpn_tf import checkpoint, checkpoint_state, files
from fpn_tf.checkpoint import Checkpoints
from fpn_tf.checkpoint_state import is_whole, state_of
from fpn_tf.errors import CheckpointError


def write(folder):
    for name in ("model.weights.h5", "optimizer.npz", "config.json"):
        (folder / name).write_bytes(name.encode() * 99)


@pytest.fixture
def checkpoints(tmp_path):
    """Of steps 2 and 4; the better is 2."""
    checkpoints = Checkpoints(tmp_path)
    for step, quality in ((2, 0.5), (4, 0.25)):
        checkpoints.save(step, write, skipped=[1])
        checkpoints.rate(step, quality)
    return checkpoints


def changed(**values):
    return lambda state: state | values


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


ODD_STATES = {
    "another step": changed(step=6),
    "a step of another kind": changed(step=4.0),
    "a step as text": changed(step="4"),
    "a step that is true": changed(step=True),
    "no step": without("step"),
    "no hashes": without("files"),
    "hashes as a list": changed(files=["model.weights.h5"]),
    "hashes of nothing": changed(files={}),
    "another quality": changed(AP=0.9),
    "other skipped steps": changed(skipped=[3]),
    "a value more": changed(more=1),
    "another hash of its own": changed(state="0" * 64),
    "a list": lambda state: [state],
    "nothing": lambda state: None,
    "a number": lambda state: 4,
}


@pytest.mark.parametrize("odd", ODD_STATES)
def test_an_odd_state_is_passed_over_and_the_older_checkpoint_tried(odd, checkpoints, caplog):
    path = checkpoints.folder / "step_00000004" / "state.json"
    path.write_text(json.dumps(ODD_STATES[odd](json.loads(path.read_text()))))
    assert checkpoints.find().name == "step_00000002"
    assert "step_00000004 is damaged" in caplog.text
    assert checkpoints.find(4) is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"{", b"[" * 99999, b'{"step": 4', "directory", "nothing"], ids=str
)
def test_a_state_that_cannot_be_read_is_passed_over(content, checkpoints):
    path = checkpoints.folder / "step_00000004" / "state.json"
    path.unlink()
    if content == "directory":
        path.mkdir()
    elif content != "nothing":
        path.write_bytes(content)
    assert checkpoints.find().name == "step_00000002"


@pytest.mark.parametrize("name", ["model.weights.h5", "optimizer.npz", "config.json"])
@pytest.mark.parametrize("spoil", ["cut", "bit", "gone"])
def test_a_file_that_is_not_as_it_was_written(name, spoil, checkpoints):
    path = checkpoints.folder / "step_00000004" / name
    data = path.read_bytes()
    path.unlink()
    if spoil != "gone":
        path.write_bytes(data[:-1] if spoil == "cut" else bytes([data[0] ^ 1]) + data[1:])
    assert checkpoints.find().name == "step_00000002"


def test_the_folder_of_another_step_is_none(checkpoints):
    shutil.copytree(checkpoints.folder / "step_00000004", checkpoints.folder / "step_00000006")
    assert checkpoints.find().name == "step_00000004"
    shutil.copytree(checkpoints.folder / "step_00000004", checkpoints.folder / "kept")
    assert is_whole(checkpoints.folder / "kept")  # a name of a user's own says no step


def test_ratings_are_in_the_hash_and_whole(checkpoints):
    assert [state_of(checkpoints.find(which))["AP"] for which in (2, 4, "best")] == [0.5, 0.25, 0.5]
    path = checkpoints.folder / "best" / "state.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    assert checkpoints.find("best") is None


def old(folder, **values):
    """Makes a checkpoint one of the version before, whose state has no hash of its own."""
    path = folder / "state.json"
    state = json.loads(path.read_text())
    del state["state"]
    path.write_text(json.dumps(state | values))


def test_checkpoints_of_the_version_before_are_whole(checkpoints):
    old(checkpoints.folder / "step_00000004")
    assert checkpoints.find().name == "step_00000004"


@pytest.mark.parametrize(
    "values", [{"step": 6}, {"files": {}}, {"AP": "0.5"}, {"AP": None}, {"skipped": 3}, {"skipped": ["1"]}]
)
def test_odd_states_of_the_version_before(values, checkpoints):
    old(checkpoints.folder / "step_00000004", **values)
    assert checkpoints.find().name == "step_00000002"


def damage_steps(checkpoints):
    for folder in checkpoints.folder.glob("step_*"):
        (folder / "model.weights.h5").write_bytes(b"")


def test_where_all_steps_are_damaged_the_best_counts(checkpoints):
    damage_steps(checkpoints)
    assert checkpoints.find().name == "best"
    shutil.rmtree(checkpoints.folder / "best")
    assert checkpoints.find() is None


def test_without_any_step_the_best_is_no_run_to_go_on_with(checkpoints):
    for folder in checkpoints.folder.glob("step_*"):
        shutil.rmtree(folder)
    assert checkpoints.find() is None


def test_what_is_set_aside_stays_as_it_is(checkpoints):
    damage_steps(checkpoints)
    checkpoints.set_aside()
    assert checkpoints.steps() == []
    checkpoints.save(2, write)
    assert (checkpoints.folder / "damaged_step_00000002" / "model.weights.h5").read_bytes() == b""
    assert checkpoints.find().name == "step_00000002"


# Disks that fail ----------------------------------------------------------------------------------


@pytest.fixture
def model():
    model = keras.Sequential([keras.layers.Dense(3, name="dense")])
    model.build((None, 2))
    return model


def failing(number):
    def call(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize(("module", "call"), [(files.os, "fsync"), (files.os, "replace")])
def test_weights_on_a_disk_that_fails(module, call, number, model, checkpoints, monkeypatch, capfd):
    monkeypatch.setattr(module, call, failing(number))
    reason = rf"step_00000006: cannot be written \({os.strerror(number)}\); what was saved before is whole"
    with pytest.raises(CheckpointError, match=reason):
        checkpoints.save(6, lambda folder: checkpoint.write_weights(model, folder / "model.weights.h5"))
    monkeypatch.undo()
    assert checkpoints.find().name == "step_00000004"
    assert not list(checkpoints.folder.glob(".*"))
    assert capfd.readouterr() == ("", "")


def test_weights_are_those_that_keras_reads(model, tmp_path):
    path = tmp_path / "model.weights.h5"
    checkpoint.write_weights(model, path)
    values = model.get_weights()
    model.set_weights([np.zeros_like(value) for value in values])
    model.load_weights(path)
    for value, read in zip(values, model.get_weights(), strict=True):
        np.testing.assert_array_equal(read, value)


def test_weights_that_keras_leaves_out_are_told(model, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.saving_lib, "_save_state", lambda *arguments, **keywords: None)
    with pytest.raises(CheckpointError, match="Keras did not save every weight of the model"):
        checkpoint.write_weights(model, tmp_path / "model.weights.h5")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_cannot_remove_what_is_old_keeps_it(checkpoints, monkeypatch):
    monkeypatch.setattr(checkpoint_state.os, "rmdir", failing(errno.EBUSY))
    for step in (6, 8, 10):
        checkpoints.save(step, write)
    assert checkpoints.find().name == "step_00000010"
