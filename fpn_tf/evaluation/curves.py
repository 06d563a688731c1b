"""Precision and recall over the score, COCO's AP of them, and the threshold of the best F1."""

from typing import NamedTuple

import numpy as np

RECALLS = np.linspace(0, 1, 101)  # at which COCO's AP reads the precision


class Curve(NamedTuple):
    """Precision and recall of a class, down its detections from the best score."""

    scores: np.ndarray  # [D] float64, falling
    precision: np.ndarray  # [D] float64
    recall: np.ndarray  # [D] float64


class Threshold(NamedTuple):
    """The lowest score to keep, and what is kept with it."""

    score: float
    precision: float
    recall: float
    f1: float


def curve(scores, are_right, objects):
    """The precision-recall curve of one class.

    Args:
        scores: [D] float.
        are_right: [D] bool: whether each finds an object that no better one has found.
        objects: the number of objects to find, > 0.
    """
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(are_right[order])
    return Curve(scores[order], right / np.arange(1, len(order) + 1), right / objects)


def interpolated(of_class):
    """The largest precision at each of RECALLS or beyond it: [101] float64, 0 beyond the curve's end."""
    largest = np.maximum.accumulate(of_class.precision[::-1])[::-1]
    return np.append(largest, 0.0)[np.searchsorted(of_class.recall, RECALLS)]


def best_threshold(of_class):
    """The Threshold of the largest F1, the highest of several; None where no detection is right."""
    scores, precision, recall = of_class
    # Detections of one score are kept or left out together.
    ends = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True][: len(scores)])
    if not len(ends) or not recall[-1]:
        return None
    f1 = 2 * precision[ends] * recall[ends] / np.maximum(precision[ends] + recall[ends], 1e-12)
    best = ends[f1.argmax()]
    return Threshold(*(float(x) for x in (scores[best], precision[best], recall[best], f1.max())))
