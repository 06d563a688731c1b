"""`fpn_tf.evaluate`: a model's metrics on annotated photos, on every backend of Keras."""

import dataclasses
from typing import Any

import keras
import numpy as np

from fpn_tf import files, photos
from fpn_tf.data import coco_folder
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.structures import FilePath


def evaluate(model: keras.Model, annotations: FilePath, images: FilePath) -> dict[str, Any]:
    """Detects objects in every photo of a COCO-format set and scores them.

    Args:
        model: a detector of photos alone, such as `fpn_tf.FasterRCNN`. Where its preprocessor has no
            category ids, its classes 1..K are the file's categories in their order.
        annotations: path of the JSON file.
        images: folder that holds each image's `file_name`.

    Returns:
        COCO's 12 numbers by name, and `per_class`: class name -> AP; of an RPN the recall of its boxes.

    Raises:
        DataError: a file that is absent or wrong, or other classes than the model's; one line.

    Example:

    >>> model = fpn_tf.load("runs/shapes")
    >>> metrics = fpn_tf.evaluate(model, "val.json", "photos")
    >>> 0 <= metrics["AP"] <= 1, sorted(metrics["per_class"])
    (True, ['blue', 'green', 'red'])
    """
    dataset = coco_folder.load(files.expanded(annotations), files.expanded(images))
    kind = KINDS[model.kind]
    ids = _ids_of_classes(model, dataset, annotations) if kind.has_classes else None
    results, image_ids = [], []
    for index, record in enumerate(dataset.records):
        try:
            photo = photos.decode_rgb(dataset.read_bytes(index), record.name)
        except (PhotoError, OSError) as error:
            raise DataError(str(error)) from None
        [detections] = model.detect([photo])
        if ids is not None:
            detections = dataclasses.replace(detections, classes=ids[detections.classes - 1])
        results += kind.results(record.image_id, detections, record.size)
        image_ids.append(record.image_id)
    return kind.score(dataset.coco, results, image_ids)


def _ids_of_classes(model, dataset, annotations):
    """The data set's ids of the model's classes 1..K; None where the model's own are among them."""
    if model.preprocessor.category_ids:
        if set(model.preprocessor.category_ids) & set(dataset.category_ids):
            return None
        given = f"category ids {model.preprocessor.category_ids[:5]}"
    elif model.num_classes == len(dataset.category_ids):
        return np.asarray(dataset.category_ids, np.int64)
    else:
        given = f"{model.num_classes} classes"
    raise DataError(
        f"{annotations}: has the category ids {dataset.category_ids[:5]}, the model {given}; "
        "expected the categories that it was trained on"
    )
