"""Files are written beside and renamed: what was there before stays whole until the new one is.

And JSON is read with a clear error.
"""

import contextlib
import json
import os
import pathlib

from fpn_tf.errors import DataError


def expanded(path):
    """A path as text, a leading `~` or `~user` replaced by that home folder.

    A shell does it for a word that begins so, but not behind `--flag=`.
    """
    return os.path.expanduser(os.fspath(path))


@contextlib.contextmanager
def written_whole(path):
    """Yields a path to write to; on success it takes the place of `path` in one step."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path, text):
    """Writes a text, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text)


def write_json(path, value, indent=2):
    """Writes `value` as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def read_json(path):
    """What a JSON file holds. Raises: DataError where it is absent or no JSON."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a JSON file") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
