"""A model_dir belongs to one training run at a time: a file in it names who trains there.

On one machine the operating system holds the lock, and frees it with the process that has it, however that
ends. Between machines that share a disk, which may not pass such locks on, a run shows that it lives by the
time of the file, which it renews.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
import tempfile
import threading
import time
from typing import NamedTuple

from absl import logging

from fpn_tf import files
from fpn_tf.errors import ConfigError

LOCK_FILE = ".training.lock"
RENEWED_EVERY = 10.0  # seconds between two signs of life
DEAD_AFTER = 60.0  # seconds without one
LOOKED_EVERY = 1.0  # seconds
BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")  # differs from machine to machine
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of a disk without locks


class Owner(NamedTuple):
    """The process that trains in a model_dir."""

    host: str
    process: int
    start: str  # date and time
    machine: str  # what tells machines apart that have one name, as containers may

    def __str__(self):
        return f"process {self.process} on {self.host}, started {self.start},"


@contextlib.contextmanager
def held(model_dir, is_chief=True):
    """A context in which no other run trains in a model_dir.

    Args:
        model_dir: a folder that exists.
        is_chief: whether this process locks it; the other workers of a cluster rely on their chief.

    Raises:
        ConfigError: another run trains there. One of another machine that shows no sign of life is waited
            for, DEAD_AFTER seconds, and then replaced.
    """
    if not is_chief:
        yield
        return
    path = pathlib.Path(model_dir) / LOCK_FILE
    handle, ended = _locked(path), threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, ended), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        with contextlib.suppress(OSError):  # the folder may have gone
            path.unlink()
        os.close(handle)


def _locked(path):
    """A file descriptor of the lock file, which is locked and names this process. Raises: ConfigError."""
    with contextlib.ExitStack() as on_failure:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        on_failure.callback(os.close, handle)
        passes_on_locks = _lock(handle, path)
        if not _is_same_file(handle, path):  # its owner has removed it since it was opened
            return _locked(path)
        this, owner = _this_process(), _owner_of(handle)
        if owner is not None and not (passes_on_locks and owner.machine == this.machine):
            _wait_for_death(path, owner)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(this._asdict()).encode(), 0)
        on_failure.pop_all()
        return handle


def _lock(handle, path):
    """Locks an open file. Returns: whether its disk knows locks. Raises: ConfigError, where it is locked."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(path, _owner_of(handle)) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def _in_use(path, owner):
    return ConfigError(
        f"--model_dir={path.parent}: {owner or 'another process'} trains there; expected another folder, "
        "or that run to have ended"
    )


def _is_same_file(handle, path):
    """Whether a path leads to an open file."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _this_process():
    try:
        machine = BOOT_ID.read_text("ascii").strip()
    except OSError:
        machine = ""
    start = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return Owner(socket.gethostname(), os.getpid(), start, machine or socket.gethostname())


def _owner_of(handle):
    """The Owner that an open lock file names; None where it names none (yet)."""
    try:
        return Owner(**files.json_of(os.pread(handle, 1 << 12, 0)))
    except (ValueError, TypeError):
        return None


def _wait_for_death(path, owner):
    """Returns once an owner has shown no sign of life for DEAD_AFTER seconds. Raises: ConfigError."""
    renewed = os.stat(path).st_mtime
    left = DEAD_AFTER - (_time_of_disk(path.parent) - renewed)
    if left > 0:
        logging.warning(
            "%s: %s has this folder; it is taken over after %.0f s without a sign of life", path, owner, left
        )
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(LOOKED_EVERY)
        if os.stat(path).st_mtime != renewed:
            raise _in_use(path, owner)


def _time_of_disk(folder):
    """The time that a disk gives to what is written now: its machine's clock may be another one."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as file:
        return os.fstat(file.fileno()).st_mtime


def _renew(path, ended):
    """Gives signs of life until an Event is set."""
    while not ended.wait(RENEWED_EVERY):
        with contextlib.suppress(OSError):  # another try follows
            os.utime(path)
