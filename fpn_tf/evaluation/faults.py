"""Kinds of error, and the AP that each of them costs (TIDE, Bolya et al. 2020), out of Matches.

Of two errors at one object that mending would each turn into a find, the one of the higher score
does; the other goes away, as in the authors' code. Differs from it: the best 100 detections of each
class in a photo count, as in COCO's AP, not of all classes together; what a crowd region absorbs is
no error.
"""

import numpy as np

from fpn_tf.evaluation.curves import curve, interpolated
from fpn_tf.evaluation.matching import MATCH_IOU

BACKGROUND_IOU = 0.1
KINDS = {  # kind of error -> what it is
    "classification": "a detection on an object of another class (IoU of at least 0.5)",
    "localisation": "a detection beside an object of its class (IoU of 0.1 to 0.5)",
    "both": "a detection beside an object of another class (IoU of 0.1 to 0.5)",
    "duplicate": "a detection on an object that a better one has found",
    "background": "a detection on no object (IoU below 0.1)",
    "missed": "an object that no detection finds, and none of the first two kinds is at",
}
RIGHT, ABSORBED = "right", "absorbed"
AT_OBJECTS = "classification", "localisation"  # mended, such a detection finds its object


def kinds_of(matches):
    """What each detection is: one of KINDS, RIGHT, or ABSORBED by a crowd region. Returns: texts [D]."""
    same, other = matches.same_ious, matches.other_ious
    is_kind = {
        ABSORBED: matches.are_absorbed,
        RIGHT: matches.objects >= 0,
        "localisation": (same >= BACKGROUND_IOU) & (same < MATCH_IOU),
        "classification": other >= MATCH_IOU,
        "duplicate": same >= MATCH_IOU,
        "both": other >= BACKGROUND_IOU,
    }
    return np.select(list(is_kind.values()), list(is_kind), "background")


def targets_of(matches, kinds):
    """The object at which each detection errs, [D] int; -1 for kinds other than AT_OBJECTS."""
    targets = np.where(kinds == "classification", matches.other_objects, -1)
    return np.where(kinds == "localisation", matches.same_objects, targets)


def are_found(objects, matches, chosen=True):
    """Which objects are found, [G] bool, by those detections that are `chosen` ([D] bool)."""
    found = np.zeros(len(objects.photos), bool)
    found[matches.objects[(matches.objects >= 0) & chosen]] = True
    return found


def are_missed(objects, matches, kinds):
    """Which objects are neither found nor the target of an error, [G] bool; crowd regions are not missed."""
    targets = targets_of(matches, kinds)
    missed = ~objects.are_crowds & ~are_found(objects, matches)
    missed[targets[targets >= 0]] = False
    return missed


def counts(objects, matches, kinds):
    """How many errors there are of each kind, at any score: {kind: int}."""
    return {
        kind: int((kinds == kind).sum() if kind != "missed" else are_missed(objects, matches, kinds).sum())
        for kind in KINDS
    }


def ap50(objects, matches, kinds, mended=()):
    """COCO's AP at IoU 0.5, of all classes with an object, after some kinds of error are mended.

    Differs from the authors' code: a class whose objects were all missed counts as perfect once
    misses are mended, unless it has false detections; there it drops out of the mean.

    Args:
        objects, matches: of `fpn_tf.evaluation.matching.match`.
        kinds: [D], of `kinds_of`.
        mended: of KINDS.

    Returns:
        float; -1 without an object.
    """
    to_find = ~objects.are_crowds
    present = np.unique(objects.classes[to_find])
    if not len(present):
        return -1.0
    if "missed" in mended:
        to_find = to_find & ~are_missed(objects, matches, kinds)
    becomes_right, target = _mended(objects, matches, kinds, mended)
    is_right = (matches.objects >= 0) | becomes_right
    is_kept = ~matches.are_absorbed & (is_right | ~np.isin(kinds, list(mended)))
    classes = np.where(becomes_right, objects.classes[target], matches.classes)
    of_classes = []
    for number in present:
        count = int((objects.classes[to_find] == number).sum())
        rows = is_kept & (classes == number)
        if count:
            of_classes.append(interpolated(curve(matches.scores[rows], is_right[rows], count)).mean())
        else:
            of_classes.append(float(not rows.any()))
    return float(np.mean(of_classes))


def _mended(objects, matches, kinds, mended):
    """Which detections find an object once some kinds are mended, [D] bool, and that object, [D] int."""
    target = targets_of(matches, kinds)
    is_open = (target >= 0) & ~are_found(objects, matches)[target]
    rows = np.flatnonzero(is_open)
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    best = rows[np.unique(target[rows], return_index=True)[1]]  # the first of each object
    becomes_right = np.zeros(len(target), bool)
    becomes_right[best[np.isin(kinds[best], list(mended))]] = True
    return becomes_right, target


def ap_lost(objects, matches, kinds):
    """How much AP at IoU 0.5 rises when one kind of error alone is mended: {kind: float}."""
    as_it_is = ap50(objects, matches, kinds)
    return {kind: ap50(objects, matches, kinds, (kind,)) - as_it_is for kind in KINDS}
