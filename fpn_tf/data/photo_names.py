"""The names under which a folder has the photos of an export."""

import os
import pathlib
from urllib.parse import unquote

from fpn_tf.files import path_in

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
    """
    best, most = list(names), _count(folder, names)
    for form in FORMS[1:]:
        if most == len(names):
            break
        others = [form(name) for name in names]
        count = _count(folder, others)
        if count > most:
            best, most = others, count
    return best


def _last(name):
    return pathlib.PurePosixPath(name.replace("\\", "/")).name


def _count(folder, names):
    return sum(bool(name) and os.path.isfile(path_in(folder, name)) for name in names)
