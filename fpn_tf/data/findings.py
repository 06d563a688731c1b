"""Doubtful entries of annotations, which stop no run: what each is, how often, and the first few."""

import collections
import os
from typing import NamedTuple

import numpy as np
from absl import logging

from fpn_tf.data import box_readings
from fpn_tf.data.categories import folded
from fpn_tf.data.hashes import mixed

SHOWN = 3  # offenders of a finding that are named
TOLERANCE = 1.0  # pixels by which a box may reach outside its photo unremarked
MANY = 10  # boxes: of fewer, what all of them have in common says nothing
BLOCK = 2**15  # boxes that are looked at at a time
LOOKED_UP = 200_000  # photos whose files are looked up; of more, links to one file are not noticed
AREA_SLACK = 1.05  # by which an annotated area may be larger than its box


class Finding(NamedTuple):
    """Something doubtful: what, how often, and the first few."""

    what: str
    count: int
    first: tuple[str, ...]

    def __str__(self):
        return f"{self.count} {self.what}: {', '.join(self.first)}{', ...' if self.count > SHOWN else ''}"


def finding(what, items, in_words=str):
    """A list of the Finding that some items make; empty where there are none.

    Args:
        what: text that goes on after their number.
        items: a sequence.
        in_words: item -> text.
    """
    return [Finding(what, len(items), tuple(map(in_words, items[:SHOWN])))] if len(items) else []


def warn_of(dataset, source):
    """Logs the Findings in a Dataset's annotations as warnings.

    Args:
        dataset: Dataset.
        source: name of the annotations.
    """
    for each in annotation_findings(dataset):
        logging.warning("%s: %s", source, each)


def annotation_findings(dataset):
    """All Findings in a Dataset's annotations."""
    return box_findings(dataset) + double_findings(dataset) + absence_findings(dataset)


def box_findings(dataset):
    """Findings of boxes without area, outside their photo, of other units or of another order of numbers."""
    columns, has_area = dataset.columns, dataset.has_area
    marks = _marks(columns)

    def of(mask, what):
        rows = np.flatnonzero(mask)
        return finding(what, rows[np.argsort(~has_area[rows], kind="stable")], _in_words(columns))

    shares = has_area & marks["shares"]
    findings = of(~has_area, "boxes have no area inside their photo, left out of training and evaluation")
    findings += of(
        has_area & marks["beyond"],
        "boxes reach outside their photo, clipped in training and scored as they are",
    )
    if marks["far"].any():
        reading, misread = box_readings.likelier_reading(columns.boxes, _sizes_of(columns, slice(None)))
        findings += of(misread, f"boxes do not fit their photo as [x, y, width, height] but as {reading}")
    findings += of(shares, "boxes are below one pixel: normalised, shares of the photo instead of pixels?")
    findings += of(has_area & ~shares & marks["slivers"], "boxes are less than a pixel wide or high")
    if len(has_area) >= MANY and not shares.any() and marks["in_quarter"].all():
        what = "boxes, all of them, lie in the upper left quarter of their photos"
        findings += of(has_area, f"{what}: pixels of smaller photos, or per cent?")
    whole = has_area & marks["whole"]
    if whole.sum() >= max(MANY, len(has_area) / 2):
        findings += of(whole, "boxes are their whole photo: where objects are cannot be learned of them")
    what = "areas are 0 or larger than the box; AP_small, AP_medium and AP_large go by them"
    return findings + of(has_area & ~shares & marks["odd_areas"], what)


def _marks(columns):
    """{name: bool [A]}: what is said of each box by itself; in blocks that a processor's cache holds."""
    starts = range(0, max(len(columns.ids), 1), BLOCK)
    blocks = [_marks_of(columns, slice(start, start + BLOCK)) for start in starts]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _marks_of(columns, rows):
    """`_marks` of the rows of a slice."""
    boxes, sizes, areas = columns.boxes[rows], _sizes_of(columns, rows), columns.areas[rows]
    corners, of_box = box_readings.corners(boxes), boxes[:, 2] * boxes[:, 3]
    overhang = box_readings.overhang(corners, sizes)
    return {
        "beyond": overhang > TOLERANCE,
        "far": overhang > box_readings.slack(sizes),
        "shares": box_readings.are_shares(boxes, sizes),
        "slivers": boxes[:, 2:].min(axis=1, initial=np.inf) < 1,
        "in_quarter": np.all(corners[:, 2:] <= sizes / 2, axis=1),
        "whole": np.all(np.abs(boxes - np.c_[0 * sizes, sizes]) <= TOLERANCE, axis=1),
        "odd_areas": (areas > AREA_SLACK * of_box + 1) | (areas == 0),
    }


