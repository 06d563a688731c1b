"""Files are written beside and renamed: what was there before stays whole until the new one is.

JSON is read with a clear error; glob patterns know the names that exist.
"""

import contextlib
import glob
import json
import os
import pathlib
import zlib

from fpn_tf.errors import DataError


@contextlib.contextmanager
def written_whole(path):
    """Yields a path to write to; on success it takes the place of `path` in one step."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A number for the name, which may be as long as a name may be.
    number = zlib.crc32(os.fsencode(path.name))
    beside = path.with_name(f".{number:08x}.{os.getpid()}.part{path.suffix}")
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


def paths_matching(pattern):
    """The paths that match a glob pattern, or the one that is named so; sorted.

    Brackets are letters where they stand in the name of a folder or file that exists, or nothing matches
    otherwise.
    """
    if os.path.exists(pattern):
        return [pathlib.Path(pattern)]
    parts = pathlib.Path(pattern).parts
    existing = max((n for n in range(len(parts)) if os.path.exists(os.path.join("", *parts[:n]))), default=0)
    folder, rest = os.path.join("", *parts[:existing]), os.path.join("", *parts[existing:])
    escaped = os.path.join(glob.escape(folder), "")
    for of_rest in (rest, rest.replace("[", "[[]")):
        paths = glob.glob((escaped if folder else "") + of_rest, recursive=True)
        if paths:
            return sorted(map(pathlib.Path, paths))
    return []
