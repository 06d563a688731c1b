"""A file of detections in COCO's result format, scored against a file of annotations."""

import collections
from typing import NamedTuple

from fpn_tf import files
from fpn_tf.config import SCORERS
from fpn_tf.data.categories import in_words
from fpn_tf.data.coco_folder import SHOWN, check, check_lists, is_box, is_number, shown
from fpn_tf.errors import DataError
from fpn_tf.evaluation import coco
from fpn_tf.evaluation.numbering import notes_on_boxes
from fpn_tf.evaluation.scorers import check_scorer


class ScoredFiles(NamedTuple):
    """A result file and what it is worth."""

    metrics: dict  # see `fpn_tf.evaluation.coco.evaluate`
    notes: list[str]  # what a user should know
    truth: dict  # in COCO's form
    results: list[dict]  # COCO results


def score_files(detections, annotations, scorer=SCORERS[0]):
    """Scores a COCO result file against an annotation file.

    Args:
        detections: path of the result file.
        annotations: path of the annotation file.
        scorer: the library that does it, see `fpn_tf.evaluation.scorers`.

    Returns:
        ScoredFiles; above 100 detections of a class in a photo all of them are counted, too.

    Raises:
        DataError: a file that is absent, no JSON or of another form.
        ConfigError: no such scorer, or it is not installed.
    """
    check_scorer(scorer, "eval.scorer")
    truth = read_truth(annotations)
    results = read_results(detections, truth, annotations)
    per_class = collections.Counter((result["image_id"], result["category_id"]) for result in results)
    limit = max(per_class.values(), default=0)
    notes = notes_on_boxes(truth, annotations)
    notes += [note for note in (coco.limit_note(limit, detections),) if note]
    return ScoredFiles(coco.evaluate(truth, results, None, limit, scorer), notes, truth, results)


def read_truth(path):
    """A COCO annotation file as a dict, checked like one to train on; its images need no `file_name`.

    Raises:
        DataError: it is absent, no JSON or of another form.
    """
    truth = files.read_json(path)
    check_lists(truth, path)
    for image in truth["images"]:
        if isinstance(image, dict):
            image.setdefault("file_name", "-")
    check(truth, path)
    return truth


def read_results(path, truth, annotations):
    """The entries of a COCO result file.

    Args:
        path: of the file.
        truth: what `read_truth` gave of `annotations`.
        annotations: path of the annotation file, for messages.

    Raises:
        DataError: it is absent, no JSON, or has entries of another form, or of images or categories
            that the annotations do not have: each kind of mistake with its first few entries.
    """
    results = files.read_json(path)
    if not isinstance(results, list):
        raise DataError(f"{path}: found no list; expected a list of results")
    image_ids = dict.fromkeys(image["id"] for image in truth["images"])
    categories = {category["id"]: category["name"] for category in truth["categories"]}
    fields = {
        "image_id": (_is_among(image_ids), f"an image of {annotations}: {in_words(image_ids)}"),
        "category_id": (_is_among(categories), f"a category of {annotations}: {in_words(categories)}"),
        "bbox": (_is_sound_box, "[x, y, width, height], finite numbers, no size below 0"),
        "score": (is_number, "a finite number"),
    }
    lacking = [(i, entry, _absent(entry, fields)) for i, entry in enumerate(results)]
    no_results = [f"[{i}] = {shown(entry)} has no {key}" for i, entry, key in lacking if key]
    _raise_all(path, [(no_results, f"an object with {', '.join(fields)}")])
    mistakes = [
        (
            [
                f"[{i}].{key} = {shown(entry[key])}"
                for i, entry in enumerate(results)
                if not is_right(entry[key])
            ],
            expected,
        )
        for key, (is_right, expected) in fields.items()
    ]
    _raise_all(path, mistakes)
    return results


def _raise_all(path, mistakes):
    """Raises DataError unless the lists of entries, each with what was expected of them, are all empty."""
    texts = []
    for entries, expected in mistakes:
        count = f" ({len(entries)} such)" if len(entries) > SHOWN else ""
        texts += [f"{', '.join(entries[:SHOWN])}{count}: expected {expected}"] if entries else []
    if texts:
        raise DataError(f"{path}: {'; '.join(texts)}")


def _absent(entry, keys):
    """The first of the keys that an entry does not have, or None."""
    return next((key for key in keys if not isinstance(entry, dict) or key not in entry), None)


def _is_among(ids):
    """A function that tells whether a value is one of the ids: a whole number."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value in ids


def _is_sound_box(value):
    return is_box(value) and min(value[2:]) >= 0
