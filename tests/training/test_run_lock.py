"""One training run at a time has a model_dir."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from fpn_tf.errors import ConfigError
from fpn_tf.training import run_lock
from fpn_tf.training.run_lock import LOCK_FILE, held

HOLDER = """
import sys, time
from fpn_tf.training.run_lock import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in the folder, as far as its lock tells."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def leave_lock(folder, **changes):
    """Leaves the lock of a process that was killed on another machine."""
    owner = {"host": "node7", "process": 41, "start": "2024-02-29 12:00:00+00:00", "machine": "other"}
    (folder / LOCK_FILE).write_text(json.dumps(owner | changes))


def test_who_holds_it_is_told_in_one_line(holder, tmp_path):
    with pytest.raises(ConfigError) as caught, held(tmp_path):
        pass
    host = re.escape(os.uname().nodename)
    assert re.fullmatch(
        rf"--model_dir={tmp_path}: process {holder.pid} on {host}, started \d+-\d+-\d+ \d+:\d+:\d+\S*, "
        "trains there; expected another folder, or that run to have ended",
        str(caught.value),
    )


def test_that_of_a_process_that_was_killed_is_taken_over_at_once(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    start = time.monotonic()
    with held(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
    assert time.monotonic() - start < 1
    assert not list(tmp_path.iterdir())


def test_it_ends_with_the_run_however_that_ends(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), held(tmp_path):
            raise ZeroDivisionError
        assert not list(tmp_path.iterdir())


def test_a_run_of_this_process_counts_as_any_other(tmp_path):
    with held(tmp_path):
        with pytest.raises(ConfigError, match=f"process {os.getpid()} on .* trains there"), held(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).exists()


def test_workers_other_than_the_chief_share_it(tmp_path):
    with held(tmp_path):
        with held(tmp_path, is_chief=False):
            pass
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
    with held(tmp_path, is_chief=False):
        assert not list(tmp_path.iterdir())


def test_other_folders_are_free(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with held(tmp_path / "a"), held(tmp_path / "b"):
        assert all((tmp_path / name / LOCK_FILE).exists() for name in ("a", "b"))


def test_another_machine_that_gives_no_sign_of_life_is_waited_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_lock, "DEAD_AFTER", 0.3)
    monkeypatch.setattr(run_lock, "LOOKED_EVERY", 0.05)
    leave_lock(tmp_path)
    start = time.monotonic()
    with held(tmp_path):
        assert 0.2 < time.monotonic() - start < 2
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
    [record] = caplog.records
    assert "process 41 on node7, started 2024-02-29 12:00:00+00:00, has this folder" in record.getMessage()


def test_another_machine_that_has_long_been_silent_is_not_waited_for(tmp_path, caplog):
    leave_lock(tmp_path)
    os.utime(tmp_path / LOCK_FILE, (time.time() - 3600,) * 2)
    start = time.monotonic()
    with held(tmp_path):
        assert time.monotonic() - start < 1
    assert not caplog.records


def test_another_machine_that_lives_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "LOOKED_EVERY", 0.05)
    leave_lock(tmp_path)
    content = (tmp_path / LOCK_FILE).read_text()
    monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: os.utime(tmp_path / LOCK_FILE, (1, 1)))
    with pytest.raises(ConfigError, match="process 41 on node7"), held(tmp_path):
        pass
    assert (tmp_path / LOCK_FILE).read_text() == content


def test_a_run_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.02)
    with held(tmp_path):
        os.utime(tmp_path / LOCK_FILE, (1, 1))
        end = time.monotonic() + 5
        while os.stat(tmp_path / LOCK_FILE).st_mtime == 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert os.stat(tmp_path / LOCK_FILE).st_mtime > 1


def test_a_disk_without_locks_is_left_to_signs_of_life(tmp_path, monkeypatch):
    def unsupported(handle, operation):
        raise OSError(run_lock.errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(run_lock.fcntl, "flock", unsupported)
    monkeypatch.setattr(run_lock, "LOOKED_EVERY", 0.01)
    with held(tmp_path):
        path = tmp_path / LOCK_FILE
        monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: os.utime(path, (1, 1)))
        with pytest.raises(ConfigError, match=f"process {os.getpid()} on"), held(tmp_path):
            pass
    with held(tmp_path):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"host": 3}', b"null", b'{"machine": 1, "x": 2}']
)
def test_a_lock_that_names_nobody_is_taken(content, tmp_path):
    (tmp_path / LOCK_FILE).write_bytes(content)
    with held(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


def test_a_folder_that_has_gone_ends_no_run_with_another_error(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with held(folder):
        (folder / LOCK_FILE).unlink()
        folder.rmdir()
