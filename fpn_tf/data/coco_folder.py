"""Photos in a folder, with their annotations in a COCO-format JSON file."""

import concurrent.futures
import dataclasses
import json
import math
import pathlib

import numpy as np

from fpn_tf import photos
from fpn_tf.data import typed_json
from fpn_tf.data.categories import in_words
from fpn_tf.data.columns import columns_of
from fpn_tf.data.dataset import SEGMENTATION, from_columns
from fpn_tf.data.json_stream import OddFileError
from fpn_tf.data.photo_names import names_on_disk
from fpn_tf.data.records import NO_FIELDS
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.files import opened_json, path_in, read_json

SHOWN = 3  # offenders of a kind that a message names
LONGEST = 40  # characters of a value in a message
LARGEST = float(np.finfo(np.float32).max)  # of a number in a box
READERS = 16  # threads; reading headers waits for the disk
INT32, INT64 = (range(-(2**bits), 2**bits) for bits in (31, 63))


def load(annotations, images, truth_fields=NO_FIELDS, segmentations=False):
    """Reads the annotations and checks them whole.

    Args:
        annotations: path of the JSON file, with `images`, `annotations` and `categories`.
        images: folder that holds each image's `file_name`.
        truth_fields: name -> TruthField, which every box's annotation must have.
        segmentations: whether to keep these.

    Returns:
        Dataset. Images without `width` and `height` get them from the photo's header.

    Raises:
        DataError: the file, the entry, the value and what was expected, in one line.
    """
    columns = read_columns(annotations, further_of(truth_fields, segmentations))
    return dataset_of(columns, images, annotations, truth_fields)


def further_of(truth_fields, segmentations):
    """The names of what is kept of annotations besides boxes and classes."""
    return (*truth_fields, *((SEGMENTATION,) if segmentations else ()))


def read_columns(annotations, further=()):
    """The Columns of a JSON file, checked whole.

    Args:
        annotations: its path.
        further: names of what else of the annotations to keep.

    Raises:
        DataError: see `check`.
    """
    try:
        with opened_json(annotations) as file:
            return typed_json.read_columns(file, further)
    except OddFileError:
        coco = read_json(annotations)
    check(coco, annotations)
    return columns_of(coco, further)


def dataset_of(columns, images, annotations, truth_fields=NO_FIELDS):
    """`load` of what the file holds; `annotations` is its name."""
    folder = pathlib.Path(images)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the photos of {annotations}")
    names, are_files = names_on_disk(folder, columns.file_names)
    missing = [
        f"{path_in(folder, names[row])}: no such file, named by image {columns.image_ids[row]}"
        for row in np.flatnonzero(~np.asarray(are_files, bool)).tolist()
    ]
    _raise_all(annotations, [missing])

    def path(index):
        return path_in(folder, names[index])

    def read_header(index):
        return photos.header_of(path(index), path(index))

    columns = dataclasses.replace(columns, file_names=names, sizes=_all_sizes(columns, read_header))
    return from_columns(
        columns,
        lambda index: photos.read_bytes(path(index)),
        lambda index: str(path(index)),
        read_header,
        truth_fields,
        annotations,
    )


def _all_sizes(columns, read_header):
    """The sizes of photos, [N, 2] int32, with those that the annotations lack from the photos themselves."""

    def size_of(row):
        try:
            return read_header(row).size
        except PhotoError:  # told, counted and passed over like any other, `survey.file_findings`
            return _least_size(columns.boxes[columns.images == row])

    sizes = columns.sizes.copy()
    unknown = np.flatnonzero(np.any(sizes == 0, axis=1)).tolist()
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        for row, size in zip(unknown, pool.map(size_of, unknown)):
            sizes[row] = size
    return sizes


def _least_size(boxes):
    """(height, width) that holds boxes [n, 4], at least 1: all that is known of an unreadable photo."""
    width, height = np.max(boxes[:, :2] + boxes[:, 2:], axis=0, initial=1)
    return math.ceil(height), math.ceil(width)


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
