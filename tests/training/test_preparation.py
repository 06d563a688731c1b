"""What a run begins with: checks first, config.json once they are passed, and what is told."""

import json

import numpy as np
import pytest
from conftest import folder_overrides, make_coco_folder, make_quick_config

from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints
from fpn_tf.cluster import make_cluster
from fpn_tf.errors import CheckpointError, ConfigError, UserError
from fpn_tf.modes import train, train_and_eval
from fpn_tf.pretrained.model_dir import write_model_dir
from fpn_tf.training import loop
from fpn_tf.training.advice import schedule_findings
from fpn_tf.training.preparation import check_writable, prepared


@pytest.fixture
def folder_config(coco_folder):
    """A detector of one map on the drawn folder: built in half the time."""
    return config_lib.override(make_quick_config(), folder_overrides(coco_folder))


def overridden(config, *texts):
    return config_lib.override(config, texts)


def prepare(config, model_dir):
    """(Cluster, Config, Dataset) of a run that is not begun."""
    with prepared(config, model_dir) as run:
        return run


def one_class_more(folder):
    path = folder / "annotations.json"
    coco = json.loads(path.read_text())
    coco["categories"].append({"id": 91, "name": "one more"})
    path.write_text(json.dumps(coco))


# A start that fails -----------------------------------------------------------------------------


