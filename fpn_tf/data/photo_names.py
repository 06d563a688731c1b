"""The names under which a folder has the photos of an export."""

import collections
import os
import pathlib
from urllib.parse import unquote

from fpn_tf.files import path_in

MANY = 1000  # photos in a folder: it is listed once, where fewer are looked up one by one
# Exports quote names as addresses, with backslashes, with folders of another machine, or with a prefix
# (Label Studio's 1a2b3c4d-photo.jpg).
FORMS = (
    lambda name: name,
    lambda name: name.replace("\\", "/"),
    lambda name: unquote(name.replace("\\", "/").partition("?")[0]),
    lambda name: _last(unquote(name.partition("?")[0])),
    lambda name: _last(unquote(name.partition("?")[0])).partition("-")[2],
)


def names_on_disk(folder, names):
    """The names in the form under which most of the photos are in a folder; as they are where none is.

    One form for all of them: a photo that is missing is not taken for one of the same last name elsewhere.

    Args:
        folder: pathlib.Path.
        names: texts, an export's.

    Returns:
        (texts, whether each is a file in the folder: list of bool).
    """
    best, are_best = list(names), are_files(folder, names)
    for form in FORMS[1:]:
        if all(are_best):
            break
        others = [form(name) for name in names]
        are_others = are_files(folder, others)
        if sum(are_others) > sum(are_best):
            best, are_best = others, are_others
    return best, are_best


def are_files(folder, names):
    """Whether each name is that of a file in a folder, a list of bool.

    Args:
        folder: pathlib.Path.
        names: texts, relative paths.
    """
    places = [name.rpartition("/") for name in names]
    counts = collections.Counter(inner for inner, _, _ in places)
    listed = {inner: _files_in(path_in(folder, inner)) for inner, count in counts.items() if count >= MANY}
    return [
        last in listed.get(inner, ()) or _is_file(folder, name)
        for name, (inner, _, last) in zip(names, places)
    ]


def _files_in(folder):
    """The set of names of the files in a folder; empty where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):
        return set()


def _is_file(folder, name):
    return bool(name) and os.path.isfile(path_in(folder, name))


def _last(name):
    return pathlib.PurePosixPath(name.replace("\\", "/")).name
