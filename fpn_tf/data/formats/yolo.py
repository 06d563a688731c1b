"""YOLO's folders: a text file of boxes beside every photo's folder, and `data.yaml`, which names the classes.

A line is `class cx cy width height`, or `class x1 y1 x2 y2 x3 y3 ...` of a polygon, in shares of the photo's
width and height. A photo with an empty label file, or without one, has no boxes.
"""

import pathlib

import numpy as np
import yaml

from fpn_tf.data.formats.parts import (
    PhotoSet,
    annotation_entry,
    class_list,
    image_entry,
    part_of,
    photos_below,
    raise_for,
)
from fpn_tf.errors import DataError

OVERSHOOT = 0.01  # of a share beyond 0..1, which rounding explains
ROUNDED_DIGITS = range(5, 10)  # behind the point: fewer may be exact, more are as good as exact


def find(folder):
    """{"train", "val", "test" or "all": PhotoSet} of a folder; {} where it is none of YOLO's."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        description = _description(path)
        if "names" in description and ("train" in description or "val" in description):
            parts = {
                part: _listed(description.get(part), path, description) for part in ("train", "val", "test")
            }
            return {part: PhotoSet(path, folder, names) for part, names in parts.items() if names}
    if not class_list(folder):
        return {}
    labelled = [photo for photo in photos_below(folder) if label_file(photo).is_file()]
    by_part = {}
    for photo in labelled:
        part = next(filter(None, map(part_of, photo.relative_to(folder).parts[:-1])), "all")
        by_part.setdefault(part, []).append(str(photo))
    return {part: PhotoSet(folder, folder, tuple(names)) for part, names in by_part.items()}


def read(photo_set, class_names=()):
    """A PhotoSet's ground truth as a COCO dict; category ids are YOLO's numbers of the classes, from 0.

    Raises:
        DataError: a line or a class that is none, in one line with its file and number.
    """
    path = photo_set.annotations
    names = class_list(path) if path.is_dir() else _names(_description(path), path)
    categories = (
        [{"id": i, "name": name} for i, name in names.items()]
        if isinstance(names, dict)
        else [{"id": i, "name": name} for i, name in enumerate(names)]
    )
    known = {category["id"] for category in categories}
    images, annotations, mistakes = [], [], []
    for number, photo in enumerate(map(pathlib.Path, photo_set.names), start=1):
        image = image_entry(number, photo, photo_set.images)
        images.append(image)
        for where, text in _lines(label_file(photo)):
            category, corners = _box(text, image)
            if corners is None:
                mistakes.append(f"{where}: {text[:60]!r}: expected class cx cy width height, shares of 0..1")
            elif category not in known:
                mistakes.append(f"{where}: class {category}: expected one of {_shown(categories)}")
            else:
                annotations.append(annotation_entry(len(annotations) + 1, image, category, corners))
    raise_for(mistakes)
    return {"images": images, "annotations": annotations, "categories": categories}


def label_file(photo):
    """Where a photo's boxes stand: in `labels` instead of the last `images` of its path, or beside it."""
    parts = list(photo.parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return pathlib.Path(*parts).with_suffix(".txt")


def _description(path):
    """What a YAML file holds, a dict. Raises: DataError."""
    try:
        description = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())[:100]})") from None
    return description if isinstance(description, dict) else {}


def _names(description, path):
    """{number: name} of the classes."""
    names = description["names"]
    if isinstance(names, dict) and names and all(isinstance(i, int) for i in names):
        return {i: str(names[i]) for i in sorted(names)}
    if isinstance(names, list) and names:
        return dict(enumerate(map(str, names)))
    raise DataError(f"{path}: names = {str(names)[:60]}: expected a list of names, or each number's name")


def _listed(entries, path, description):
    """The photos, as paths, that an entry of data.yaml names: folders, or text files that list photos."""
    root = path.parent / str(description.get("path") or "")
    roots = [root, path.parent] if root.is_dir() else [path.parent]
    photos = []
    for entry in [entries] if isinstance(entries, str) else entries or []:
        # Roboflow writes ../train/images for train/images.
        forms = (str(entry), str(entry).removeprefix("../"))
        places = [base / form for base in roots for form in forms]
        place = next((p for p in places if p.exists()), None)
        if place is None:
            raise DataError(f"{path}: {entry}: no such folder as {places[0]}; expected the photos")
        photos += photos_below(place) if place.is_dir() else _photos_of_list(place)
    return tuple(map(str, photos))


def _photos_of_list(path):
    """The photos whose paths a text file lists, relative to its folder."""
    lines = filter(None, (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()))
    photos = [path.parent / line for line in lines]
    raise_for([f"{path}: {photo}: no such file" for photo in photos if not photo.is_file()])
    return photos


def _lines(path):
    """(file:number, text) of the lines that are not empty; none of a file that is absent."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [(f"{path}:{i}", line) for i, line in enumerate(lines, start=1) if line.strip()]


def _box(text, image):
    """(class number, its box's corners in pixels) of a line; corners None where it is none."""
    try:
        category, *numbers = map(float, text.split())
    except ValueError:
        return None, None
    is_box, is_polygon = len(numbers) == 4, len(numbers) >= 6 and len(numbers) % 2 == 0
    within = all(-OVERSHOOT <= value <= 1 + OVERSHOOT for value in numbers)  # NaN is not
    if category != int(category) or not (is_box or is_polygon) or not within:
        return None, None
    size = np.array([image.get("width", 1), image.get("height", 1)], np.float64)  # none if unreadable
    points = np.array(numbers).reshape(-1, 2)
    if is_box:
        center, sides = points
        low, high = (center - sides / 2) * size, (center + sides / 2) * size
    else:
        low, high = points.min(axis=0) * size, points.max(axis=0) * size
    corners = np.stack([low, high])
    whole = np.rint(corners)
    is_whole = np.abs(corners - whole) <= _rounding_error(text) * size
    return int(category), np.where(is_whole, whole, corners).ravel().tolist()


def _rounding_error(text):
    """The share of a photo by which the numbers of a line may be off, that are rounded to some digits.

    Labelling programs mark whole pixels, and write 0.367187 for 235 of 640: within this the pixel is meant.
    """
    digits = max(len(number.partition(".")[2]) for number in text.split()[1:])
    return 10.0 ** (1 - digits) if digits in ROUNDED_DIGITS else 0.0


def _shown(categories):
    return ", ".join(f"{c['id']}: {c['name']}" for c in categories[:20])
