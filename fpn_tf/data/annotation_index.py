"""An index of a large annotation file: its columns in the user's cache, found by the file's digest."""

import hashlib
import json
import os
import pathlib
import zipfile

import numpy as np
from absl import logging

from fpn_tf.data.columns import Columns, Texts
from fpn_tf.files import expanded, written_whole

WORTHWHILE = 2**30  # bytes of a file; smaller ones are read in seconds
KEPT = 4  # indices in the cache
FORM = 1  # of an index; another form gives another digest
ARRAYS = ("image_ids", "sizes", "ids", "images", "categories", "boxes", "areas", "crowds")


def path_for(annotations, further=()):
    """Where the index of a file is, or would be.

    Args:
        annotations: the file's path. All of it is read: an index is that of its contents.
        further: names of what else of the annotations is kept.

    Returns:
        pathlib.Path; None of a file that needs none, or cannot be read.
    """
    try:
        if os.path.getsize(annotations) < WORTHWHILE:
            return None
        with open(annotations, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except (OSError, ValueError):
        return None
    digest.update(repr((FORM, tuple(further))).encode())
    cache = os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache")
    return pathlib.Path(cache) / "fpn_tf" / "annotations" / f"{digest.hexdigest()}.npz"


def read(path):
    """The Columns in an index; None where there is none that is whole."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = _columns_of(arrays)
        os.utime(path)  # the last one used is the last one removed
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return columns


def write(path, columns):
    """Writes an index, and removes all but the latest `KEPT`; if it cannot be written, a warning says so."""
    names = Texts.of([name.encode(errors="surrogatepass") for name in columns.file_names])
    arrays = {name: getattr(columns, name) for name in ARRAYS} | _arrays_of("file_names", names)
    for key, value in (("category_entries", columns.category_entries), ("further", list(columns.further))):
        arrays[key] = np.frombuffer(json.dumps(value).encode(), np.uint8)
    for name, texts in columns.further.items():
        arrays |= _arrays_of(f"further {name}", texts)
    if columns.ids.dtype == object:
        return
    try:
        with written_whole(path) as beside, open(beside, "wb") as file:
            np.savez(file, **arrays)
        indices = sorted(path.parent.glob("*.npz"), key=os.path.getmtime, reverse=True)
        for old in indices[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logging.warning("%s: no index is kept of the annotations (%s)", path, error.strerror or error)


def _columns_of(arrays):
    entries = json.loads(arrays["category_entries"].tobytes())
    names = _texts_of("file_names", arrays)
    further = json.loads(arrays["further"].tobytes())
    return Columns(
        **{name: arrays[name] for name in ARRAYS},
        file_names=[names.text(row).decode(errors="surrogatepass") for row in range(len(names))],
        category_entries=entries,
        further={name: _texts_of(f"further {name}", arrays) for name in further},
    )


def _arrays_of(name, texts):
    return {f"{name} text": np.frombuffer(texts.joined, np.uint8), f"{name} lengths": texts.lengths}


def _texts_of(name, arrays):
    return Texts(arrays[f"{name} text"].tobytes(), arrays[f"{name} lengths"])
