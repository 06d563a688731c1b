"""How the program ends: exit statuses, one line each, signals, and output that nobody reads."""

import errno
import io
import os
import signal
import sys
import threading

import pytest
from absl import logging

from fpn_tf import endings, interrupts, output_streams
from fpn_tf.errors import ConfigError, InterruptedRunError

STATUSES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def raising(error):
    """A function that raises an error."""

    def work():
        raise error

    return work


def sending(*names):
    """A function that this process sends signals in."""

    def work():
        for name in names:
            os.kill(os.getpid(), signal.Signals[name])

    return work


def ended(work, capsys, model_dir="/somewhere"):
    """(exit status, standard error) of work."""
    return endings.status_of(work, lambda: model_dir), capsys.readouterr().err


# Statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("train.steps=0: expected more"), 1, "error: train.steps=0: expected more\n"),
        (InterruptedRunError("SIGTERM at step 3: saved"), 143, "stopped: SIGTERM at step 3: saved\n"),
        (InterruptedRunError("SIGINT: saved", signal.SIGINT), 130, "stopped: SIGINT: saved\n"),
        (InterruptedRunError("SIGHUP: saved", signal.SIGHUP), 129, "stopped: SIGHUP: saved\n"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT; what was saved before is whole\n"),
    ],
)
def test_statuses(error, status, line, capsys):
    assert ended(raising(error), capsys) == (status, line)


def test_work_that_is_done_says_nothing(capsys):
    assert ended(lambda: None, capsys) == (0, "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES, errno.EISDIR])
def test_the_errors_of_a_disk_name_the_file(number, capsys, tmp_path):
    reason = os.strerror(number)
    for error, path in (
        (OSError(number, reason, "/disk/a.json"), "/disk/a.json"),
        (OSError(number, reason), tmp_path),
    ):
        line = f"error: {path}: {reason}; what was saved before is whole\n"
        assert ended(raising(error), capsys, tmp_path) == (1, line)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ESTALE])
def test_a_folder_that_has_gone_is_told_as_that(number, capsys, tmp_path):
    error = OSError(number, os.strerror(number), tmp_path / "run" / "train.jsonl")
    status, line = ended(raising(error), capsys, tmp_path / "run")
    assert (status, line.count("\n")) == (1, 1)
    assert line.startswith(f"error: {tmp_path / 'run'}: has gone while the program used it")


def test_a_mistake_of_the_program_keeps_its_traceback():
    for error in (OSError("no system call's"), ZeroDivisionError()):
        with pytest.raises(type(error)):
            endings.status_of(raising(error), lambda: "/somewhere")


# Signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATUSES)
def test_a_signal_ends_the_work(name, capsys):
    line = f"stopped by {name}; what was saved before is whole\n"
    assert ended(sending(name), capsys) == (STATUSES[name], line)


def test_signals_that_follow_are_the_first_one_again(capsys):
    def work():
        try:
            sending("SIGTERM")()
        finally:
            sending("SIGTERM", "SIGINT", "SIGHUP")()

    assert ended(work, capsys)[0] == 143


def test_a_signal_that_was_swallowed_ends_the_work_after_it(capsys):
    done = []

    def work():
        try:
            sending("SIGTERM")()
        except BaseException:
            done.append(True)

    assert ended(work, capsys)[0] == 143
    assert done


def test_a_signal_that_somebody_stumbles_over_is_the_signal(capsys):
    def work():
        try:
            sending("SIGTERM")()
        except BaseException:
            raise AttributeError("half a module") from None

    line = "stopped by SIGTERM; what was saved before is whole\n"
    assert ended(work, capsys) == (143, line)


def test_what_must_not_be_cut_ends_first(capsys):
    done = []

    def work():
        with interrupts.delayed():
            sending("SIGTERM", "SIGHUP")()
            done.append("whole")
        done.append("more")

    assert ended(work, capsys)[0] == 143
    assert done == ["whole"]


def test_no_handler_is_left(capsys):
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    ended(sending("SIGTERM"), capsys)
    with interrupts.noted():
        pass
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before


@pytest.mark.parametrize("context", [interrupts.raised, interrupts.noted])
def test_what_is_ignored_stays_so(context):
    """Under nohup SIGHUP is ignored, by a shell SIGINT of what runs in its background."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with context():
            sending("SIGHUP")()
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_noted_signals_wait_and_a_second_ctrl_c_does_not():
    with interrupts.raised(), interrupts.noted() as caught:
        sending("SIGTERM", "SIGHUP", "SIGINT", "SIGTERM")()
        assert [number.name for number in caught] == ["SIGTERM", "SIGHUP", "SIGINT", "SIGTERM"]
        with pytest.raises(KeyboardInterrupt):
            sending("SIGINT")()


def test_the_inner_context_counts():
    with interrupts.noted() as caught:
        with pytest.raises(interrupts.Interrupt) as error, interrupts.raised():
            sending("SIGTERM")()
        assert error.value.number == signal.SIGTERM
        sending("SIGHUP")()
        assert caught == [signal.SIGHUP]


def test_another_thread_handles_no_signals():
    def work():
        with interrupts.raised(), interrupts.noted():
            done.append(signal.getsignal(signal.SIGTERM))

    done, before = [], signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]


# Output -------------------------------------------------------------------------------------------


@pytest.fixture
def stream_to():
    """A function that makes a text stream of a file descriptor, which it closes at the end."""
    handles = []

    def stream_to(handle, **settings):
        handles.append(handle)
        return io.TextIOWrapper(io.BufferedWriter(io.FileIO(handle, "w", closefd=False)), "utf-8", **settings)

    yield stream_to
    for handle in handles:
        os.close(handle)


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("settings", [{}, {"line_buffering": True}, {"write_through": True}])
@pytest.mark.parametrize("unread", [closed_pipe, full_disk])
def test_output_that_nobody_takes_is_dropped(unread, settings, name, stream_to, monkeypatch):
    stream = stream_to(unread(), **settings)
    monkeypatch.setattr(sys, name, stream)
    with output_streams.dropped_unread():
        for _ in range(3):
            print("x" * 100_000, file=getattr(sys, name))
            getattr(sys, name).flush()
    assert getattr(sys, name) is stream
    stream.write("what libraries write to it themselves")
    stream.flush()  # raises nothing: it leads nowhere now


def test_output_that_is_read_comes_whole_and_in_order(stream_to, monkeypatch):
    reader, writer = os.pipe()
    stream = stream_to(writer)
    monkeypatch.setattr(sys, "stdout", stream)
    print("before ", end="")
    with output_streams.dropped_unread():
        assert sys.stdout.fileno() == writer
        print("größe ", end="")
    print("after", end="", flush=True)
    assert os.read(reader, 100).decode() == "before größe after"
    os.close(reader)


def test_log_lines_are_dropped_as_well(stream_to, monkeypatch):
    handler = logging.get_absl_handler().python_handler
    stream = stream_to(closed_pipe(), line_buffering=True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(handler, "stream", stream)
    with output_streams.dropped_unread():
        assert handler.stream is sys.stderr is not stream
        handler.stream.write("skipped: a.jpg\n")
    assert handler.stream is stream


@pytest.mark.parametrize("stream", [None, io.StringIO(), io.TextIOWrapper(io.BytesIO())])
def test_what_is_no_file_stays_as_it_is(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    with output_streams.dropped_unread():
        assert sys.stdout is stream
