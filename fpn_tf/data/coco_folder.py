"""Photos in a folder, with their annotations in a COCO-format JSON file."""

import json
import math
import os
import pathlib

import numpy as np

from fpn_tf import photos
from fpn_tf.data.categories import in_words
from fpn_tf.data.dataset import NO_FIELDS, from_coco_dict
from fpn_tf.data.photo_names import names_on_disk
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.files import path_in, read_json

SHOWN = 3  # offenders of a kind that a message names
LONGEST = 40  # characters of a value in a message
LARGEST = float(np.finfo(np.float32).max)  # of a number in a box
INT32, INT64 = (range(-(2**bits), 2**bits) for bits in (31, 63))


def load(annotations, images, truth_fields=NO_FIELDS):
    """Reads the annotations and checks them whole.

    Args:
        annotations: path of the JSON file, with `images`, `annotations` and `categories`.
        images: folder that holds each image's `file_name`.
        truth_fields: name -> TruthField, which every box's annotation must have.

    Returns:
        Dataset. Images without `width` and `height` get them from the photo's header.

    Raises:
        DataError: the file, the entry, the value and what was expected, in one line.
    """
    return dataset_of(read_json(annotations), images, annotations, truth_fields)


def dataset_of(coco, images, annotations, truth_fields=NO_FIELDS):
    """`load` of what the file holds; `annotations` is its name."""
    folder = pathlib.Path(images)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the photos of {annotations}")
    check(coco, annotations)
    names = names_on_disk(folder, [image["file_name"] for image in coco["images"]])
    coco = coco | {"images": [i | {"file_name": name} for i, name in zip(coco["images"], names)]}

    def path(image):
        return path_in(folder, image["file_name"])

    def read_header(image):
        return photos.header_of(path(image), path(image))

    missing = [
        f"{path(i)}: no such file, named by image {i['id']}"
        for i in coco["images"]
        if not os.path.isfile(path(i))  # False for names that no file can have, too
    ]
    _raise_all(annotations, [missing])
    for image in coco["images"]:
        if image.get("width") is None or image.get("height") is None:
            try:
                image["height"], image["width"] = read_header(image).size
            except PhotoError:  # told, counted and passed over like any other, `survey.file_findings`
                image["height"], image["width"] = _least_size(image, coco["annotations"])
    return from_coco_dict(
        coco,
        lambda image: photos.read_bytes(path(image)),
        lambda image: str(path(image)),
        read_header,
        truth_fields,
        annotations,
    )


def _least_size(image, annotations):
    """(height, width) that holds an image's boxes, at least 1: all that is known of an unreadable photo."""
    boxes = [a["bbox"] for a in annotations if a["image_id"] == image["id"]]
    width = max((x + width for x, _, width, _ in boxes), default=1)
    height = max((y + height for _, y, _, height in boxes), default=1)
    return max(math.ceil(height), 1), max(math.ceil(width), 1)


def check(coco, name):
    """Checks a COCO dict whole, and gives annotations the keys that they may leave out.

    A key that is null counts as absent. Without `area` it is that of the box, without `iscrowd` 0.

    Args:
        coco: what the JSON file holds.
        name: of the file, for messages.

    Raises:
        DataError: every kind of mistake with its count and the first few offenders, in one line.
    """
    check_lists(coco, name)
    for key, what in (("images", "photo"), ("categories", "class")):
        if not coco[key]:
            raise DataError(f"{name}: '{key}' is empty; expected at least one {what}")
    _raise_all(name, [_bad_entries(coco["categories"], "categories", _bad_category)])
    _raise_all(name, [_bad_entries(coco["images"], "images", _bad_image)])
    _raise_all(name, [_bad_entries(coco["annotations"], "annotations", _bad_annotation)])
    _raise_all(name, [_repeated(coco, key) for key in ("categories", "images", "annotations")])
    _raise_all(name, _bad_references(coco))
    _fill_in(coco["annotations"])


