"""Photos in a folder, with their annotations in a COCO-format JSON file."""

import math
import pathlib

from fpn_tf import photos
from fpn_tf.data.categories import in_words
from fpn_tf.data.dataset import NO_FIELDS, from_coco_dict
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.files import read_json

SHOWN = 3  # offenders of a kind that a message names


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
    coco = read_json(annotations)
    folder = pathlib.Path(images)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the photos of {annotations}")
    check(coco, annotations)

    def path(image):
        return folder / image["file_name"]

    def read_size(image):
        return photos.upright_size(path(image))

    missing = [
        f"{path(i)}: no such file, named by image {i['id']}" for i in coco["images"] if not path(i).is_file()
    ]
    _raise_all(annotations, [missing])
    for image in coco["images"]:
        if "width" not in image or "height" not in image:
            try:
                image["height"], image["width"] = read_size(image)
            except PhotoError as error:
                raise DataError(str(error)) from None
    return from_coco_dict(
        coco,
        lambda image: path(image).read_bytes(),
        lambda image: str(path(image)),
        read_size,
        truth_fields,
        annotations,
    )


def check(coco, name):
    """Checks a COCO dict whole, and gives annotations the keys that they may leave out.

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

    image_ids = dict.fromkeys(image["id"] for image in coco["images"])
    categories = {category["id"]: category["name"] for category in coco["categories"]}
    orphans, unknown, shapeless = [], [], []
    for i, annotation in enumerate(coco["annotations"]):
        where = f"annotations[{i}] (id {annotation.get('id')})"
        image, category, box = (annotation.get(key) for key in ("image_id", "category_id", "bbox"))
        if not _is_whole(image) or image not in image_ids:
            known = "" if orphans else f" ({in_words(image_ids)})"
            orphans.append(f"{where}: image_id = {image} is no image's id{known}")
        if not _is_whole(category) or category not in categories:
            known = "" if unknown else f" ({in_words(categories)})"
            unknown.append(f"{where}: category_id = {category} is none of the ids in 'categories'{known}")
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            shapeless.append(f"{where}: bbox = {box}; expected [x, y, width, height], four finite numbers")
    _raise_all(name, [orphans, unknown, shapeless])

    free = max((a.get("id", 0) for a in coco["annotations"]), default=0) + 1
    for i, annotation in enumerate(coco["annotations"]):
        annotation.setdefault("id", free + i)
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])


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
    problems = ((f"{key}[{i}]", problem(entry)) for i, entry in enumerate(entries))
    return [f"{where}{text}" for where, text in problems if text]


def _bad_category(category):
    if isinstance(category, dict) and _is_whole(category.get("id")) and isinstance(category.get("name"), str):
        return ""
    return f" = {category}: expected an 'id' and a 'name'"


def _bad_image(image):
    if not isinstance(image, dict) or not _is_whole(image.get("id")):
        return ": expected a whole number as 'id'"
    if not isinstance(image.get("file_name"), str):
        return ": expected text as 'file_name'"
    for key in ("width", "height"):
        if key in image and not (_is_whole(image[key]) and image[key] > 0):
            return f".{key} = {image[key]}: expected a positive whole number"
    return ""


def _bad_annotation(annotation):
    if not isinstance(annotation, dict):
        return f" = {annotation}: expected an object"
    if not _is_whole(annotation.get("id", 0)):
        return f".id = {annotation['id']}: expected a whole number"
    return ""


def _repeated(coco, key):
    seen, messages = set(), []
    for i, entry in enumerate(coco[key]):
        if entry.get("id") in seen:
            messages.append(f"{key}[{i}].id = {entry['id']}: is used twice; ids must differ")
        seen.add(entry.get("id", ("none", i)))
    return messages


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
