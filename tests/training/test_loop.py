import dataclasses
import errno
import itertools
import json
import os
import pathlib
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
from conftest import folder_overrides, make_coco_folder, make_quick_config, make_tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fpn_tf import FasterRCNN, checkpoint
from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints, read_weights
from fpn_tf.checkpoint_state import state_of
from fpn_tf.cluster import make_cluster
from fpn_tf.config import override
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.plan import training_plan
from fpn_tf.errors import CheckpointError, ConfigError, DataError, InterruptedRunError, NonFiniteLossError
from fpn_tf.training import loop
from fpn_tf.training.step import StepResult, make_train_step

LOSSES = ("rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss", "total_loss")


def run(config, model_dir, evaluate=None):
    model_dir.mkdir(exist_ok=True)
    return loop.train(config, open_dataset(config.data, "train"), model_dir, make_cluster(), evaluate)


@pytest.fixture(scope="module", params=["c4", pytest.param("fpn", marks=pytest.mark.slow)])
def finished(tmp_path_factory, request):
    """A run of four steps, portrait and landscape in turn: (config, model_dir, weights)."""
    folder = tmp_path_factory.mktemp("loop")
    root = make_coco_folder(folder / "data")
    make_config = make_quick_config if request.param == "c4" else make_tiny_config
    config = override(make_config(), folder_overrides(root))
    traces, original = [], FasterRCNN.compute_losses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FasterRCNN, "compute_losses", lambda *a: traces.append(1) or original(*a))
        model, step = run(config, folder / "whole")
    assert step == 4
    assert len(traces) == 1  # one serves every canvas
    records = open_dataset(config.data, "train").records
    assert len({p.canvas for p in itertools.islice(training_plan(records, config.data, 2, 0), 4)}) == 2
    return config, folder / "whole", model.get_weights()


@pytest.fixture
def trained(finished, tmp_path):
    """`finished`, its model_dir copied so that a test may change it."""
    config, model_dir, weights = finished
    shutil.copytree(model_dir, tmp_path / "whole")
    return config, tmp_path / "whole", weights