def check_lists(coco, name):
    """Raises DataError unless `coco` is a dict with COCO's three lists."""
    if not isinstance(coco, dict):
        kind = type(coco).__name__
        raise DataError(f"{name}: found a {kind}; expected an object with images, annotations, categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco.get(key), list):
            raise DataError(
                f"{name}: no list '{key}'; expected COCO format (images, annotations, categories)"
            )


def _raise_all(name, kinds):
    """Raises DataError unless all lists of messages, one for each kind of mistake, are empty."""
    parts = []
    for messages in filter(None, kinds):
        more = f" ({len(messages)} such)" if len(messages) > SHOWN else ""
        parts.append("; ".join(messages[:SHOWN]) + more)
    if parts:
        raise DataError(f"{name}: {'; '.join(parts)}")


def _bad_entries(entries, key, problem):
    messages = []
    for i, entry in enumerate(entries):
        text = problem(entry) if isinstance(entry, dict) else f" = {shown(entry)}: expected an object"
        if text:
            messages.append(f"{key}[{i}]{text}")
    return messages


def _bad_category(category):
    if not _is_whole(category.get("id")):
        return _unlike(category, "id", "a whole number")
    if category["id"] not in INT32:
        return _unlike(category, "id", "a whole number of 32 bits, as models give for a class")
    return "" if isinstance(category.get("name"), str) else _unlike(category, "name", "text")


def _bad_image(image):
    if not _is_whole(image.get("id")):
        return _unlike(image, "id", "a whole number")
    if image["id"] not in INT64:
        return _unlike(image, "id", "a whole number of 64 bits")
    if not isinstance(image.get("file_name"), str):
        return _unlike(image, "file_name", "text")
    for key in ("width", "height"):
        value = image.get(key)
        if value is not None and not (_is_whole(value) and 0 < value in INT32):
            return _unlike(image, key, "a positive whole number of pixels")
    return ""


def _bad_annotation(annotation):
    number, area, crowd = (annotation.get(key) for key in ("id", "area", "iscrowd"))
    if number is not None and not _is_whole(number):
        return _unlike(annotation, "id", "a whole number")
    if area is not None and not (is_number(area) and area >= 0):
        return _unlike(annotation, "area", "a number of square pixels, 0 or more")
    if crowd is not None and not (isinstance(crowd, int | float) and crowd in (0, 1)):
        return _unlike(annotation, "iscrowd", "0 or 1")
    return ""


def _bad_references(coco):
    """Three lists of messages: annotations of no image, of no category, and without a box."""
    image_ids = dict.fromkeys(image["id"] for image in coco["images"])
    categories = {category["id"]: category["name"] for category in coco["categories"]}
    orphans, unknown, shapeless = [], [], []
    for i, annotation in enumerate(coco["annotations"]):
        where = f"annotations[{i}] (id {annotation.get('id')})"
        image, category, box = (annotation.get(key) for key in ("image_id", "category_id", "bbox"))
        if not _is_whole(image):
            orphans.append(f"{where}{_unlike(annotation, 'image_id', 'a whole number')}")
        elif image not in image_ids:
            known = "" if orphans else f" ({in_words(image_ids)})"  # once in a line
            orphans.append(f"{where}: image_id = {image} is no image's id{known}")
        if not _is_whole(category):
            unknown.append(f"{where}{_unlike(annotation, 'category_id', 'a whole number')}")
        elif category not in categories:
            known = "" if unknown else f" ({in_words(categories)})"
            unknown.append(f"{where}: category_id = {category} is none of the ids in 'categories'{known}")
        if not is_box(box):
            expected = "[x, y, width, height], four finite numbers"
            shapeless.append(f"{where}{_unlike(annotation, 'bbox', expected)}")
    return orphans, unknown, shapeless


def _repeated(coco, key):
    seen, messages = set(), []
    for i, entry in enumerate(coco[key]):
        number = entry.get("id")
        if number in seen:
            messages.append(f"{key}[{i}].id = {number}: is used twice; ids must differ")
        seen.add(("none", i) if number is None else number)
    return messages


def _fill_in(annotations):
    """Gives annotations the keys that they leave out, or have as null."""
    free = max((a["id"] for a in annotations if a.get("id") is not None), default=0) + 1
    for i, annotation in enumerate(annotations):
        if annotation.get("id") is None:
            annotation["id"] = free + i
        if annotation.get("area") is None:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)


def _unlike(entry, key, expected):
    """The end of a message: a key that is absent or of another kind than expected."""
    if key not in entry:
        return f": has no '{key}'; expected {expected}"
    return f".{key} = {shown(entry[key])}: expected {expected}"


def shown(value):
    """A JSON value as a message shows it: as it stands in the file, cut short."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def is_box(value):
    """Whether a JSON value is a list of four numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def is_number(value):
    """Whether a JSON value is a number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)
