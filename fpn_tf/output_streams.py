"""The program's output, which ends no run: not where it cannot be shown, nor where nobody reads it."""

import contextlib
import io
import os
import sys

from absl import logging


class _DroppedUnread(io.FileIO):
    """A file descriptor that leads to nowhere from the first write on that fails.

    So does what libraries and the interpreter's end write to it themselves: a closed pipe (`| head`), a
    closed terminal, a full disk behind `>`.
    """

    def write(self, data):
        try:
            return super().write(data)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


@contextlib.contextmanager
def dropped_unread():
    """A context in which writing to standard output and error never fails."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_dropped_unread, before)
    handler = logging.get_absl_handler().python_handler  # has the stream that it found when it was made
    logged_to = handler.stream
    if logged_to is before[1]:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        handler.setStream(logged_to)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _dropped_unread(stream):
    """A text stream like another, to the same file, that drops what cannot be written."""
    if not isinstance(stream, io.TextIOWrapper):  # a notebook's, or none at all
        return stream
    try:
        stream.flush()
        file = _DroppedUnread(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # it is no file, as in a test
        return stream
    buffer = file if stream.write_through else io.BufferedWriter(file)
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def replace_unprintable():
    """From now on, what a terminal's encoding lacks is replaced where it is printed, and ends no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook has others, which lack nothing
            stream.reconfigure(errors="replace")