def test_a_run_logs_and_checkpoints(trained):
    config, model_dir, weights = trained
    lines = [json.loads(line) for line in (model_dir / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    wanted = {"step", "rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss", "total_loss"}
    assert wanted | {"learning_rate", "images_per_second"} == set(lines[0])
    events = EventAccumulator(str(model_dir)).Reload()
    assert {"loss/rpn_box_loss", "loss/total_loss", "train/learning_rate"} < set(events.Tags()["scalars"])
    assert [(event.step, event.value) for event in events.Scalars("loss/total_loss")] == [
        (line["step"], pytest.approx(line["total_loss"])) for line in lines
    ]
    checkpoints = Checkpoints(model_dir)
    assert checkpoints.find().name == "step_00000004"
    again = build(config)
    assert read_weights(again, checkpoints.find()) == 4
    for a, b in zip(weights, again.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_run_that_was_cut_off_ends_bit_equal(trained, tmp_path):
    config, _, weights = trained

    def cut(model, step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(override(config, ["train.eval_every=3"]), tmp_path / "cut", cut)
    checkpoints = Checkpoints(tmp_path / "cut")
    assert checkpoints.find().name == "step_00000003"
    evaluated = []

    def evaluate(model, step):
        evaluated.append(step)
        return 1 / step

    model, _ = run(override(config, ["train.eval_every=3"]), tmp_path / "cut", evaluate)
    for a, b in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert evaluated == [3, 4]  # the evaluation that was cut off is made up for
    assert state_of(checkpoints.find("best"))["step"] == 3
    assert state_of(checkpoints.find())["AP"] == 0.25


def test_sigterm_saves_before_leaving(trained, tmp_path, idle_steps):
    config, _, _ = trained
    whole = open_dataset(config.data, "train")

    def read_bytes(index):
        if index not in read:
            os.kill(os.getpid(), signal.SIGTERM)
        read.add(index)
        return whole.read_bytes(index)

    read = set()
    dataset = dataclasses.replace(whole, read_bytes=read_bytes)
    (tmp_path / "term").mkdir()
    with pytest.raises(InterruptedRunError, match="SIGTERM at step"):
        loop.train(config, dataset, tmp_path / "term", make_cluster())
    assert Checkpoints(tmp_path / "term").find() is not None


@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(n, marks=pytest.mark.slow) for n in ("SIGHUP", "SIGINT"))]
)
def test_a_signal_ends_an_evaluation(name, trained, tmp_path, idle_steps):
    """The checkpoint is there; the next run makes up for the evaluation."""
    config, _, _ = trained
    config = override(config, ["train.eval_every=3"])

    def interrupted(model, step):
        os.kill(os.getpid(), signal.Signals[name])
        raise AssertionError("it went on")

    with pytest.raises(InterruptedRunError, match=f"{name} at step 3: saved; the same command") as error:
        run(config, tmp_path / "run", interrupted)
    assert error.value.exit_status == 128 + signal.Signals[name]
    checkpoints, evaluated = Checkpoints(tmp_path / "run"), []
    assert checkpoints.find().name == "step_00000003"
    run(config, tmp_path / "run", lambda model, step: evaluated.append(step) or 0.5)
    assert evaluated == [3, 4]


def test_a_signal_at_the_last_step_ends_the_run_before_its_evaluation(trained, tmp_path, monkeypatch):
    config, _, _ = trained

    def make(model, optimizer, *rest):
        def step(x, y, stop):
            if optimizer.iterations.numpy() == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            optimizer.iterations.assign_add(1)
            return StepResult(dict.fromkeys((*model.loss_names, "total_loss"), 1.0), True, stop)

        return step

    monkeypatch.setattr(loop, "make_train_step", make)
    with pytest.raises(InterruptedRunError, match="SIGTERM at step 4: saved"):
        run(config, tmp_path / "run", lambda model, step: pytest.fail("evaluated"))
    assert Checkpoints(tmp_path / "run").find().name == "step_00000004"


def test_steps_are_saved_before_photos_that_have_gone_end_the_run(trained, tmp_path, idle_steps):
    """Step 3, where a checkpoint is due at 2 and 4."""
    config, _, _ = trained
    whole, reads = open_dataset(config.data, "train"), itertools.count()

    def read_bytes(index):
        if next(reads) >= 2 * 3:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return whole.read_bytes(index)

    (tmp_path / "run").mkdir()
    config = override(config, ["data.workers=1"])
    with pytest.raises(DataError, match="no readable photo of this shape is left"):
        loop.train(
            config, dataclasses.replace(whole, read_bytes=read_bytes), tmp_path / "run", make_cluster()
        )
    assert Checkpoints(tmp_path / "run").find().name == "step_00000003"


def test_a_log_that_cannot_be_written_ends_the_run_after_saving(trained, tmp_path, idle_steps):
    config, _, _ = trained
    config = override(config, ["train.log_every=1"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.jsonl").mkdir()  # whatever it is: no file to write to
    with pytest.raises(OSError, match=f"{tmp_path}/run/train.jsonl"):
        run(config, tmp_path / "run")


def test_a_folder_that_has_gone_is_not_made_again(trained, tmp_path, monkeypatch, idle_steps):
    config, _, _ = trained
    monkeypatch.setattr(loop.Progress, "step", lambda *arguments: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/run: has gone while the run used it"):
        run(override(config, ["train.checkpoint_every=1"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_where_all_checkpoints_are_damaged_the_run_begins_anew_and_says_so(
    trained, capsys, idle_steps, caplog
):
    config, model_dir, _ = trained
    for file in model_dir.glob("checkpoints/*/model.weights.h5"):
        file.write_bytes(b"damaged")
    _, step = run(config, model_dir)
    assert step == 4
    text = "is whole: the run begins at step 0; they are kept as damaged_step_*"
    assert f"note: no checkpoint in {model_dir}/checkpoints {text}" in capsys.readouterr().out
    for name in ("step_00000002", "step_00000004"):
        kept = model_dir / "checkpoints" / f"damaged_{name}" / "model.weights.h5"
        assert kept.read_bytes() == b"damaged"
        assert Checkpoints(model_dir).find(name) is not None


def test_a_finished_run_is_left_alone(trained):
    config, model_dir, _ = trained
    before = (model_dir / "train.jsonl").read_text()
    _, step = run(config, model_dir)
    assert step == 4
    assert (model_dir / "train.jsonl").read_text() == before


def test_a_damaged_checkpoint_is_passed_over(trained, caplog):
    _, model_dir, _ = trained
    file = model_dir / "checkpoints" / "step_00000004" / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:-100])
    assert Checkpoints(model_dir).find().name == "step_00000002"


def test_the_newest_and_the_best_are_kept(trained, tmp_path, idle_steps):
    config, _, _ = trained
    averages = iter([0.3, 0.5, 0.4])
    few = [f"train.{key}" for key in ("steps=6", "eval_every=2", "keep_checkpoints=1", "checkpoint_every=1")]
    run(override(config, [*few, "train.keep_every=3"]), tmp_path / "best", lambda *at: next(averages))
    folders = sorted(p.name for p in (tmp_path / "best" / "checkpoints").iterdir())
    assert folders == ["best", "step_00000003", "step_00000006"]
    state = json.loads((tmp_path / "best" / "checkpoints" / "best" / "state.json").read_text())
    assert (state["step"], state["AP"]) == (4, 0.5)


def test_patience_ends_a_run_whose_ap_does_not_rise(trained, tmp_path, idle_steps, capsys):
    config, _, _ = trained
    settings = override(config, ["train.steps=9", "train.eval_every=1", "train.patience=2"])
    averages = iter([0.3, 0.5, 0.4, 0.5, 0.6, 0.5, 0.5, 0.5])
    _, step = run(settings, tmp_path / "run", lambda *at: next(averages))
    assert step == 4
    assert (
        "AP has not risen in 2 evaluations: ended at step 4 of 9; the best is of step 2"
        in capsys.readouterr().out
    )
    _, step = run(settings, tmp_path / "run", lambda *at: next(averages))
    assert step == 4  # the same again
    _, step = run(override(settings, ["train.patience=3"]), tmp_path / "run", lambda *at: next(averages))
    assert step == 8
    assert state_of(Checkpoints(tmp_path / "run").find("best"))["step"] == 5


def test_patience_needs_evaluations(trained):
    with pytest.raises(ConfigError, match=r"train\.patience=2: expected train\.eval_every above 0"):
        override(trained[0], ["train.patience=2"]).validate()


def test_another_architecture_is_refused(trained):
    config, model_dir, _ = trained
    other = build(config_lib.replace(config, **{"model.roi.hidden_units": 24}))
    checkpoints = Checkpoints(model_dir)
    with pytest.raises(CheckpointError, match="does not fit the model of config.json"):
        read_weights(other, checkpoints.find())


def test_a_loss_that_is_not_finite_ends_the_run(quick_config, coco_folder, tmp_path):
    changes = ["train.learning_rate=1e30", "train.warmup_steps=0"]
    wild = override(quick_config, [*folder_overrides(coco_folder), *changes])
    with pytest.raises(NonFiniteLossError) as caught:
        run(wild, tmp_path / "wild")
    told = str(caught.value)
    assert "not finite at step 2 (" in told
    assert "head_class_loss nan" in told
    assert "train.learning_rate=1e+30 is much for 2 images a step: 0.0025 is usual" in told
    dataset = open_dataset(wild.data, "train")
    plan = list(itertools.islice(training_plan(dataset.records, wild.data, 2, 0), 2))[1]
    assert f"image ids {', '.join(str(dataset.records[i].image_id) for i in plan.indices)}" in told
    assert Checkpoints(tmp_path / "wild").find() is None


def test_a_bad_batch_can_be_passed_over(trained, tmp_path, monkeypatch):
    config, _, _ = trained
    config = override(config, ["train.on_nonfinite=restore", "train.max_restores=1", "train.steps=6"])
    taken = []

    def make(model, optimizer, *rest):
        """Adds 1 to a weight at every step, and spoils it at the fourth."""

        def step(x, y, stop):
            optimizer.iterations.assign_add(1)
            taken.append(int(optimizer.iterations))
            finite = taken[-1] != 4
            weight = model.trainable_variables[0]
            weight.assign(weight + (1 if finite else np.nan))
            return StepResult(dict.fromkeys(LOSSES, 1.0), finite, stop)

        return step

    monkeypatch.setattr(loop, "make_train_step", make)
    keras.utils.set_random_seed(config.train.seed)
    start = np.array(build(config).trainable_variables[0])
    model, step = run(config, tmp_path / "skip")
    assert step == 6
    assert taken == [1, 2, 3, 4, 3, 5, 6]  # back to the checkpoint of step 2
    np.testing.assert_allclose(model.trainable_variables[0], start + 5, rtol=1e-5)
    newest = Checkpoints(tmp_path / "skip").find()
    assert state_of(newest)["skipped"] == [4]
    with np.load(newest / "optimizer.npz") as arrays:
        assert int(arrays["iteration"]) == 6  # the schedule went on

    # A run that is cut off after it passes over the same batch.
    shutil.rmtree(newest)
    taken.clear()
    run(config, tmp_path / "skip")
    assert taken == [5, 6]


@pytest.mark.slow
def test_a_batch_that_was_passed_over_stays_so_bit_equal(trained, tmp_path, monkeypatch):
    config, _, _ = trained
    config = override(config, ["train.on_nonfinite=restore", "train.max_restores=1", "train.steps=6"])

    def make(model, optimizer, *rest):
        step = make_train_step(model, optimizer, *rest)

        def spoiled(x, y, stop):
            result = step(x, y, stop)
            if int(optimizer.iterations) != 4:
                return result
            model.trainable_variables[0].assign(model.trainable_variables[0] * np.nan)
            return result._replace(finite=False)

        return spoiled

    monkeypatch.setattr(loop, "make_train_step", make)
    model, _ = run(config, tmp_path / "skip")
    assert all(np.isfinite(w).all() for w in model.get_weights())
    shutil.rmtree(Checkpoints(tmp_path / "skip").find())
    monkeypatch.setattr(loop, "make_train_step", make_train_step)
    again, _ = run(config, tmp_path / "skip")
    for a, b in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_host_memory_is_flat_over_2000_steps(trained, tmp_path, monkeypatch):
    config, _, _ = trained
    config = override(config, ["train.steps=2000", "train.checkpoint_every=2000", "train.learning_rate=1e-5"])
    traces, resident = [], []
    original, make = FasterRCNN.compute_losses, make_train_step
    monkeypatch.setattr(FasterRCNN, "compute_losses", lambda *a: traces.append(1) or original(*a))

    def watched(*arguments):
        step = make(*arguments)

        def one(x, y, stop):
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * resource.getpagesize() / 1e6)
            return step(x, y, stop)

        return one

    monkeypatch.setattr(loop, "make_train_step", watched)
    run(config, tmp_path / "long")
    assert len(resident) == 2000
    assert len(traces) == 1
    assert np.median(resident[1900:]) < np.median(resident[400:500]) + 20  # MB


def test_going_back_has_an_end(trained, tmp_path, monkeypatch):
    config, _, _ = trained
    taken = []

    def make(model, optimizer, *rest):
        def never_finite(x, y, stop):
            taken.append(int(optimizer.iterations))
            return StepResult(dict.fromkeys(LOSSES, float("nan")), True, False)

        return never_finite

    monkeypatch.setattr(loop, "make_train_step", make)
    with pytest.raises(NonFiniteLossError, match="step 3"):
        run(override(config, ["train.on_nonfinite=restore", "train.max_restores=2"]), tmp_path / "often")
    assert taken == [0, 1, 2]  # the first two were passed over


def test_a_full_disk_loses_nothing(trained, tmp_path, monkeypatch, idle_steps):
    config, model_dir, _ = trained
    before = Checkpoints(model_dir).find()

    def full(model, folder):
        (folder / "model.weights.h5").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_model", full)
        with pytest.raises(CheckpointError, match=r"step_00000006: cannot be written \(No space left"):
            run(override(config, ["train.steps=6"]), model_dir)
    assert Checkpoints(model_dir).find() == before
    assert not list(Checkpoints(model_dir).folder.glob(".*"))  # the half is gone

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(CheckpointError, match=r"step_00000006: cannot be written \(No space left"):
        run(override(config, ["train.steps=6"]), model_dir)
    assert Checkpoints(model_dir).find() == before


@pytest.mark.slow
def test_averaged_weights(trained, tmp_path):
    """The first step's weights, then 0.9 of the average and 0.1 of the new ones."""
    config, _, weights = trained
    averages, seen = None, []

    def evaluate(model, step):
        seen.append([np.array(w) for w in model.trainable_variables])
        return 0.5

    every = override(config, ["train.ema_decay=0.9", "train.eval_every=1", "train.keep_checkpoints=9"])
    model, _ = run(every, tmp_path / "ema", evaluate)
    checkpoints = Checkpoints(tmp_path / "ema")
    for step in (1, 2, 3, 4):
        folder = checkpoints.folder / f"step_{step:08d}"
        trained_model = build(config)
        read_weights(trained_model, folder, "training.weights.h5")
        own = [np.array(w) for w in trained_model.trainable_variables]
        averages = own if averages is None else [0.9 * a + 0.1 * b for a, b in zip(averages, own)]
        for a, b in zip(averages, seen[step - 1]):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    loaded = load_model_dir_weights(config, checkpoints.find())
    for a, b, c in zip(averages, loaded.trainable_variables, model.trainable_variables):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(b, c)

    # Averaging changes nothing of the training itself.
    for a, b in zip(weights, trained_model.get_weights()):
        np.testing.assert_array_equal(a, b)


def load_model_dir_weights(config, folder):
    model = build(config)
    read_weights(model, folder)
    return model


@pytest.mark.slow
def test_rematerialisation_changes_nothing_but_the_memory(trained, tmp_path):
    config, _, weights = trained
    model, _ = run(override(config, ["train.remat=true"]), tmp_path / "remat")
    for a, b in zip(weights, model.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("precision=mixed_float16", "optimizer=adamw", "ema_decay=0.5"),
        ("precision=mixed_float16",),
        ("precision=mixed_bfloat16",),
        ("optimizer=adamw",),
    ],
)
def test_other_ways_to_train(trained, tmp_path, changes):
    config, _, weights = trained
    model, _ = run(override(config, [f"train.{change}" for change in changes]), tmp_path / "other")
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert any((a != b).any() for a, b in zip(weights, model.get_weights()))
