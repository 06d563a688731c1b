"""The contents of a data set in numbers, and doubtful entries, which a run prints before its first step."""

import concurrent.futures
import itertools
from typing import NamedTuple

import numpy as np

from fpn_tf.catalogue import NECKS
from fpn_tf.data.loader import allowed_bad_files
from fpn_tf.data.plan import preprocessor_of
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.geometry.boxes import cell_anchors

SHOWN = 3  # offenders of a finding that are named
TOLERANCE = 1.0  # pixels by which a box may reach outside its photo unremarked
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # COCO's, by area
BOX_BINS = (0, 8, 16, 32, 64, 128, 256, 512, np.inf)  # pixels
PHOTO_BINS = (0, 128, 256, 512, 640, 800, 1024, 2048, np.inf)  # pixels
ASPECT_BINS = (0, 0.25, 0.5, 0.75, 1, 4 / 3, 2, 4, np.inf)
READERS = 16  # threads; reading headers waits for the disk
UNREADABLE = "photos cannot be read"
RESIZED = "photos are not of the annotated size"
UNUSABLE = (UNREADABLE, RESIZED)
DARK = "photos of more than 8 bits use less than a quarter of their range and are shown dark"


class Finding(NamedTuple):
    """Something doubtful: what, how often, and the first few."""

    what: str
    count: int
    first: tuple[str, ...]

    def __str__(self):
        return f"{self.count} {self.what}: {', '.join(self.first)}{', ...' if self.count > SHOWN else ''}"


class Histogram(NamedTuple):
    """Counts between neighbouring edges, and a label for each."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]


class Survey(NamedTuple):
    """The contents of a data set in numbers."""

    photos: int
    boxes: int
    crowd_regions: int
    class_counts: dict[str, int]  # boxes of each class, crowd regions and what has no area left out
    photo_sides: Histogram  # longer sides, pixels
    photo_aspects: Histogram  # width / height
    box_sides: Histogram  # square roots of areas, pixels of the resized photo
    box_aspects: Histogram  # height / width
    coverage: dict[str, tuple[int, float, float]]  # size -> boxes, share with IoU >= 0.5, >= 0.7
    findings: list[Finding]


def survey_of(dataset, config):
    """A Survey of a data set under a config's resizing and anchors.

    Args:
        dataset: Dataset.
        config: Config.
    """
    records = dataset.records
    classes = np.concatenate([r.classes for r in records])
    per_class = np.bincount(classes, minlength=len(dataset.class_names) + 1)[1:].tolist()
    sizes = np.asarray([r.size for r in records], float)
    boxes = np.concatenate([boxes for boxes, _ in _shown(records, config.data)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return Survey(
        photos=len(records),
        boxes=len(classes),
        crowd_regions=sum(bool(a.get("iscrowd")) for a in dataset.coco["annotations"]),
        class_counts=dict(zip(dataset.class_names, per_class)),
        photo_sides=_histogram(sizes.max(axis=1), PHOTO_BINS),
        photo_aspects=_histogram(sizes[:, 1] / sizes[:, 0], ASPECT_BINS),
        box_sides=_histogram(np.sqrt(width * height), BOX_BINS),
        box_aspects=_histogram(height / width, ASPECT_BINS),
        coverage=anchor_coverage(records, config),
        findings=annotation_findings(dataset) + file_findings(dataset),
    )


def annotation_findings(dataset):
    """Findings in the annotations: boxes outside or without area, classes and photos without boxes."""
    images = {image["id"]: image for image in dataset.coco["images"]}
    flat, outside, seen = [], [], set()
    for annotation in dataset.coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        image = images[annotation["image_id"]]
        inside = min(x + width, image["width"]) > max(x, 0) and min(y + height, image["height"]) > max(y, 0)
        beyond = max(-x, -y, x + width - image["width"], y + height - image["height"])
        if not (inside and width > 0 and height > 0):
            flat.append(annotation)
        elif beyond > TOLERANCE:
            outside.append(annotation)
        seen.add(annotation["category_id"])
    empty = [c["name"] for c in dataset.coco["categories"] if c["id"] not in seen]
    bare = [f"image {r.image_id}" for r in dataset.records if not len(r.boxes)]
    return _findings(
        {
            "boxes have no area inside their photo, left out": [_in_words(a) for a in flat],
            "boxes reach outside their photo, clipped": [_in_words(a) for a in outside],
            "classes without a box": empty,
            "photos without a box": bare,
        }
    )


def file_findings(dataset):
    """Findings in the photos' headers: files that are no pictures, of another size than annotated, dark."""

    def finding_in(index):
        record = dataset.records[index]
        try:
            size, remark = dataset.read_header(index)
        except PhotoError as error:
            return UNREADABLE, str(error)
        if size != tuple(record.size):
            (h, w), (height, width) = size, record.size
            before = "; before EXIF turns it?" if (h, w) == (width, height) else ""
            return RESIZED, f"{record.name} ({w}x{h}, the annotations say {width}x{height}{before})"
        return (DARK, f"{record.name} ({remark})") if remark else None

    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        findings = list(filter(None, pool.map(finding_in, range(len(dataset.records)))))
    kinds = (UNREADABLE, RESIZED, DARK)
    return _findings({kind: [text for of_kind, text in findings if of_kind == kind] for kind in kinds})


