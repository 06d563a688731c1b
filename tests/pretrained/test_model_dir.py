"""A run, and each of its checkpoints, by the paths that users have."""

import numpy as np
import pytest

import fpn_tf
from fpn_tf import config
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints, write_model
from fpn_tf.errors import CheckpointError, UserError
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.pretrained.parts import start_from

STEPS = (25, 50)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model_dir with checkpoints of two steps; the best is the first. A bias of the net is the step."""
    from conftest import make_quick_config

    folder = tmp_path_factory.mktemp("runs") / "mine"
    model = build(make_quick_config())
    config.save(model.config, folder / "config.json")
    checkpoints = Checkpoints(folder)
    for step in STEPS:
        mark(model, step)
        checkpoints.save(step, lambda beside: write_model(model, beside))
        checkpoints.rate(step, 1 / step)
    return folder


def mark(model, step):
    bias = model.rpn.head.objectness.bias
    bias.assign(np.full(bias.shape, step))


def step_of(model):
    return float(np.asarray(model.rpn.head.objectness.bias)[0])


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("", 50),
        ("checkpoints/step_00000025", 25),
        ("checkpoints/step_00000050/", 50),
        ("checkpoints/best", 25),
        ("checkpoints/step_00000025/model.weights.h5", 25),
    ],
)
def test_load_takes_a_run_and_each_of_its_checkpoints(run, path, step):
    assert step_of(fpn_tf.load(run / path)) == step


def test_load_expands_the_home_folder(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert step_of(fpn_tf.load("~/mine/checkpoints/step_00000025")) == 25


@pytest.mark.parametrize(
    ("which", "step"), [("newest", 50), ("best", 25), ("25", 25), (50, 50), ("step_00000025", 25)]
)
def test_a_checkpoint_by_its_step(run, which, step):
    _, model, read_step = load_model_dir(run, checkpoint=which)
    assert (step_of(model), read_step) == (step, step)


def test_a_step_without_a_checkpoint(run):
    with pytest.raises(CheckpointError, match=r"no whole checkpoint \(30\); the steps there are: 25, 50"):
        load_model_dir(run, checkpoint="30")


def test_a_copy_of_a_checkpoint_serves_alone_and_a_damaged_one_is_told(run, tmp_path):
    import shutil

    copy = tmp_path / "copied"
    shutil.copytree(run / "checkpoints" / "step_00000025", copy)
    assert step_of(fpn_tf.load(copy)) == 25
    weights = copy / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="copied: is damaged; expected a whole checkpoint"):
        fpn_tf.load(copy)


def test_a_run_begins_with_a_checkpoint_of_another(run):
    model = build(load_model_dir(run)[0])
    assert f"of {run}/checkpoints/step_00000025 (step 25)" in start_from(
        model, f"{run}/checkpoints/step_00000025"
    )
    assert step_of(model) == 25


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("typo", "typo: no such folder; expected a model_dir, the folder of one of its checkpoints, or a"),
        ("runs/v1.2", "runs/v1.2: no such folder; expected a model_dir"),
        ("lost.pth", "lost.pth: No such file or directory; expected a file of weights"),
        ("lost.npz", "lost.npz: No such file or directory; expected an .npz of weights"),
        ("lost/x.weights.h5", "lost: no such folder; expected a model_dir"),
        ("empty", "empty/config.json: no such file; expected a model_dir"),
        ("notes.txt", "notes.txt: expected a file ending in .npz, .pth, .pt, .pkl"),
    ],
)
def test_what_is_no_detector(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError) as caught:
        fpn_tf.load(path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
