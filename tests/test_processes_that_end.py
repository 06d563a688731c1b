"""Signals, disks and readers of output that go, met by the command in processes of its own."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest
from commands import ROOT, SMALL, command, ended, main, start
from conftest import folder_overrides, make_coco_folder

from fpn_tf.checkpoint import Checkpoints

pytestmark = pytest.mark.slow
LONG = ["train.steps=100000", "train.log_every=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished train_and_eval: (overrides, model_dir)."""
    folder = tmp_path_factory.mktemp("ends")
    overrides = [*SMALL, *folder_overrides(make_coco_folder(folder / "data")), "eval.pictures=6"]
    overrides += ["model.neck=c4", "model.norm=frozen_bn", "train.learning_rate=0.0003"]
    status, _, errors = main(*command("train_and_eval", folder / "run"), overrides=overrides)
    assert status == 0, errors
    return overrides, folder / "run"


def lines_of(errors):
    """The lines of standard error that are the program's last words."""
    return [line for line in errors.splitlines() if line.startswith(("stopped", "error", "Traceback"))]


def wait_for(condition, process):
    while not condition() and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize("mode", ["train_and_eval", "eval", "export"])
def test_sigterm_at_any_time_is_one_line_and_143(mode, finished, tmp_path):
    """While it imports, reads, traces, trains, evaluates, draws, exports; a signal comes three times."""
    overrides, model_dir = finished
    for seconds in (1, 3, 6, 9, 13, 18, 24):
        run = tmp_path / f"{seconds}"
        arguments, changes = command("train_and_eval", run), overrides
        if mode != "train_and_eval":
            shutil.copytree(model_dir, run)
            shutil.rmtree(run / "export")
            arguments, changes = (f"--mode={mode}", f"--model_dir={run}"), []
        process = start(*arguments, overrides=changes)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        status, _, errors = ended(process)
        assert status in (0, 143), errors  # 0: it was at its end
        lines = lines_of(errors)
        assert len(lines) == (status == 143), errors
        assert all(line.startswith("stopped") for line in lines)
        assert not list(run.rglob(".*part*"))


def test_output_that_nobody_reads_does_not_end_a_run(finished, tmp_path):
    overrides, _ = finished
    process = start(*command("train", tmp_path), overrides=[*overrides, "train.log_every=1"])
    assert process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(300) == 0
    assert Checkpoints(tmp_path).find().name == "step_00000004"


def test_a_terminal_that_is_closed_ends_a_run_that_saves(finished, tmp_path):
    overrides, _ = finished
    flags = [f"--params_override={change}" for change in (*overrides, *LONG)]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "main.py", *command("train", tmp_path), *flags])
    end = time.monotonic() + 300
    while not list(tmp_path.glob("checkpoints/step_*")) and time.monotonic() < end:
        os.read(terminal, 1 << 16)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    logged = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[-1])["step"]
    assert Checkpoints(tmp_path).steps()[-1] >= logged


def test_two_runs_in_one_folder(finished, tmp_path):
    overrides, _ = finished
    first = start(*command("train", tmp_path), overrides=[*overrides, *LONG])
    wait_for((tmp_path / "train.jsonl").exists, first)
    status, _, errors = main(*command("train", tmp_path), overrides=overrides)
    assert status == 1
    [line] = lines_of(errors)
    assert line.startswith(f"error: --model_dir={tmp_path}: process {first.pid} on ")
    wait_for(lambda: Checkpoints(tmp_path).find(), first)
    status, _, errors = main("--mode=export", f"--model_dir={tmp_path}")  # reads: it is not held up
    assert status == 0, errors
    first.kill()
    ended(first)
    last = max(Checkpoints(tmp_path).steps())
    status, output, errors = main(
        *command("train", tmp_path), overrides=[*overrides, *LONG, f"train.steps={last + 2}"]
    )
    assert status == 0, errors
    assert "going on from" in output
    steps = [json.loads(line)["step"] for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert steps == list(range(1, last + 3))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], check=False).returncode:
        pytest.skip("a disk can be mounted by root alone")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk, left):
    """Leaves so many bytes on a disk."""
    free = shutil.disk_usage(disk).free - left
    (disk / "filling").write_bytes(bytes(max(free, 0)))


@pytest.mark.parametrize("left", [0, 100_000, 1_000_000])
def test_an_export_on_a_full_disk(left, finished, small_disk):
    _, model_dir = finished
    newest = Checkpoints(model_dir).find()
    shutil.copytree(newest, small_disk / "run" / "checkpoints" / newest.name)
    shutil.copy(model_dir / "config.json", small_disk / "run")
    fill(small_disk, left)
    status, _, errors = main("--mode=export", f"--model_dir={small_disk}/run")
    assert status == 1
    [line] = lines_of(errors)
    assert "No space left on device" in line
    assert not list(small_disk.glob("run/export/*"))


@pytest.mark.parametrize("left", [0, 5_000, 3_000_000])
def test_training_on_a_disk_that_becomes_full(left, finished, small_disk):
    overrides, _ = finished
    process = start(
        *command("train", small_disk / "run"), overrides=[*overrides, *LONG, "train.keep_checkpoints=1"]
    )
    wait_for(lambda: Checkpoints(small_disk / "run").find(), process)
    fill(small_disk, left)
    status, _, errors = ended(process)
    assert status == 1
    [line] = lines_of(errors)
    assert "No space left on device" in line
    (small_disk / "filling").unlink()
    last = Checkpoints(small_disk / "run").find()
    assert last is not None
    step = int(last.name.removeprefix("step_")) + 1
    more = [*overrides, "train.keep_checkpoints=1", f"train.steps={step}"]
    status, output, errors = main(*command("train", small_disk / "run"), overrides=more)
    assert status == 0, errors
    assert f"going on from {last}" in output


def test_an_evaluation_in_a_folder_that_is_read_only(finished, small_disk):
    _, model_dir = finished
    newest = Checkpoints(model_dir).find()
    shutil.copytree(newest, small_disk / "run" / "checkpoints" / newest.name)
    shutil.copy(model_dir / "config.json", small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    status, output, errors = main("--mode=eval", f"--model_dir={small_disk}/run")
    assert (status, output) == (1, "")
    [line] = lines_of(errors)
    assert line == f"error: {small_disk}/run: Read-only file system; what was saved before is whole"


def test_a_folder_that_is_removed(finished, tmp_path):
    overrides, _ = finished
    run = tmp_path / "run"
    process = start(*command("train_and_eval", run), overrides=[*overrides, *LONG])
    wait_for((run / "train.jsonl").exists, process)
    os.rename(run, tmp_path / "elsewhere")
    status, _, errors = ended(process)
    assert status == 1
    [line] = lines_of(errors)
    assert line.startswith(f"error: {run}: has gone while the ")
    assert not run.exists()
