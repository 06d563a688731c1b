"""TensorFlow Datasets by name: `shapes`, `coco/2017`, `voc/2007`, or any set with their features."""

import io
import re

import numpy as np
import tensorflow_datasets as tfds

from fpn_tf import coco_classes, photos
from fpn_tf.data import shapes  # noqa: F401  (registers the builder)
from fpn_tf.data.dataset import from_coco_dict
from fpn_tf.data.records import NO_FIELDS
from fpn_tf.errors import DataError

COCO_CATEGORY_IDS = tuple(coco_classes.NAMES)
"""COCO's official ids of TFDS' labels 0..79."""


def load(name, split, data_dir="", truth_fields=NO_FIELDS):
    """Prepares a TFDS data set (downloading it if it is one of the public ones) and indexes it.

    Args:
        name: e.g. "coco/2017".
        split: e.g. "train", "validation[:100]".
        data_dir: where TFDS keeps its files; "": its default.
        truth_fields: name -> TruthField, features of `objects`.

    Returns:
        Dataset. Category ids are COCO's official ones for `coco/...`, 1..K otherwise. VOC's
        `is_difficult` objects count as crowd: no positives, not scored.

    Raises:
        DataError: no such data set or split, or features of another kind.
    """
    tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
        builder.download_and_prepare()
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"data.tfds_name={name}, split {split}: {str(error).strip().splitlines()[0]}"
        ) from None
    features = builder.info.features
    if "objects" not in features or "bbox" not in features["objects"].feature:
        raise DataError(f"data.tfds_name={name}: has no objects/bbox; expected a detection data set")
    missing = set(truth_fields) - set(features["objects"].feature)
    if missing:
        raise DataError(
            f"data.tfds_name={name}: objects have no '{min(missing)}'; expected the truth field among "
            f"{', '.join(features['objects'].feature)}"
        )
    names = features["objects"].feature["label"].names
    is_coco = name.split("/")[0] == "coco" and len(names) == len(COCO_CATEGORY_IDS)
    ids = COCO_CATEGORY_IDS if is_coco else tuple(range(1, len(names) + 1))
    return from_examples(source, names, ids, truth_fields, name)


def from_examples(source, class_names, category_ids, truth_fields=NO_FIELDS, name="TFDS examples"):
    """A Dataset from TFDS examples whose images are encoded bytes.

    Args:
        source: a sequence of examples in the features of `coco` or `voc`.
        class_names: of labels 0..K-1.
        category_ids: of labels 0..K-1.
        truth_fields: name -> TruthField, features of `objects`.
        name: of the data set, for messages.
    """
    coco = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in zip(category_ids, class_names)],
    }
    headers = []
    for index in range(len(source)):
        example = source[index]
        file_name = _text(example.get("image/filename", index))
        header = photos.header_of(io.BytesIO(_encoded(example)), f"{name}: {file_name}")
        height, width = header.size
        image_id = int(example["image/id"]) if "image/id" in example else _number(file_name, index)
        coco["images"].append(
            {"id": image_id, "file_name": file_name, "width": width, "height": height, "index": index}
        )
        headers.append(header)
        for box in _boxes(example["objects"], width, height, truth_fields):
            box |= {"id": len(coco["annotations"]) + 1, "image_id": image_id}
            box["category_id"] = category_ids[box.pop("label")]
            coco["annotations"].append(box)
    if len({image["id"] for image in coco["images"]}) < len(coco["images"]):
        raise DataError(f"{name}: two images have the same id; expected them to differ")
    return from_coco_dict(
        coco,
        lambda image: _encoded(source[image["index"]]),
        lambda image: image["file_name"],
        lambda image: headers[image["index"]],
        truth_fields,
        name,
    )


def _boxes(objects, width, height, truth_fields):
    """The objects of an example as COCO annotations without ids, `label` still 0..K-1."""
    count = len(objects["label"])
    crowd = objects.get("is_crowd", objects.get("is_difficult", [False] * count))
    for i in range(count):
        y1, x1, y2, x2 = (float(v) for v in objects["bbox"][i])  # shares of the sides
        box = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
        area = float(objects["area"][i]) if "area" in objects else box[2] * box[3]
        annotation = {"bbox": box, "label": int(objects["label"][i]), "iscrowd": int(crowd[i]), "area": area}
        if "mask" in objects:
            annotation["segmentation"] = {"size": [height, width], "counts": _text(objects["mask"][i])}
        for name in truth_fields:
            annotation.setdefault(name, np.asarray(objects[name][i]).tolist())
        yield annotation


def _encoded(example):
    image = example["image"]
    return image if isinstance(image, bytes) else bytes(image.item())


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _number(name, index):
    """The image id in a file name such as 2007_000032.jpg or 000005.jpg; else the position."""
    digits = re.sub(r"\D", "", name.rsplit(".", 1)[0])
    return int(digits) if digits and int(digits) < 2**63 else index