FAILURES = {
    "weights": (train, lambda folder: ["model.backbone_weights=/none.npz"]),
    "another run": (train, lambda folder: ["train.initial_model_dir=/none"]),
    "classes": (train, lambda folder: ["model.num_classes=5"]),
    "photos": (train, lambda folder: ["data.train_images=none"]),
    "held-out data": (train_and_eval, lambda folder: ["data.eval_annotations=none.json"]),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_start_that_fails_leaves_nothing(failure, folder_config, coco_folder, tmp_path):
    mode, spoil = FAILURES[failure]
    spoiled = overridden(folder_config, *spoil(coco_folder))
    with pytest.raises(UserError):
        mode(spoiled, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_get_model_that_fails_leaves_nothing(folder_config, tmp_path):
    def get_model(config):
        raise ConfigError("no such part")

    with pytest.raises(ConfigError, match="no such part"):
        train(folder_config, tmp_path / "run", get_model)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_config_is_written_as_the_run_starts(folder_config, tmp_path, idle_steps, monkeypatch):
    """A run that is killed before its first checkpoint goes on by its folder alone."""
    monkeypatch.setattr(loop._Run, "take_steps", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(folder_config, tmp_path / "run")
    saved = config_lib.load(tmp_path / "run" / "config.json")
    assert saved.data.class_names == ("red", "green", "blue")
    assert Checkpoints(tmp_path / "run").find() is None
    # Nothing is lost by another config then.
    wider = overridden(folder_config, "model.neck_channels=24", "train.seed=3")
    with pytest.raises(KeyboardInterrupt):
        train(wider, tmp_path / "run")
    assert config_lib.load(tmp_path / "run" / "config.json").model.neck_channels == 24


def test_where_there_is_a_checkpoint_another_config_is_refused(folder_config, coco_folder, tmp_path):
    _, settled, _ = prepare(folder_config, tmp_path / "run")
    config_lib.save(settled, tmp_path / "run" / "config.json")

    def write(folder):
        (folder / "model.weights.h5").write_bytes(b"")
        np.savez(folder / "optimizer.npz", a=np.zeros(1))

    Checkpoints(tmp_path / "run").save(2, write)
    before = (tmp_path / "run" / "config.json").read_bytes()
    for text in ("model.neck_channels=24", "train.seed=3"):
        with pytest.raises(CheckpointError, match=r"choose another --model_dir \(with train.initial_model"):
            train(overridden(folder_config, text), tmp_path / "run")
    # The run's own config on data of other classes, as a command without --experiment has it.
    one_class_more(coco_folder)
    with pytest.raises(CheckpointError, match=r"model.num_classes=3 \(this run asks for 4\).*initial_model"):
        train(settled, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


# Folders ----------------------------------------------------------------------------------------


def test_a_run_in_the_folder_of_a_checkpoint_is_refused(folder_config, tmp_path):
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ConfigError, match="is a checkpoint; expected the folder of a run"):
        check_writable(tmp_path)
    with pytest.raises(ConfigError, match="is a checkpoint"):
        train(folder_config, tmp_path)


@pytest.mark.parametrize("path", ["run", "run/", "other/../run", "run/checkpoints/step_00000002"])
def test_a_run_does_not_begin_with_itself(folder_config, tmp_path, path):
    (tmp_path / "other").mkdir()
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    config = overridden(folder_config, f"train.initial_model_dir={tmp_path}/{path}")
    with pytest.raises(ConfigError, match="is the run's own folder; expected another --model_dir"):
        prepare(config, tmp_path / "run")


# Another run's network, from folder to folder ------------------------------------------------------


def test_the_second_run_has_the_network_of_the_first(folder_config, tmp_path, idle_steps, capsys):
    _, settled, _ = prepare(folder_config, tmp_path / "first")
    write_model_dir(build(settled), tmp_path / "first")
    root = make_coco_folder(tmp_path / "more")
    one_class_more(root)
    first = config_lib.load(tmp_path / "first" / "config.json")
    start = f"train.initial_model_dir={tmp_path}/first"
    second = config_lib.beginning_of(first)
    second = config_lib.override(second, [start, *folder_overrides(root)])
    capsys.readouterr()
    train(second, tmp_path / "second")
    told = capsys.readouterr().out
    assert "starting with backbone, neck, rpn, box_head of " in told
    assert "the predictor is new: 4 classes, not their 3" in told
    saved = config_lib.load(tmp_path / "second" / "config.json")
    assert saved.data.class_names == ("red", "green", "blue", "one more")
    assert saved.model.num_classes == 4
    assert Checkpoints(tmp_path / "second").find().name == "step_00000004"


# The schedule -----------------------------------------------------------------------------------


def trained_by(**changes):
    return config_lib.replace(config_lib.Config(), **{f"train.{k}": v for k, v in changes.items()}).train


@pytest.mark.parametrize(("steps", "warmup"), [(90000, 1000), (3000, 1000), (147, 49), (5, 0), (1, 0)])
def test_a_usual_warm_up_is_not_remarked_on(steps, warmup):
    assert schedule_findings(trained_by(steps=steps, warmup_steps=warmup)) == []


def test_a_warm_up_that_never_ends_is_told_with_what_is_reached():
    train_config = trained_by(steps=200, warmup_steps=1000, batch_size=4)
    share = 0.001 * (1 - 0.133) + 0.133  # at step 133 of 1000, before the first drop to a tenth
    assert round(2 / 3 * 200) == 133
    expected = 0.005 * max(0.001 * (1 - 132 / 1000) + 132 / 1000, 0.1 * share)
    [finding] = schedule_findings(train_config)
    assert f"reaches {expected:.2g} of 0.005;" in finding
    assert finding.startswith("train.warmup_steps=1000 is more than a third of train.steps=200: ")
    assert finding.endswith("expected at most train.warmup_steps=66")


@pytest.mark.parametrize("schedule", ["step", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 10, 90])
def test_what_is_reached_is_the_highest_of_all_steps(schedule, steps):
    settings = trained_by(
        steps=steps, warmup_steps=60, schedule=schedule, learning_rate=0.02, decay_at=(0.9,)
    )
    rates = []
    for step in range(steps):
        progress = min(step / 60, 1)
        shape = 0.5 * (1 + np.cos(np.pi * step / steps)) if schedule == "cosine" else 1
        if schedule == "step" and step >= round(0.9 * steps):
            shape = 0.1
        rates.append(0.02 * shape * (0.001 * (1 - progress) + progress))
    assert f"reaches {max(rates):.2g} of 0.02;" in schedule_findings(settings)[0]


def test_a_run_tells_it_before_its_first_step(folder_config, tmp_path, capsys):
    prepare(overridden(folder_config, "train.warmup_steps=3"), tmp_path / "run")
    assert "note: train.warmup_steps=3 is more than a third of train.steps=4" in capsys.readouterr().out
    assert make_cluster().is_chief
