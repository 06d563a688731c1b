"""One's own photos: a folder and a COCO-format JSON file."""

import json
import math
import pathlib

from fpn_tf import photos
from fpn_tf.data.dataset import from_coco_dict
from fpn_tf.errors import DataError, PhotoError


def read_json(path):
    """Reads a JSON file. Raises: DataError where it is absent or no JSON."""
    try:
        return json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a COCO-format JSON file") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None


def load(annotations, images):
    """Reads the annotations and checks them whole.

    Args:
        annotations: path of the JSON file, with `images`, `annotations` and `categories`.
        images: folder that holds each image's `file_name`.

    Returns:
        Dataset. Images without `width` and `height` get them from the photo's header.

    Raises:
        DataError: the file, the entry, the value and what was expected, in one line.
    """
    coco = read_json(annotations)
    folder = pathlib.Path(images)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the photos of {annotations}")
    _check(coco, annotations)

    def path(image):
        return folder / image["file_name"]

    def read_bytes(image):
        return path(image).read_bytes()

    for image in coco["images"]:
        if not path(image).is_file():
            raise DataError(f"{path(image)}: no such file; {annotations} names it in image {image['id']}")
        if "width" not in image or "height" not in image:
            try:
                image["height"], image["width"] = photos.upright_size(path(image))
            except PhotoError as error:
                raise DataError(str(error)) from None
    return from_coco_dict(coco, read_bytes, lambda image: str(path(image)))


def _check(coco, name):
    """Raises DataError at the first entry that is malformed or points nowhere."""

    def need(condition, message):
        if not condition:
            raise DataError(f"{name}: {message}")

    def whole(value):
        return isinstance(value, int) and not isinstance(value, bool)

    need(
        isinstance(coco, dict),
        f"found a {type(coco).__name__}; expected an object with images, annotations, categories",
    )
    for key in ("images", "annotations", "categories"):
        need(
            isinstance(coco.get(key), list),
            f"no list '{key}'; expected COCO format (images, annotations, categories)",
        )
    need(coco["images"], "'images' is empty; expected at least one photo")
    need(coco["categories"], "'categories' is empty; expected at least one class")

    for i, category in enumerate(coco["categories"]):
        for key, kind in (("id", whole), ("name", lambda v: isinstance(v, str))):
            need(
                isinstance(category, dict) and kind(category.get(key)),
                f"categories[{i}] = {category}: expected an 'id' and a 'name'",
            )
    for i, image in enumerate(coco["images"]):
        need(
            isinstance(image, dict) and whole(image.get("id")),
            f"images[{i}]: expected a whole number as 'id'",
        )
        need(isinstance(image.get("file_name"), str), f"images[{i}]: expected text as 'file_name'")
        for key in ("width", "height"):
            need(
                key not in image or (whole(image[key]) and image[key] > 0),
                f"images[{i}].{key} = {image.get(key)}: expected a positive whole number",
            )
    for key in ("categories", "images"):
        seen = set()
        for i, entry in enumerate(coco[key]):
            need(
                entry["id"] not in seen, f"{key}[{i}].id = {entry['id']}: stands there twice; ids must differ"
            )
            seen.add(entry["id"])

    image_ids = {image["id"] for image in coco["images"]}
    category_ids = {category["id"] for category in coco["categories"]}
    for i, annotation in enumerate(coco["annotations"]):
        where = f"annotations[{i}]"
        need(isinstance(annotation, dict), f"{where} = {annotation}: expected an object")
        where += f" (id {annotation.get('id')})"
        need(
            annotation.get("image_id") in image_ids,
            f"{where}: image_id = {annotation.get('image_id')} is no image's id",
        )
        need(
            annotation.get("category_id") in category_ids,
            f"{where}: category_id = {annotation.get('category_id')} is none of the ids in 'categories'",
        )
        box = annotation.get("bbox")
        numbers = (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in box)
        )
        need(numbers, f"{where}: bbox = {box}; expected [x, y, width, height], four finite numbers")
        annotation.setdefault("id", i + 1)
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", box[2] * box[3])
