"""COCO's JSON files in a folder, as COCO, Roboflow, CVAT, Label Studio and LabelMe lay them out."""

import functools
import os

from fpn_tf.data import typed_json
from fpn_tf.data.formats.parts import PhotoSet, part_of
from fpn_tf.data.json_stream import OddFileError
from fpn_tf.data.photo_names import names_on_disk
from fpn_tf.errors import DataError
from fpn_tf.files import opened_json, read_json

LISTS = {"images", "annotations", "categories"}
TRIED = 5  # photos of a file that tell where its photos are


def find(folder):
    """{"train", "val", "test" or "all": PhotoSet} of a folder; {} where it has no such file.

    Raises:
        DataError: two files of one part, or none but such as cannot be read.
    """
    sets, unreadable = {}, []
    for path in sorted(folder.rglob("*.json")):
        try:
            names = _photo_names(path)
        except DataError as error:
            unreadable.append(error)
            continue
        if names:
            inside = path.relative_to(folder)
            part = part_of(inside.stem) or next(filter(None, map(part_of, inside.parts[:-1])), "all")
            if part in sets:
                raise DataError(
                    f"{folder}: both {sets[part].annotations} and {path} are of {part}; "
                    "expected one, or data.train_annotations and data.eval_annotations"
                )
            sets[part] = PhotoSet(path, _images_folder(folder, path, names))
    if unreadable and not sets:
        raise unreadable[0]
    return sets


def read(photo_set, class_names=()):
    """A PhotoSet's ground truth as a COCO dict, not checked yet; the order of its classes is its own."""
    return read_json(photo_set.annotations)


def _photo_names(path):
    """The first names of photos in a file in COCO's form; () of another file. Raises: DataError."""
    status = os.stat(path)
    return _names_of_version(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _names_of_version(path, changed, size):
    """`_photo_names` of a file as it was at a time: both splits of a folder look for the same files."""
    del changed, size
    try:
        with opened_json(path) as file:
            return typed_json.photo_names(file, TRIED)
    except OddFileError:
        content = read_json(path)
    if (
        not isinstance(content, dict)
        or not content.keys() >= LISTS
        or not isinstance(content["images"], list)
    ):
        return ()
    names = [image.get("file_name") for image in content["images"][:TRIED] if isinstance(image, dict)]
    return tuple(name for name in names if isinstance(name, str))


def _images_folder(folder, path, names):
    """The folder below `folder` that has the most of some photos; the file's own where none has."""
    inside = [p for p in folder.rglob("*") if p.is_dir()]
    nearest = sorted(inside, key=lambda p: (part_of(p.name) != part_of(path.stem), p))
    places = [path.parent, folder, *nearest]

    def known(place):
        _, are_files = names_on_disk(place, names)
        return sum(are_files)

    return max(places, key=known)
