"""The held-out split as it is scored: in the model's classes, against official truth if it has some."""

import dataclasses

from fpn_tf.data import segments
from fpn_tf.data.categories import (
    categories_of,
    in_classes_of,
    known_by,
    matched,
    renumbered,
    unknown_note,
    used_ids,
)
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.errors import DataError
from fpn_tf.evaluation.coco import limit_note
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.evaluation.numbering import notes_on_boxes
from fpn_tf.evaluation.result_file import read_truth
from fpn_tf.evaluation.scorers import check_scorer


def as_scored(dataset, config):
    """A Dataset of the held-out split for the evaluation of a model, with all that can be wrong checked.

    Detections keep the ids of the model's training set; it is the ground truth that is renumbered.

    Args:
        dataset: Dataset that the config names for evaluation.
        config: Config with the model's classes.

    Returns:
        (Dataset, notes): its classes and category ids are the model's, its `coco` is that of
        `eval.annotations` where the config names one; notes are lines that a user should know.

    Raises:
        DataError: classes that cannot be matched with the model's, or official annotations that are
            wrong or do not have the data set's images.
        ConfigError: `eval.scorer` is not installed.
    """
    check_scorer(config.eval.scorer, "eval.scorer")
    data, official = config.data, config.eval.annotations
    key = next(key for key in ("folder", "eval_annotations", "tfds_name") if getattr(data, key))
    source = f"data.{key}={getattr(data, key)}"
    truth = _official_truth(official, dataset, data.segments) if official else None
    notes = []
    if KINDS[config.model.kind].has_classes:
        known = known_by(data.category_ids, data.class_names, config.model.num_classes)
        matching = matched(known, categories_of(dataset), dataset.used_ids, source)
        dataset = in_classes_of(dataset, known, matching.ids)
        notes += matching.notes
        if truth:
            names = {category["id"]: category["name"] for category in truth["categories"]}
            matching = matched(known, names, used_ids(truth), f"eval.annotations={official}")
            truth = renumbered(truth, matching.ids)
            notes += matching.notes
        notes += [
            unknown_note(truth or dataset.coco, known, source),
            limit_note(config.eval.max_detections, "eval.max_detections"),
        ]
    if truth:
        dataset = dataclasses.replace(dataset, official=truth)
        notes += notes_on_boxes(truth, f"eval.annotations={official}")
    return dataset, [note for note in notes if note]


def with_truth_fields(dataset, config, fields):
    """The Dataset of `as_scored` with further fields of its annotations, by which a model's heads learn.

    Args:
        dataset: Dataset.
        config: Config that it was opened with.
        fields: name -> TruthField.

    Raises:
        DataError: an annotation lacks one of them.
    """
    if not fields:
        return dataset
    read = open_dataset(config.data, "eval", fields)
    records = dataclasses.replace(dataset.records, fields=read.records.fields)
    return dataclasses.replace(dataset, records=records, truth_fields=fields)


def _official_truth(path, dataset, needs_segments):
    """The ground truth of `eval.annotations`, with the photos' sizes. Raises: DataError."""
    truth = read_truth(path)
    if needs_segments:
        segments.check_segmentations(truth, path)
    unknown = {record.image_id for record in dataset.records} - {image["id"] for image in truth["images"]}
    if unknown:
        raise DataError(
            f"eval.annotations={path}: has no image {min(unknown)} ({len(unknown)} such); expected the ids "
            "of the evaluated photos"
        )
    sizes = {record.image_id: record.size for record in dataset.records}
    for image in truth["images"]:
        if image["id"] in sizes:
            image["height"], image["width"] = sizes[image["id"]]
    return truth
