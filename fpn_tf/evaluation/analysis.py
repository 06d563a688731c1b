"""Everything that a report tells of scored detections, computed once."""

from typing import NamedTuple

import numpy as np

from fpn_tf.data.dataset import class_labels
from fpn_tf.evaluation.curves import Curve, Threshold, best_threshold, curve
from fpn_tf.evaluation.faults import kinds_of
from fpn_tf.evaluation.matching import Matches, Objects, match

FALLBACK_SCORE = 0.5  # threshold where no class has a best one


class Analysis(NamedTuple):
    """Detections of some photos against their objects, at IoU 0.5."""

    image_ids: list  # of photos 0, 1, ..
    category_ids: list  # of classes 0, 1, ..
    class_names: list  # of classes 0, 1, .., all different
    objects: Objects
    matches: Matches
    kinds: np.ndarray  # [D] texts, see `faults.kinds_of`
    counts: list  # objects of each class, crowd regions apart
    curves: list[Curve | None]  # of each class; None without an object
    thresholds: list[Threshold | None]  # of each class; None without a right detection
    are_shown: np.ndarray  # [D] bool: at or above the best threshold of their class


def analyse(coco, results, image_ids=None):
    """Matches detections with ground truth and draws what follows from it.

    A class without a best threshold is shown from the median of the other ones' on.

    Args:
        coco: ground truth as a COCO dict.
        results: COCO results.
        image_ids: the images that were searched; None for all.
    """
    objects, matches = match(coco, results, image_ids)
    categories = sorted(coco["categories"], key=lambda category: category["id"])
    names, ids = ([category[key] for category in categories] for key in ("name", "id"))
    counts = np.bincount(objects.classes[~objects.are_crowds], minlength=len(ids)).tolist()
    curves = [_curve_of(number, matches, count) for number, count in enumerate(counts)]
    thresholds = [each and best_threshold(each) for each in curves]
    best_scores = [each.score for each in thresholds if each]
    usual = float(np.median(best_scores)) if best_scores else FALLBACK_SCORE
    lowest = np.asarray([each.score if each else usual for each in thresholds])
    photos = {image["id"] for image in coco["images"]}
    return Analysis(
        sorted(photos if image_ids is None else photos & set(image_ids)),
        ids,
        class_labels(names, ids),
        objects,
        matches,
        kinds_of(matches),
        counts,
        curves,
        thresholds,
        matches.scores >= lowest[matches.classes],
    )


def _curve_of(number, matches, count):
    """The Curve of a class with `count` objects; None where it has none."""
    rows = (matches.classes == number) & ~matches.are_absorbed
    return curve(matches.scores[rows], matches.objects[rows] >= 0, count) if count else None
