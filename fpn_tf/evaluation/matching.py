"""Detections matched with annotated objects, as COCO's AP at IoU 0.5 matches them, in arrays.

What is drawn of it, curves, kinds of error, tables, is made in `curves` and `faults`.
"""

from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_masks

from fpn_tf.evaluation.numbering import numbered_pair

MATCH_IOU = 0.5
LIMIT = 100  # detections of a class in a photo that count, as in COCO's AP


class Objects(NamedTuple):
    """The annotated objects of all photos, photo by photo; crowd regions follow those of their photo."""

    photos: np.ndarray  # [G] int, 0.. in the order of the photos' ids
    classes: np.ndarray  # [G] int, 0.. in the order of the categories' ids
    boxes: np.ndarray  # [G, 4] float64, x, y, width, height in pixels of the photo
    areas: np.ndarray  # [G] float64, square pixels, as annotated
    are_crowds: np.ndarray  # [G] bool: they absorb detections and need not be found


class Matches(NamedTuple):
    """The detections of all photos, photo by photo and best first, and what they were matched with.

    An object's number is its place in `Objects`; -1: none.
    """

    photos: np.ndarray  # [D] int
    classes: np.ndarray  # [D] int
    boxes: np.ndarray  # [D, 4] float64, x, y, width, height
    scores: np.ndarray  # [D] float64
    objects: np.ndarray  # [D] int: the object of its class that a detection finds
    are_absorbed: np.ndarray  # [D] bool: by a crowd region; they count for nothing
    same_ious: np.ndarray  # [D] float64: the largest IoU with an object of the same class, crowds apart
    same_objects: np.ndarray  # [D] int: that object
    other_ious: np.ndarray  # [D] float64: the largest IoU with an object of another class
    other_objects: np.ndarray  # [D] int: that object


def match(coco, results, image_ids=None):
    """Matches detections with ground truth at IoU 0.5, as pycocotools does.

    Args:
        coco: ground truth as a COCO dict.
        results: COCO results, dicts of image_id, category_id, bbox [x, y, w, h], score.
        image_ids: the images that were searched; None for all.

    Returns:
        (Objects, Matches). Boxes without area, and detections beyond the best 100 of a class in a
        photo, are not among them.
    """
    truth, detections = (each["annotations"] for each in numbered_pair(coco, results, image_ids))
    photos, classes, boxes = _columns(truth)
    are_crowds = np.asarray([a["iscrowd"] for a in truth], bool)
    areas = np.asarray([a["area"] for a in truth], float)
    order = np.lexsort((are_crowds, photos))
    objects = Objects(*(values[order] for values in (photos, classes, boxes, areas, are_crowds)))
    return objects, _matches(*_best(*_columns(detections), _scores(detections)), objects)


def _columns(annotations):
    """Annotations of `numbered_pair` -> photos [N], classes [N], boxes [N, 4]."""
    photos = np.asarray([a["image_id"] for a in annotations], int) - 1
    classes = np.asarray([a["category_id"] for a in annotations], int) - 1
    return photos, classes, np.asarray([a["bbox"] for a in annotations], float).reshape(-1, 4)


def _scores(detections):
    return np.asarray([d["score"] for d in detections], float)


def _best(photos, classes, boxes, scores):
    """The best `LIMIT` detections of every class in every photo, photo by photo and best first."""
    order = np.lexsort((-scores, classes, photos))
    group = np.stack([photos[order], classes[order]])
    starts = np.flatnonzero(np.r_[True, np.any(group[:, 1:] != group[:, :-1], axis=0)][: len(order)])
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    order = order[ranks < LIMIT]
    order = order[np.lexsort((-scores[order], photos[order]))]
    return photos[order], classes[order], boxes[order], scores[order]


def _matches(photos, classes, boxes, scores, objects):
    """The Matches of detections that are sorted by photo and score."""
    count = len(photos)
    numbers = {name: np.full(count, -1) for name in ("objects", "same_objects", "other_objects")}
    ious = {name: np.zeros(count) for name in ("same_ious", "other_ious")}
    matches = Matches(photos, classes, boxes, scores, are_absorbed=np.zeros(count, bool), **numbers, **ious)
    for photo in np.intersect1d(photos, objects.photos):
        rows, columns = (slice(*np.searchsorted(x, (photo, photo + 1))) for x in (photos, objects.photos))
        _match_photo(matches, rows, objects, columns)
    return matches


def _match_photo(matches, rows, objects, columns):
    """Fills the rows of one photo's detections.

    Args:
        matches: Matches, changed in place.
        rows: slice of the photo's D detections.
        objects: Objects.
        columns: slice of the photo's G objects.
    """
    are_crowds, first = objects.are_crowds[columns], columns.start
    overlaps = coco_masks.iou(matches.boxes[rows], objects.boxes[columns], are_crowds.astype(np.uint8))
    is_same = matches.classes[rows, None] == objects.classes[None, columns]  # [D, G]
    found, absorbed = _assigned(np.where(is_same, overlaps, -1), are_crowds)
    matches.objects[rows] = np.where(found >= 0, found + first, -1)
    matches.are_absorbed[rows] = absorbed
    for chosen, ious, numbers in (
        (is_same, matches.same_ious, matches.same_objects),
        (~is_same, matches.other_ious, matches.other_objects),
    ):
        of_kind = np.where(chosen & ~are_crowds, overlaps, 0)
        nearest = of_kind.argmax(axis=1)
        ious[rows] = of_kind[np.arange(len(nearest)), nearest]
        numbers[rows] = np.where(ious[rows] > 0, nearest + first, -1)


def _assigned(overlaps, are_crowds):
    """Which object each detection finds: the best first, each the free one that it overlaps most.

    Of equal overlaps the last object is taken, as pycocotools does.

    Args:
        overlaps: [D, G] IoU, -1 between different classes; detections best first.
        are_crowds: [G] bool.

    Returns:
        (found [D] int, -1: none; absorbed [D] bool: those that find none, and lie in a crowd region).
    """
    count = len(are_crowds)
    found = np.full(len(overlaps), -1)
    free = np.where(are_crowds, -1, overlaps)[:, ::-1]  # the last comes first
    for row in np.flatnonzero(free.max(axis=1) >= MATCH_IOU):
        best = free[row].argmax()
        if free[row, best] >= MATCH_IOU:
            found[row] = count - 1 - best
            free[:, best] = -1
    in_crowd = np.where(are_crowds, overlaps, -1).max(axis=1) >= MATCH_IOU
    return found, in_crowd & (found < 0)