def _sizes_of(columns, rows):
    """(width, height) of the photos of the annotations in some rows, [n, 2] float64."""
    return columns.sizes[columns.images[rows], ::-1].astype(float)


def double_findings(dataset):
    """Findings of photos, boxes and class names that a data set has twice."""
    return _doubled_photos(dataset) + _doubled_boxes(dataset) + _doubled_names(dataset)


def absence_findings(dataset):
    """Findings of classes and photos without a box."""
    seen = dataset.columns.used_ids(dataset.has_area & ~dataset.columns.crowds)
    empty = [label for label, i in zip(dataset.class_labels, dataset.category_ids) if i not in seen]
    bare = dataset.records.image_ids[dataset.records.counts == 0]
    return finding("classes without a box", empty) + finding("photos without a box", bare, "image {}".format)


def _doubled_photos(dataset):
    records, entries = dataset.records, collections.defaultdict(list)
    names = dataset.columns.file_names
    if len(records) <= LOOKED_UP:
        names = (_file_identity(records.name_of(index)) for index in range(len(records)))
    elif len(set(names)) == len(names):
        return []
    for index, name in enumerate(names):
        entries[name].append(index)
    twice = [indices for indices in entries.values() if len(indices) > 1]

    def in_words(indices):
        first = [(records.image_ids[index], records.counts[index]) for index in indices[:SHOWN]]
        images = ", ".join(f"{image_id} with {count} boxes" for image_id, count in first)
        return f"{records.name_of(indices[0])} (images {images}{', ...' if len(indices) > SHOWN else ''})"

    what = "photos are listed twice or more: the boxes of one entry are background in the other"
    return finding(what, twice, in_words)


def _file_identity(name):
    """Equal for all paths and links to one file; of what is no file, the name."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return os.path.normpath(name)
    return status.st_dev, status.st_ino


def _doubled_boxes(dataset):
    columns = dataset.columns
    keys = np.stack([columns.images, columns.categories, columns.crowds, *columns.boxes.T], axis=1)
    rows = np.flatnonzero(dataset.has_area)
    again = rows[_repeats(keys[rows])]
    what = "boxes repeat another of the same photo and class: one at most can be found"
    return finding(what, again, _in_words(columns))


def _repeats(keys):
    """Which rows of float64 [N, M] equal one before them: bool [N]."""
    hashes = np.zeros(len(keys), np.uint64)
    for column in keys.T:  # as bits, 0 without a sign
        hashes = mixed(hashes ^ (column + 0.0).view(np.uint64))
    in_order = np.sort(hashes)
    rows = np.flatnonzero(np.isin(hashes, in_order[1:][in_order[1:] == in_order[:-1]]))
    seen, repeats = set(), np.zeros(len(keys), bool)
    for row, key in zip(rows.tolist(), map(tuple, keys[rows].tolist())):
        repeats[row] = key in seen
        seen.add(key)
    return repeats


def _doubled_names(dataset):
    ids = collections.defaultdict(list)
    for name, category in zip(dataset.class_names, dataset.category_ids):
        ids[folded(name)].append((name, category))
    columns = dataset.columns
    used = columns.categories[dataset.has_area]
    counts = dict(zip(columns.category_ids, np.bincount(used, minlength=len(columns.category_ids)).tolist()))
    shared = [(name, category) for group in ids.values() if len(group) > 1 for name, category in group]
    what = "classes share a name (capitals, spaces and underscores aside), and are learned apart"
    return finding(what, shared, lambda pair: f"{pair[0]} (id {pair[1]}, {counts.get(pair[1], 0)} boxes)")


def _in_words(columns):
    """A function from the row of an annotation to words that name it."""

    def words(row):
        [annotation] = columns.annotation_entries(np.asarray([row]))
        box = ", ".join(f"{value:g}" for value in annotation["bbox"])
        return f"annotation {annotation['id']} of image {annotation['image_id']} ({box})"

    return words
