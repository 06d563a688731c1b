"""Where errors lie: which class is taken for which, which sizes, which photos."""

from typing import NamedTuple

import numpy as np

from fpn_tf.evaluation.faults import are_found, targets_of

SIZES = {  # COCO's areas in square pixels, from and below
    "small (below 32 x 32 pixels)": (0, 32**2),
    "medium": (32**2, 96**2),
    "large (from 96 x 96 pixels)": (96**2, np.inf),
}
CROWDING = {"1": (1, 2), "2 to 4": (2, 5), "5 to 9": (5, 10), "10 to 19": (10, 20), "20 to 49": (20, 50)}
CROWDING |= {"50 and more": (50, np.inf)}  # objects in the photo


class Recall(NamedTuple):
    """How many of some objects are found."""

    objects: int
    at_any_score: float
    at_thresholds: float


def confusion(objects, matches, kinds, are_shown, num_classes):
    """How often each class is taken for each, at IoU 0.5.

    Args:
        objects, matches: of `fpn_tf.evaluation.matching.match`.
        kinds: [D], of `fpn_tf.evaluation.faults.kinds_of`.
        are_shown: [D] bool: the detections that count.
        num_classes: K.

    Returns:
        [K + 1, K + 1] int: annotated class by detected class. An object that is not found counts
        under the class of the best detection that is on it, or else in the last column; a row's sum
        is the number of its objects. Detections that find none stand in the last row.
    """
    table = np.zeros((num_classes + 1, num_classes + 1), int)
    detected = np.full(len(objects.photos), num_classes)
    shown = np.flatnonzero(are_shown & ~matches.are_absorbed)
    finds = matches.objects[shown]
    detected[finds[finds >= 0]] = matches.classes[shown[finds >= 0]]
    wrong = shown[finds < 0]
    on_others = wrong[kinds[wrong] == "classification"]
    on_others = on_others[np.argsort(-matches.scores[on_others], kind="stable")]
    numbers, places = np.unique(targets_of(matches, kinds)[on_others], return_index=True)  # best of each
    is_confused = detected[numbers] == num_classes
    confused = on_others[places[is_confused]]
    detected[numbers[is_confused]] = matches.classes[confused]
    to_find = ~objects.are_crowds
    np.add.at(table, (objects.classes[to_find], detected[to_find]), 1)
    np.add.at(table[-1], matches.classes[np.setdiff1d(wrong, confused)], 1)
    return table


def recall_by(values, groups, objects, matches, are_shown):
    """The Recall of objects in groups of a value; groups without an object are left out.

    Args:
        values: [G] numbers.
        groups: name -> (from, below).
        objects, matches, are_shown: as `confusion` takes them.

    Returns:
        {name: Recall}.
    """
    found, found_shown = are_found(objects, matches), are_found(objects, matches, are_shown)
    recalls = {}
    for name, (low, high) in groups.items():
        rows = ~objects.are_crowds & (values >= low) & (values < high)
        if rows.any():
            recalls[name] = Recall(
                int(rows.sum()), float(found[rows].mean()), float(found_shown[rows].mean())
            )
    return recalls


def crowding_of(objects):
    """The number of objects in each object's photo, crowd regions apart: [G] int."""
    per_photo = np.bincount(objects.photos[~objects.are_crowds], minlength=objects.photos.max(initial=-1) + 1)
    return per_photo[objects.photos]


def ranked_photos(objects, matches, are_shown, num_photos):
    """Which photos have most errors, and which are the best.

    Args:
        objects, matches, are_shown: as `confusion` takes them.
        num_photos: N.

    Returns:
        (worst, best): photos with errors, false detections or objects not found, those of most errors
        first; photos with an object that is found, those of fewest errors and then of most finds first.
    """
    found = are_found(objects, matches, are_shown)
    is_false = are_shown & ~matches.are_absorbed & (matches.objects < 0)

    def per_photo(photos):
        return np.bincount(photos, minlength=num_photos)

    errors = per_photo(objects.photos[~objects.are_crowds & ~found]) + per_photo(matches.photos[is_false])
    finds = per_photo(objects.photos[found])
    worst, best = np.argsort(-errors, kind="stable"), np.lexsort((-finds, errors))
    return worst[errors[worst] > 0], best[finds[best] > 0]
