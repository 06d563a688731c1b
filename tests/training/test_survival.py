"""Runs that are killed, and runs of several processes, end with the weights of one that was not."""

import hashlib
import json
import random
import shutil
import subprocess
import time

import numpy as np
import pytest
from commands import SMALL, command, ended, main, start, start_slurm_tasks, start_workers
from conftest import folder_overrides, make_coco_folder

from fpn_tf.checkpoint import Checkpoints

STEPS = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process to its end: (overrides, model_dir)."""
    folder = tmp_path_factory.mktemp("survival")
    root = make_coco_folder(folder / "data")
    overrides = [
        *SMALL,
        *folder_overrides(root),
        f"train.steps={STEPS}",
        "train.batch_size=6",
        "train.log_every=1",
        "train.checkpoint_every=1",
        "train.learning_rate=0.003",
        "train.clip_norm=0.5",
        "train.ema_decay=0.5",
        "data.keep_empty=true",
        "data.train_short_sides=56,64",
        "eval.batch_size=1",
    ]
    status, _, errors = main(*command("train", folder / "whole"), overrides=overrides)
    assert status == 0, errors
    return overrides, folder / "whole"


def fingerprints(model_dir):
    """Hashes of everything that a run carries, at its last step."""
    folder = Checkpoints(model_dir).find()
    names = ("model.weights.h5", "training.weights.h5", "optimizer.npz")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def averages_and_velocities(model_dir):
    with np.load(Checkpoints(model_dir).find() / "optimizer.npz") as arrays:
        return [arrays[name] for name in sorted(arrays.files)]


def check_same_training(one, other):
    """The run `other` trained as `one` did, but for the order of sums."""
    for a, b in zip(averages_and_velocities(one), averages_and_velocities(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    lines = [map(json.loads, (path / "train.jsonl").read_text().splitlines()) for path in (one, other)]
    steps = [[values for values in each if "total_loss" in values] for each in lines]  # not evaluations
    assert len(steps[0]) == STEPS
    for a, b in zip(*steps, strict=True):
        for name in (key for key in a if key.endswith("_loss")):
            assert a[name] == pytest.approx(b[name], rel=1e-5, abs=1e-7)


@pytest.mark.slow
def test_killed_while_it_saves(whole, tmp_path):
    overrides, model_dir = whole
    running = start(*command("train", tmp_path / "run"), overrides=overrides)
    half = tmp_path / "run" / "checkpoints" / ".step_00000003.part"
    while not half.exists() and running.poll() is None:
        time.sleep(0.0005)
    running.kill()
    assert ended(running)[0] == -9
    assert Checkpoints(tmp_path / "run").find().name == "step_00000002"
    status, output, errors = main(*command("train", tmp_path / "run"), overrides=overrides)
    assert status == 0, errors
    assert f"step 2 of {STEPS}" in output
    assert fingerprints(tmp_path / "run") == fingerprints(model_dir)


@pytest.mark.slow
@pytest.mark.parametrize(("replicas", "parts"), [(1, 2), (2, 1), (2, 3), (3, 1), (6, 1)])
def test_replicas_and_micro_batches_train_as_one(whole, tmp_path, replicas, parts):
    overrides, model_dir = whole
    layout = [f"train.num_replicas={replicas}", f"train.accumulation_steps={parts}"]
    status, _, errors = main(*command("train", tmp_path / "run"), overrides=[*overrides, *layout])
    assert status == 0, errors
    check_same_training(model_dir, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "count", "mode"),
    [
        (start_workers, 2, "train"),
        (start_workers, 3, "train_and_eval"),
        (start_slurm_tasks, 2, "train_and_eval"),
    ],
)
def test_several_workers_train_as_one(whole, tmp_path, launch, count, mode):
    overrides, model_dir = whole
    workers = launch(count, *command(mode, tmp_path / "run"), overrides=overrides)
    done = [ended(worker) for worker in workers]
    assert [status for status, _, _ in done] == [0] * count, done
    assert all(not output for _, output, _ in done[1:])  # the chief alone speaks
    check_same_training(model_dir, tmp_path / "run")
    for file in ("eval/metrics.json", "export/1/saved_model.pb"):
        assert (tmp_path / "run" / file).exists() == (mode == "train_and_eval")
    lines = [json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    held_out = [line["held_out_losses"] for line in lines if "AP" in line]
    assert len(held_out) == (mode == "train_and_eval")  # the chief alone writes
    assert all(losses["total_loss"] > 0 for losses in held_out)


@pytest.mark.slow
def test_evaluation_is_the_same_however_it_is_split(whole, tmp_path):
    _, model_dir = whole
    shutil.copytree(model_dir, tmp_path / "run")
    files = [tmp_path / "run" / "eval" / name for name in ("metrics.json", "detections.json")]
    texts = []
    for count in (1, 2, 4):
        workers = start_workers(count, "--mode=eval", f"--model_dir={tmp_path / 'run'}")
        done = [ended(worker) for worker in workers]
        assert [status for status, _, _ in done] == [0] * count, done
        texts.append([file.read_text() for file in files])
        for file in files:
            file.unlink()
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.slow
def test_the_loss_of_a_worker_ends_the_others_and_all_can_go_on(whole, tmp_path):
    overrides = [*whole[0], "train.steps=40"]
    fingerprint = []
    for name in ("whole", "cut"):
        workers = start_workers(2, *command("train", tmp_path / name), overrides=overrides)
        if name == "cut":
            while Checkpoints(tmp_path / name).find() is None:
                time.sleep(0.05)
            workers[1].kill()
            status, _, errors = ended(workers[0])
            assert status == 1
            assert errors.count("error: another worker has gone") == 1, errors
            assert "start all 2 again" in errors
            ended(workers[1])
            workers = start_workers(2, *command("train", tmp_path / name), overrides=overrides)
        done = [ended(worker) for worker in workers]
        assert [status for status, _, _ in done] == [0, 0], done
        fingerprint.append(fingerprints(tmp_path / name))
    assert fingerprint[0] == fingerprint[1]


@pytest.mark.slow
def test_sigterm_saves_and_the_next_run_goes_on(whole, tmp_path):
    overrides, model_dir = whole
    running = start(*command("train", tmp_path / "run"), overrides=overrides)
    while Checkpoints(tmp_path / "run").find() is None and running.poll() is None:
        time.sleep(0.005)
    running.terminate()
    status, _, errors = ended(running)
    assert (status, "SIGTERM at step" in errors) in {(143, True), (0, False)}  # it may have been at the end
    status, _, errors = main(*command("train", tmp_path / "run"), overrides=overrides)
    assert status == 0, errors
    assert fingerprints(tmp_path / "run") == fingerprints(model_dir)


@pytest.mark.slow
def test_sigterm_of_one_worker_saves_and_stops_all(whole, tmp_path):
    overrides = [*whole[0], "train.steps=400"]
    workers = start_workers(2, *command("train", tmp_path / "run"), overrides=overrides)
    while Checkpoints(tmp_path / "run").find() is None:
        time.sleep(0.05)
    workers[1].terminate()
    done = [ended(worker) for worker in workers]
    assert [status for status, _, _ in done] == [143, 143], done
    assert "another worker's signal at step" in done[0][2]
    assert "SIGTERM at step" in done[1][2]


@pytest.mark.slow
def test_killed_at_twenty_random_moments(whole, tmp_path):
    """Whatever it was doing: starting, tracing, training, saving, evaluating, exporting."""
    overrides, model_dir = whole
    overrides = [*overrides, "train.eval_every=3"]
    arguments = command("train_and_eval", tmp_path / "run")
    draw, kills = random.Random(0), 0
    while kills < 20:
        running = start(*arguments, overrides=overrides)
        try:
            running.wait(draw.uniform(3, 25))
        except subprocess.TimeoutExpired:
            running.kill()
        status, _, errors = ended(running)
        if status == -9:
            kills += 1
            continue
        assert status == 0, errors
        assert fingerprints(tmp_path / "run") == fingerprints(model_dir)
        shutil.rmtree(tmp_path / "run")  # from the start again
    status, _, errors = main(*arguments, overrides=overrides)
    assert status == 0, errors
    assert fingerprints(tmp_path / "run") == fingerprints(model_dir)
