"""How well the anchors of a config fit the boxes of a data set, and what would fit them better."""

import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.catalogue import NECKS
from fpn_tf.data.findings import finding
from fpn_tf.data.plan import preprocessor_of
from fpn_tf.data.records import distinct_sizes, in_columns
from fpn_tf.geometry.boxes import cell_anchors

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}  # COCO's, by area
REACHED = 0.5  # IoU: a box with no such anchor is hardly proposed
UNREMARKED = 0.05  # share of the boxes that no anchor needs to reach
WORTHWHILE = 0.75  # of the share without an anchor: a change that leaves more is no remedy
FACTORS = (2 / 3, 3 / 2, 1 / 2, 2, 1 / 3, 3, 1 / 4, 4, 1 / 8, 8)  # of sizes, the nearest to 1 first
RATIOS = ((0.25, 0.5, 1.0, 2.0, 4.0), (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0))
SAMPLE = 5000  # boxes that decide which change helps


def shown_boxes(records, data):
    """The boxes of all records as evaluation shows them.

    Args:
        records: of a data set.
        data: DataConfig.

    Returns:
        (boxes [N, 4] float32, pixels of the resized photos; canvases [N, 2], (height, width)).
    """
    preprocessor = preprocessor_of(data)

    def shown(size):
        shown_size = preprocessor.shown_size(size)
        scale = preprocessor.boxes_shown(np.ones(4), size, shown_size)
        return scale, preprocessor.canvas_size(shown_size)

    records = in_columns(records)
    sizes, which = distinct_sizes(records.sizes)
    scales, canvases = map(np.asarray, zip(*map(shown, sizes)))
    of_boxes = np.repeat(which, records.counts)
    return records.boxes * scales[of_boxes], canvases[of_boxes]


def anchor_coverage(records, config):
    """The shares of the boxes that the anchors fit.

    Args:
        records: of a data set.
        config: Config.

    Returns:
        {"all" | "small" | "medium" | "large": (boxes, share of them whose best anchor has IoU of at
        least 0.5, at least 0.7)}; sizes by the area in the photo, the IoU in the resized one.
    """
    best = best_anchor_iou(*shown_boxes(records, config.data), config.model)
    boxes = in_columns(records).boxes
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
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
        canvas: (height, width) of the padded image, or [G, 2]: of each box's.
        model: ModelConfig. `rpn.strides_from_sizes` is not followed (it moves p6 by a pixel or so).

    Returns:
        [G] float64.
    """
    boxes = np.asarray(boxes, np.float64)
    best, rpn = np.zeros(len(boxes)), model.rpn
    anchors = cell_anchors(NECKS[model.neck], rpn.anchor_sizes, rpn.anchor_ratios, rpn.anchor_rounding)
    for level, shapes in anchors.items():
        stride = 2**level
        cells = -(-np.asarray(canvas)[..., ::-1] // stride)  # columns, rows
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


def anchor_findings(dataset, config):
    """The Finding that anchors do not reach a part of the boxes, with the changes that would mend it.

    Args:
        dataset: Dataset.
        config: Config. Kinds of models that have no anchors give no finding.
    """
    records = in_columns(dataset.records)
    if dataset.has_proposals or config.data.segments:
        return []
    boxes, canvases = shown_boxes(records, config.data)
    missed = np.flatnonzero(best_anchor_iou(boxes, canvases, config.model) < REACHED)
    if len(missed) <= UNREMARKED * len(boxes):
        return []
    image_ids = np.repeat(records.image_ids, records.counts)

    def in_words(row):
        width, height = boxes[row, 2:] - boxes[row, :2]
        return f"one of image {image_ids[row]}, {width:.4g} x {height:.4g} pixels as shown"

    share = len(missed) / len(boxes)
    remedies = "".join(f"; {left:.0%} with {text}" for text, left in _remedies(records, config, share))
    return finding(f"boxes ({share:.0%}) have no anchor of IoU {REACHED}{remedies}", missed, in_words)


def _remedies(records, config, share):
    """The best change of each kind, as (overrides in words, share of boxes that is left without an anchor).

    Only those that leave less than `WORTHWHILE` of `share`.
    """
    records = _thinned(records)
    best = []
    for candidates in _changes(config):
        tried = [(changes, _missed_share(records, config, changes)) for changes in candidates]
        changes, left = min(tried, key=lambda pair: round(pair[1], 2), default=(None, 1.0))
        if left < WORTHWHILE * share:
            best.append((", ".join(f"{key}={_in_words(value)}" for key, value in changes.items()), left))
    return best


def _changes(config):
    """Lists of {dotted key: value}: of the size of photos, of anchors, and of the anchors' shapes."""
    data, rpn = config.data, config.model.rpn
    yield [
        {"data.short_side": round(data.short_side * f), "data.max_side": round(data.max_side * f)}
        for f in FACTORS
        if not data.train_short_sides and data.short_side * f >= 32
    ]
    yield [
        {"model.rpn.anchor_sizes": tuple(round(size * f, 1) for size in rpn.anchor_sizes)} for f in FACTORS
    ]
    yield [{"model.rpn.anchor_ratios": ratios} for ratios in RATIOS]


def _missed_share(records, config, changes):
    config = config_lib.replace(config, **changes)
    best = best_anchor_iou(*shown_boxes(records, config.data), config.model)
    return float(np.mean(best < REACHED))


def _thinned(records):
    """Records, evenly chosen, with at most `SAMPLE` boxes among them (or with one record's)."""
    return records[:: -(-len(records.boxes) // SAMPLE)]


def _in_words(value):
    return ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)
