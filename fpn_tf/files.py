"""Files are written beside and renamed: what was there before stays whole until the new one is."""

import contextlib
import json
import os
import pathlib


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
