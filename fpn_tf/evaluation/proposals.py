"""Proposal recall, of boxes and of segments (FPN paper, Tables 1 and 6)."""

import numpy as np

from fpn_tf.config import SCORERS
from fpn_tf.data import segments
from fpn_tf.evaluation.scorers import accumulated

LIMITS = (100, 1000)  # proposals per image
SIZES = ("", "_small", "_medium", "_large")  # in the order of COCO's areas
METRICS = tuple(f"AR{limit}{size}" for limit in LIMITS for size in SIZES)


def evaluate(coco, proposals, image_ids=None, scorer=SCORERS[0], overlap="bbox"):
    """Average recall of class-agnostic boxes over IoU .5, .55, ... .95.

    Args:
        coco: ground truth as a COCO dict; crowd regions and boxes without area are
            nothing to recall.
        proposals: COCO results (image_id, bbox [x, y, w, h], score); category_id is not read.
        image_ids: the images to score; None for all.
        scorer: the library that does it, see `fpn_tf.evaluation.scorers`.
        overlap: "bbox", or "segm" for segments.

    Returns:
        dict of METRICS, floats, -1 without an object to recall. Sizes are the annotations'
        areas, below 32^2, up to 96^2, and above.
    """
    category = coco["categories"][0]["id"]  # any: classes are pooled
    results = (proposal | {"category_id": category} for proposal in proposals)
    settings = {"useCats": 0, "maxDets": list(LIMITS)}
    recall = accumulated(scorer, coco, results, image_ids, overlap, **settings)[1][:, 0]  # [T, A, M]
    metrics = {}
    for i, limit in enumerate(LIMITS):
        for j, size in enumerate(SIZES):
            metrics[f"AR{limit}{size}"] = float(np.mean(recall[:, j, i]))
    return metrics


def evaluate_segments(coco, proposals, image_ids=None, scorer=SCORERS[0]):
    """As `evaluate`, with the overlap of segments: results hold a `segmentation`."""
    return evaluate(coco, proposals, image_ids, scorer, overlap="segm")


def as_segment_results(image_id, detections, size):
    """SegmentDetections of one photo of (height, width) as COCO result dicts."""
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "segmentation": segments.encode(segments.paste(region, segment, size)),
            "bbox": [round(float(v), 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": float(score),
        }
        for region, segment, (x1, y1, x2, y2), score in zip(
            detections.regions, detections.segments, detections.boxes, detections.scores
        )
    ]
