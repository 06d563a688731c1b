"""The contents of a data set in numbers, and doubtful entries, which a run prints before its first step."""

import concurrent.futures
import itertools
from typing import NamedTuple

import numpy as np

from fpn_tf.data.anchor_fit import anchor_coverage, anchor_findings, shown_boxes
from fpn_tf.data.findings import Finding, annotation_findings, finding
from fpn_tf.data.loader import allowed_bad_files
from fpn_tf.errors import DataError, PhotoError

BOX_BINS = (0, 8, 16, 32, 64, 128, 256, 512, np.inf)  # pixels
PHOTO_BINS = (0, 128, 256, 512, 640, 800, 1024, 2048, np.inf)  # pixels
ASPECT_BINS = (0, 0.25, 0.5, 0.75, 1, 4 / 3, 2, 4, np.inf)
READERS = 16  # threads; reading headers waits for the disk
UNREADABLE = "photos cannot be read"
RESIZED = "photos are not of the annotated size"
UNUSABLE = (UNREADABLE, RESIZED)
DARK = "photos of more than 8 bits use less than a quarter of their range and are shown dark"


class Histogram(NamedTuple):
    """Counts between neighbouring edges, and a label for each."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]


class Survey(NamedTuple):
    """The contents of a data set in numbers."""

    photos: int
    boxes: int
    crowd_regions: int
    class_counts: dict[str, int]  # by label; crowd regions and what has no area left out
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
    classes = records.classes
    per_class = np.bincount(classes, minlength=len(dataset.class_names) + 1)[1:].tolist()
    sizes = records.sizes.astype(float)
    boxes, _ = shown_boxes(records, config.data)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return Survey(
        photos=len(records),
        boxes=len(classes),
        crowd_regions=int(np.sum(dataset.columns.crowds & dataset.has_area)),
        class_counts=dict(zip(dataset.class_labels, per_class)),
        photo_sides=_histogram(sizes.max(axis=1), PHOTO_BINS),
        photo_aspects=_histogram(sizes[:, 1] / sizes[:, 0], ASPECT_BINS),
        box_sides=_histogram(np.sqrt(width * height), BOX_BINS),
        box_aspects=_histogram(height / width, ASPECT_BINS),
        coverage=anchor_coverage(records, config),
        findings=annotation_findings(dataset) + anchor_findings(dataset, config) + file_findings(dataset),
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


def _findings(kinds):
    return [each for what, texts in kinds.items() for each in finding(what, texts)]


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
