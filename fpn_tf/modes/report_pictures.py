"""The photos of a report: boxes drawn by kind of error."""

import io
import os

import numpy as np

from fpn_tf import photos, visualize
from fpn_tf.errors import PhotoError
from fpn_tf.evaluation import breakdown, faults
from fpn_tf.labels import label_text
from fpn_tf.report_page import Picture

WORST, BEST = 8, 4  # photos that are shown
SIDE = 640  # pixels, the longer side
JPEG_QUALITY = 80
ORDER = [*faults.KINDS, faults.RIGHT]  # in which boxes lie above each other


def worst_and_best(analysis, dataset):
    """The photos with most errors, and others with fewest: two lists of Pictures.

    Args:
        analysis: `fpn_tf.evaluation.analysis.Analysis`.
        dataset: Dataset that has the photos.
    """
    objects, matches, are_shown = analysis.objects, analysis.matches, analysis.are_shown
    worst, best = breakdown.ranked_photos(objects, matches, are_shown, len(analysis.image_ids))
    worst = worst[:WORST]
    best = best[~np.isin(best, worst)][:BEST]
    index_of = {record.image_id: index for index, record in enumerate(dataset.records)}
    names = names_below([record.name for record in dataset.records])

    def pictures(numbers):
        indices = [index_of[analysis.image_ids[number]] for number in numbers]
        drawn = (_picture(n, analysis, dataset, i, names[i]) for n, i in zip(numbers, indices))
        return [picture for picture in drawn if picture]

    return pictures(worst), pictures(best)


def names_below(paths):
    """Names of photos without the folder that all of them share: the page may go to somebody else."""
    folders = [os.path.dirname(path) for path in paths]
    shared = os.path.commonpath(folders)
    return [os.path.relpath(path, shared) for path in paths] if shared else paths


def _picture(number, analysis, dataset, index, name):
    """The Picture of photo `number` of an Analysis, record `index`; None where it can no longer be read."""
    record = dataset.records[index]
    try:
        photo = photos.decode_rgb(dataset.read_bytes(index), record.name)
    except (PhotoError, OSError):
        return None
    boxes, kinds, labels = marks(number, analysis)
    drawn = visualize.draw_faults(photo, boxes, kinds, labels, SIDE)
    counts = {kind: kinds.count(kind) for kind in (faults.RIGHT, *faults.KINDS)}
    caption = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Picture(name, caption, buffer.getvalue())


def marks(number, analysis):
    """What is to be drawn in a photo: shown detections, and the objects that none of them finds.

    Args:
        number: of the photo.
        analysis: `fpn_tf.evaluation.analysis.Analysis`.

    Returns:
        (boxes [N, 4] (x1, y1, x2, y2), kinds, labels), errors first; right detections bear no label.
    """
    objects, matches = analysis.objects, analysis.matches
    rows = np.flatnonzero((matches.photos == number) & analysis.are_shown & ~matches.are_absorbed)
    missed = ~objects.are_crowds & ~faults.are_found(objects, matches, analysis.are_shown)
    missed = np.flatnonzero((objects.photos == number) & missed)
    kinds = [*analysis.kinds[rows].tolist(), *["missed"] * len(missed)]
    labels = [_label(row, analysis) for row in rows]
    labels += [_name(objects.classes[g], analysis) for g in missed]
    corners = np.concatenate([matches.boxes[rows], objects.boxes[missed]])
    corners[:, 2:] += corners[:, :2]
    order = sorted(range(len(kinds)), key=lambda i: ORDER.index(kinds[i]))
    return corners[order], [kinds[i] for i in order], [labels[i] for i in order]


def _label(row, analysis):
    """What stands at a detection."""
    kind, matches = analysis.kinds[row], analysis.matches
    if kind == faults.RIGHT:
        return ""
    label = _name(matches.classes[row], analysis, matches.scores[row])
    if kind == "classification":
        label += f", is {_name(analysis.objects.classes[matches.other_objects[row]], analysis)}"
    return label


def _name(number, analysis, score=None):
    return label_text(analysis.class_names[number], analysis.category_ids[number], score)
