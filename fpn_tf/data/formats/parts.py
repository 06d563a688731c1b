"""What the readers of formats share: sets of a folder, photos by their names, categories, mistakes."""

import pathlib
from typing import NamedTuple

from fpn_tf import photos
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.photo_paths import photo_suffixes

SHOWN = 3  # mistakes that a message names
PART_NAMES = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "eval"),
    "test": ("test", "testing"),
}


class PhotoSet(NamedTuple):
    """The photos and annotations of one part of a data set.

    Attributes:
        annotations: the file or folder that has them.
        images: the folder that names of photos are relative to.
        names: which photos, as the format tells it; None: all of them.
    """

    annotations: pathlib.Path
    images: pathlib.Path
    names: tuple[str, ...] | None = None


def part_of(name):
    """ "train", "val" or "test" as the words of a file's or folder's name tell it, else None."""
    words = "".join(c if c.isalpha() else " " for c in name.lower()).split()
    for part, synonyms in PART_NAMES.items():
        if any(word in synonyms for word in words):
            return part
    return None


def photos_below(folder):
    """The photos in a folder and the folders below it, sorted by path."""
    known = photo_suffixes()
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in known and p.is_file())


def photo_named(folder, name):
    """The file in a folder that an annotation calls `name`, whatever its extension; None without one."""
    path = folder / name
    if path.is_file():
        return path
    stem = path.with_suffix("") if path.suffix else path
    known = photo_suffixes()
    matches = (
        p for p in sorted(stem.parent.glob(f"{glob_literal(stem.name)}.*")) if p.suffix.lower() in known
    )
    return next(matches, None)


def glob_literal(text):
    """A text as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def image_entry(number, path, folder):
    """COCO's entry of a photo; without a size where it cannot be read, which is told with the others."""
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    try:
        height, width = photos.header_of(path, path).size
    except PhotoError:
        return {"id": number, "file_name": name}
    return {"id": number, "file_name": name, "height": height, "width": width}


def annotation_entry(number, image, category_id, corners, **more):
    """COCO's entry of a box given by its corners (x1, y1, x2, y2) in pixels."""
    x1, y1, x2, y2 = corners
    box = [x1, y1, x2 - x1, y2 - y1]
    area = max(box[2], 0.0) * max(box[3], 0.0)
    plain = {"id": number, "image_id": image["id"], "category_id": category_id, "bbox": box, "area": area}
    return plain | {"iscrowd": 0} | more


def categories_of(used, ordered=()):
    """COCO's categories of the class names that are used, and {name: id}; ids count from 1.

    Args:
        used: names, in any order.
        ordered: names in the order that is wanted, where one is known; others follow by the alphabet.
    """
    names = (*ordered, *sorted(set(used) - set(ordered)))
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    return categories, {name: i for i, name in enumerate(names, start=1)}


def raise_for(mistakes):
    """Raises DataError where there are any, with their number and the first of them, in one line."""
    if mistakes:
        more = f" ({len(mistakes)} such)" if len(mistakes) > SHOWN else ""
        raise DataError("; ".join(mistakes[:SHOWN]) + more)


def class_list(folder):
    """The class names that a file in a folder lists, a line each, in their order; () without one."""
    for name in ("classes.txt", "labels.txt", "obj.names", "predefined_classes.txt"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return ()
