"""COCO's JSON files in a folder, as COCO, Roboflow, CVAT, Label Studio and LabelMe lay them out."""

import pathlib
from urllib.parse import unquote

from fpn_tf.data.formats.parts import PhotoSet, part_of
from fpn_tf.errors import DataError
from fpn_tf.files import read_json

LISTS = {"images", "annotations", "categories"}
TRIED = 5  # photos of a file that tell where its photos are


def find(folder):
    """{"train", "val", "test" or "all": PhotoSet} of a folder; {} where it has no such file."""
    sets = {}
    for path in sorted(folder.rglob("*.json")):
        names = _photo_names(path)
        if names:
            inside = path.relative_to(folder)
            part = part_of(inside.stem) or next(filter(None, map(part_of, inside.parts[:-1])), "all")
            if part in sets:
                raise DataError(
                    f"{folder}: both {sets[part].annotations} and {path} are of {part}; "
                    "expected one, or data.train_annotations and data.eval_annotations"
                )
            sets[part] = PhotoSet(path, _images_folder(folder, path, names))
    return sets


def read(photo_set, class_names=()):
    """A PhotoSet's ground truth as a COCO dict, with the names that its photos have on the disk."""
    return with_file_names(read_json(photo_set.annotations), photo_set.images)


def with_file_names(coco, folder):
    """A COCO dict whose `file_name`s are those of the files in a folder, where these are there.

    Exports quote names as addresses, with backslashes, with folders of another machine, or with a prefix.
    """
    images = [
        image | {"file_name": on_disk(folder, image["file_name"])}
        if isinstance(image, dict) and isinstance(image.get("file_name"), str)
        else image
        for image in coco["images"]
    ]
    return coco | {"images": images}


def on_disk(folder, name):
    """The name under which a folder has the photo that an export calls `name`; `name` itself without one."""
    plain = name.replace("\\", "/")
    decoded = unquote(plain.partition("?")[0])
    last = pathlib.PurePosixPath(decoded).name
    for form in (name, plain, decoded, last, last.partition("-")[2]):  # Label Studio: 1a2b3c4d-photo.jpg
        if form and (pathlib.Path(folder) / form).is_file():
            return form
    return name


def _photo_names(path):
    """The first names of photos in a file in COCO's form; () of another file."""
    try:
        content = read_json(path)
    except DataError:
        return ()
    if (
        not isinstance(content, dict)
        or not content.keys() >= LISTS
        or not isinstance(content["images"], list)
    ):
        return ()
    names = [image.get("file_name") for image in content["images"][:TRIED] if isinstance(image, dict)]
    return tuple(name for name in names if isinstance(name, str))


def _images_folder(folder, path, names):
    """The folder below `folder` that most of some photos are in; the file's own where none is."""
    inside = [p for p in folder.rglob("*") if p.is_dir()]
    nearest = sorted(inside, key=lambda p: (part_of(p.name) != part_of(path.stem), p))
    places = [path.parent, folder, *nearest]

    def known(place):
        return sum((place / on_disk(place, name)).is_file() for name in names)

    return max(places, key=known)
