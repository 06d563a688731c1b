"""`fpn_tf.evaluate`: a model's metrics on annotated photos, on every backend of Keras."""

from typing import Any

import keras
from absl import logging

from fpn_tf import files, photos
from fpn_tf.config import SCORERS
from fpn_tf.data import coco_folder
from fpn_tf.data.categories import categories_of, in_classes_of, known_by, matched, unknown_note
from fpn_tf.data.findings import warn_of
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.evaluation.scorers import check_scorer
from fpn_tf.structures import FilePath


def evaluate(
    model: keras.Model, annotations: FilePath, images: FilePath, scorer: str = SCORERS[0]
) -> dict[str, Any]:
    """Detects objects in every photo of a COCO-format set and scores them; logs what is doubtful there.

    Args:
        model: a detector of photos alone, such as `fpn_tf.FasterRCNN`. Its classes are the file's of
            the same names, whatever their ids, or of the same ids; where its preprocessor has neither
            names nor ids, classes 1..K are the file's categories in their order.
        annotations: path of the JSON file.
        images: folder that holds each image's `file_name`.
        scorer: the library that scores: "pycocotools", or "hotcoco", which gives the same numbers in less
            time (`pip install hotcoco`).

    Returns:
        COCO's 12 numbers by name, and `per_class`: class name -> AP; of a model that may find N > 100
        objects in a photo also AP_at_N and ARN, which count as many; of an RPN the recall of its boxes.

    Raises:
        DataError: a file that is absent or wrong, or other classes than the model's; one line.
        ConfigError: the scorer is not installed.

    Example:

    >>> model = fpn_tf.load("runs/shapes")
    >>> metrics = fpn_tf.evaluate(model, "val.json", "photos")
    >>> 0 <= metrics["AP"] <= 1, sorted(metrics["per_class"])
    (True, ['blue', 'green', 'red'])
    """
    check_scorer(scorer, "scorer")
    return score(model, open_scored(model, annotations, images), scorer)


def open_scored(model, annotations, images):
    """The Dataset of a COCO-format set in the model's classes; see `evaluate`."""
    kind = KINDS[model.kind]
    paths = files.expanded(annotations), files.expanded(images)
    dataset = coco_folder.load(*paths, segmentations=kind.scores_segments)
    notes: tuple[str | None, ...] = ()
    warn_of(dataset, annotations)
    if kind.has_classes:
        dataset, notes = _in_classes_of_model(dataset, model, annotations)
    for note in filter(None, notes):
        logging.warning("%s", note)
    return dataset


def score(model, dataset, scorer):
    """A model's metrics on a Dataset of `open_scored`; see `evaluate`."""
    kind = KINDS[model.kind]
    results, image_ids = [], []
    for index, record in enumerate(dataset.records):
        try:
            photo = photos.decode_rgb(dataset.read_bytes(index), record.name)
        except (PhotoError, OSError) as error:
            raise DataError(str(error)) from None
        [detections] = model.detect([photo])
        results += kind.results(record.image_id, detections, record.size)
        image_ids.append(record.image_id)
    return kind.score(dataset.coco, results, image_ids, model.max_detections, scorer)


def _in_classes_of_model(dataset, model, source):
    """(Dataset in the model's classes, notes): by name or id, or in order where the model has neither."""
    ids, names = model.preprocessor.category_ids, model.preprocessor.class_names
    known = known_by(ids, names, model.num_classes)
    if not ids and not names and len(known) == len(dataset.category_ids):
        return in_classes_of(dataset, known, dict(zip(dataset.category_ids, known))), ()
    matching = matched(known, categories_of(dataset), dataset.used_ids, str(source))
    dataset = in_classes_of(dataset, known, matching.ids)
    return dataset, (*matching.notes, unknown_note(dataset.coco, known, str(source)))
