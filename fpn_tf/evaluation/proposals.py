"""Proposal recall (FPN paper, Table 1), by pycocotools."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

LIMITS = (100, 1000)  # proposals per image
SIZES = ("", "_small", "_medium", "_large")  # in the order of pycocotools' areas
METRICS = tuple(f"AR{limit}{size}" for limit in LIMITS for size in SIZES)


def evaluate(coco, proposals, image_ids=None):
    """Average recall of class-agnostic boxes over IoU .5, .55, ... .95.

    Args:
        coco: ground truth as a COCO dict; crowd regions are nothing to recall.
        proposals: COCO results (image_id, bbox [x, y, w, h], score); category_id is not read.
        image_ids: the images to score; None for all.

    Returns:
        dict of METRICS, floats, -1 where there is nothing to recall. Sizes are the annotations'
        areas, below 32^2, up to 96^2, and above.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth = COCO()
        truth.dataset = coco
        truth.createIndex()
        results = COCO()
        category = coco["categories"][0]["id"]  # any: classes are pooled
        results.dataset = dict(coco, annotations=_as_annotations(proposals, category))
        results.createIndex()
        scorer = COCOeval(truth, results, "bbox")
        scorer.params.useCats = 0
        scorer.params.maxDets = list(LIMITS)
        if image_ids is not None:
            scorer.params.imgIds = sorted(image_ids)
        scorer.evaluate()
        scorer.accumulate()
    recall = scorer.eval["recall"][:, 0]  # [IoU thresholds, areas, limits]
    metrics = {}
    for i, limit in enumerate(LIMITS):
        for j, size in enumerate(SIZES):
            metrics[f"AR{limit}{size}"] = float(np.mean(recall[:, j, i]))
    return metrics


def _as_annotations(proposals, category):
    return [
        {
            "id": number,
            "image_id": p["image_id"],
            "category_id": category,
            "bbox": p["bbox"],
            "area": p["bbox"][2] * p["bbox"][3],
            "iscrowd": 0,
            "score": p["score"],
        }
        for number, p in enumerate(proposals, start=1)
    ]
