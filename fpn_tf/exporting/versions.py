"""The numbered folders of a model that is served: whole ones alone, also while several are written."""

import contextlib
import os
import pathlib
import shutil
import time
import uuid

LEFT_BEHIND = 3600  # seconds without a change after which a half version is of a process that was ended


class Version:
    """A version that is being written.

    Attributes:
        beside: the path to write it to.
        path: where it stands once it is whole; None before.
    """

    def __init__(self, beside):
        self.beside = beside
        self.path = None


@contextlib.contextmanager
def next_version(folder):
    """Yields a Version to write; then it gets the number above the highest that is there.

    Args:
        folder: of the versions; it is made where it is absent.

    Raises:
        OSError: it cannot be written; the error names the folder, and nothing is left.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(folder)
    version = Version(folder / f".{uuid.uuid4().hex}.part")
    try:
        yield version
        version.path = _numbered(version.beside, folder)
    except OSError as error:
        if error.filename and pathlib.Path(error.filename).is_relative_to(version.beside):
            error.filename = os.fspath(folder)  # the other name tells a user nothing
        raise
    finally:
        shutil.rmtree(version.beside, ignore_errors=True)


def _numbered(beside, folder):
    """Renames a written version to the next number. Returns: its new path.

    A folder does not take the place of another that holds something, so of two that ask for a number one
    goes on to the next.
    """
    path = folder / str(1 + max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=0))
    try:
        os.rename(beside, path)
    except OSError:
        if not path.exists():
            raise
        return _numbered(beside, folder)
    return path


def _remove_left_behind(folder):
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another process is faster
            if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                shutil.rmtree(path)
