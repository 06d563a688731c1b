"""train.jsonl and TensorBoard's events: what is odd in them stops no run, a disk that fails is told."""

import errno
import json
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fpn_tf.training import progress
from fpn_tf.training.progress import EventFile, RunLog, lines_to_step

LINES = [json.dumps({"step": step, "total_loss": 1.5}).encode() + b"\n" for step in (2, 4, 6)]


def test_lines_after_a_step_are_dropped():
    assert lines_to_step(b"".join(LINES), 4) == LINES[0] + LINES[1]
    assert lines_to_step(b"".join(LINES), 6) == b"".join(LINES)
    assert lines_to_step(b"", 6) == b""


@pytest.mark.parametrize(
    "odd",
    [
        b"\xff\n",
        b"\x00" * 4096 + b"\n",  # what a disk leaves that lost its power
        LINES[0][:-9] + b"\n",
        b"\n",
        b"[2]\n",
        b"null\n",
        b'{"step": "2"}\n',
        b'{"step": null}\n',
        b'{"step": {}}\n',
        b'{"step": NaN}\n',
        b'{"step": true}\n',
        b'{"total_loss": 2}\n',
        b"[" * 100_000 + b"\n",
        b'{"step": 1' + b"0" * 5000 + b"}\n",
        b'{"step": 2}{"step": 2}\n',
    ],
    ids=lambda odd: str(odd[:12]),
)
def test_odd_lines_are_left_out(odd):
    assert lines_to_step(LINES[0] + odd + LINES[1] + LINES[2], 4) == LINES[0] + LINES[1]


def test_a_byte_that_is_no_utf_8_spoils_no_line():
    line = b'{"step": 2, "per_class": {"gr\xfc n": 0.5}}\n'
    assert json.loads(lines_to_step(line, 2))["per_class"] == {"gr\ufffd n": 0.5}


def test_line_ends_of_other_alphabets_are_none():
    line = '{"step": 2, "name": "a\u2028b\x85c"}\n'.encode()
    assert lines_to_step(line, 2) == line


def test_a_damaged_log_goes_on(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(LINES[0] + b"\xff\xfe\n" + LINES[2])
    log = RunLog(tmp_path, 2)
    log.write(4, {"total_loss": 1.25})
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text("utf-8").splitlines()]
    assert lines == [{"step": 2, "total_loss": 1.5}, {"step": 4, "total_loss": 1.25}]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/total_loss")] == [(4, 1.25)]


def test_files_of_events_are_never_the_same(tmp_path):
    for _ in range(3):
        EventFile(tmp_path)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_events_on_a_disk_that_fails_name_their_file(number, tmp_path, monkeypatch, capfd):
    def fail(self, data):
        raise OSError(number, os.strerror(number))

    log = RunLog(tmp_path, 0)
    monkeypatch.setattr(progress.RecordWriter, "write", fail)
    for call in (lambda: log.write(2, {"total_loss": 1.0}), lambda: RunLog(tmp_path, 0)):
        with pytest.raises(OSError, match=f"{os.strerror(number)}: '{tmp_path}/events.out.tfevents"):
            call()
    assert capfd.readouterr() == ("", "")


def test_events_on_a_disk_that_is_full_name_their_file(tmp_path):
    log = RunLog(tmp_path, 0)
    log.events.path.unlink()
    log.events.path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{log.events.path}'"):
        log.write(2, {"total_loss": 1.0})


def test_a_log_on_a_disk_that_is_full_names_its_file(tmp_path):
    log = RunLog(tmp_path, 0)
    (tmp_path / "train.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/train.jsonl'"):
        log.write(2, {"total_loss": 1.0})
