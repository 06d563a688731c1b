"""CSV files with a box a line: `path,x1,y1,x2,y2,class` (keras-retinanet's), or columns named in a header.

A photo without boxes is a line `path,,,,,`. Paths are relative to the file.
"""

import csv
import math

from fpn_tf.data.formats.parts import (
    PhotoSet,
    annotation_entry,
    categories_of,
    class_list,
    image_entry,
    part_of,
    photo_named,
    raise_for,
)
from fpn_tf.errors import DataError

COLUMNS = {  # of ours: their names in headers
    "path": ("path", "filename", "file_name", "image", "image_path", "img_path"),
    "x1": ("x1", "xmin", "x_min"),
    "y1": ("y1", "ymin", "y_min"),
    "x2": ("x2", "xmax", "x_max"),
    "y2": ("y2", "ymax", "y_max"),
    "class": ("class", "class_name", "label", "name"),
}
FORM = "path,x1,y1,x2,y2,class"


def find(folder):
    """{"train", "val", "test" or "all": PhotoSet} of a folder; {} where it has no file of boxes."""
    files = [path for path in sorted(folder.rglob("*.csv")) if _columns(_rows(path)) is not None]
    names = [next(filter(None, map(part_of, reversed(p.relative_to(folder).parts))), "all") for p in files]
    return {part: PhotoSet(path, path.parent) for part, path in zip(names, files)}


def read(photo_set, class_names=()):
    """A PhotoSet's ground truth as a COCO dict; see `fpn_tf.data.formats.voc.read`.

    Raises:
        DataError: a line that is none, in one line with its file and number.
    """
    path, folder = photo_set.annotations, photo_set.images
    rows = _rows(path)
    columns, first = _columns(rows)
    images, objects, mistakes = {}, [], []
    for number, row in list(enumerate(rows, start=1))[first:]:
        where = f"{path}:{number}"
        if not row:
            continue
        if len(row) <= max(columns.values()):
            mistakes.append(f"{where}: {','.join(row)[:60]!r}: expected {FORM}")
            continue
        name, *corners, label = (row[columns[key]].strip() for key in COLUMNS)
        if name not in images:
            photo = photo_named(folder, name)
            if photo is None:
                mistakes.append(f"{where}: {name}: no such photo in {folder}")
                continue
            images[name] = image_entry(len(images) + 1, photo, folder)
        if not any(corners) and not label:
            continue
        numbers = _numbers(corners)
        if numbers is None or not label:
            mistakes.append(f"{where}: {','.join(row)[:60]!r}: expected {FORM}, corners in pixels")
        else:
            objects.append((images[name], label, numbers))
    raise_for(mistakes)
    ordered = class_names or _mapping(folder) or class_list(folder)
    categories, id_of = categories_of((label for _, label, _ in objects), ordered)
    annotations = [
        annotation_entry(i, image, id_of[label], corners)
        for i, (image, label, corners) in enumerate(objects, start=1)
    ]
    return {"images": list(images.values()), "annotations": annotations, "categories": categories}


def _rows(path):
    """The rows of a CSV file. Raises: DataError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid CSV ({error})") from None


def _columns(rows):
    """({ours: number of the column}, first row of boxes); None where the rows are none of boxes."""
    if not rows:
        return None
    head = [name.strip().lower() for name in rows[0]]
    named = {key: next((head.index(n) for n in names if n in head), None) for key, names in COLUMNS.items()}
    if None not in named.values():
        return named, 1
    is_box = len(head) == len(COLUMNS) and (_numbers(head[1:5]) is not None or not any(head[1:]))
    return (dict(zip(COLUMNS, range(len(COLUMNS)))), 0) if is_box else None


def _numbers(texts):
    """Four finite numbers, or None."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _mapping(folder):
    """Class names by keras-retinanet's `classes.csv` (name,number), in the order of their numbers."""
    path = folder / "classes.csv"
    if not path.is_file():
        return ()
    pairs = [row for row in _rows(path) if row]
    if not all(len(row) == 2 and row[1].strip().isdigit() for row in pairs):
        raise DataError(f"{path}: expected lines of name,number")
    return tuple(name.strip() for name, _ in sorted(pairs, key=lambda row: int(row[1])))