def check_files(dataset, data):
    """`file_findings`, refused where training would give up on the photos that it cannot use.

    Args:
        dataset: Dataset.
        data: DataConfig.

    Raises:
        DataError: more bad files than `data.max_bad_fraction` forgives.
    """
    findings = file_findings(dataset)
    unusable = [finding for finding in findings if finding.what in UNUSABLE]
    count = sum(finding.count for finding in unusable)
    if count > allowed_bad_files(len(dataset.records), data):
        raise DataError(
            f"{count} of {len(dataset.records)} photos cannot be used, more than "
            f"data.max_bad_fraction={data.max_bad_fraction}: {'; '.join(map(str, unusable))}"
        )
    return findings


def anchor_coverage(records, config):
    """The shares of the boxes that the anchors fit.

    Args:
        records: of a data set.
        config: Config.

    Returns:
        {"all" | "small" | "medium" | "large": (boxes, share of them whose best anchor has IoU of at
        least 0.5, at least 0.7)}; sizes by the area in the photo, the IoU in the resized one.
    """
    best, areas = [], []
    for record, (boxes, canvas) in zip(records, _shown(records, config.data)):
        best.append(best_anchor_iou(boxes, canvas, config.model))
        areas.append(np.prod(record.boxes[:, 2:] - record.boxes[:, :2], axis=1))
    best, areas = np.concatenate(best), np.concatenate(areas)
    coverage = {}
    for name, (low, high) in {"all": (0, np.inf), **SIZES}.items():
        of_size = best[(areas >= low) & (areas < high)]
        shares = [float(np.mean(of_size >= bound)) if len(of_size) else 0.0 for bound in (0.5, 0.7)]
        coverage[name] = (len(of_size), *shares)
    return coverage


def best_anchor_iou(boxes, canvas, model):
    """The IoU of each box with the best of all anchors.

    Among anchors of one shape the one whose centre is nearest overlaps most: only that is looked at.

    Args:
        boxes: [G, 4], pixels of the resized image.
        canvas: (height, width) of the padded image.
        model: ModelConfig. `rpn.strides_from_sizes` is not followed (it moves p6 by a pixel or so).

    Returns:
        [G] float64.
    """
    boxes = np.asarray(boxes, np.float64)
    best, rpn = np.zeros(len(boxes)), model.rpn
    anchors = cell_anchors(NECKS[model.neck], rpn.anchor_sizes, rpn.anchor_ratios, rpn.anchor_rounding)
    for level, shapes in anchors.items():
        stride = 2**level
        cells = -(-np.asarray(canvas[::-1]) // stride)  # columns, rows
        for anchor in shapes:
            middle = (anchor[:2] + anchor[2:]) / 2
            nearest = np.rint(((boxes[:, :2] + boxes[:, 2:]) / 2 - middle) / stride)
            shift = np.clip(nearest, 0, cells - 1) * stride
            low = np.maximum(boxes[:, :2], anchor[:2] + shift)
            high = np.minimum(boxes[:, 2:], anchor[2:] + shift)
            shared = np.prod(np.maximum(high - low, 0), axis=1)
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(anchor[2:] - anchor[:2])
            best = np.maximum(best, shared / (areas - shared))
    return best


def _shown(records, data):
    """(boxes [G, 4], canvas (height, width)) of each photo as evaluation shows it."""
    preprocessor = preprocessor_of(data)
    for record in records:
        size = preprocessor.shown_size(record.size)
        yield preprocessor.boxes_shown(record.boxes, record.size, size), preprocessor.canvas_size(size)


def _in_words(annotation):
    box = ", ".join(f"{value:g}" for value in annotation["bbox"])
    return f"annotation {annotation['id']} of image {annotation['image_id']} ({box})"


def _findings(kinds):
    return [Finding(what, len(all_), tuple(all_[:SHOWN])) for what, all_ in kinds.items() if all_]


def _histogram(values, edges):
    counts = np.histogram(values, edges)[0].tolist()
    labels = []
    for low, high in itertools.pairwise(edges):
        if low == 0:
            labels.append(f"< {high:.4g}")
        elif np.isinf(high):
            labels.append(f">= {low:.4g}")
        else:
            labels.append(f"{low:.4g} .. {high:.4g}")
    return Histogram(tuple(labels), tuple(counts))
