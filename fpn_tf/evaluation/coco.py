"""COCO average precision, by pycocotools."""

import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fpn_tf.data.dataset import class_labels

METRICS = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


def evaluate(coco, detections, image_ids=None):
    """Scores detections against ground truth.

    Args:
        coco: ground truth as a COCO dict; crowd regions (`iscrowd`) absorb detections.
        detections: COCO results: dicts of image_id, category_id, bbox [x, y, w, h], score.
        image_ids: the images to score; None for all.

    Returns:
        dict of the 12 METRICS, floats, -1 without an object to score by, and
        `per_class`: class name -> AP; names that several classes have tell the id, "name (id 3)".
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth = indexed(coco)
        if detections:
            results = truth.loadRes([dict(d) for d in detections])
        else:  # pycocotools cannot load an empty list
            results = indexed(coco | {"annotations": []})
        scorer = COCOeval(truth, results, "bbox")
        if image_ids is not None:
            scorer.params.imgIds = sorted(image_ids)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    metrics = {name: float(value) for name, value in zip(METRICS, scorer.stats)}
    # precision: [IoU thresholds, recalls, classes, areas, limits on detections]
    precision = scorer.eval["precision"][:, :, :, 0, -1]
    metrics["per_class"] = {}
    names, ids = ([category[key] for category in coco["categories"]] for key in ("name", "id"))
    for label, category in zip(class_labels(names, ids), ids):
        values = precision[:, :, scorer.params.catIds.index(category)]
        values = values[values > -1]
        metrics["per_class"][label] = float(values.mean()) if values.size else -1.0
    return metrics


def indexed(values):
    """A COCO dict as pycocotools' object. It prints as it goes."""
    coco = COCO()
    coco.dataset = values
    coco.createIndex()
    return coco


def as_results(image_id, detections, size=None):
    """Detections of one photo as COCO result dicts.

    Args:
        image_id: int.
        detections: `fpn_tf.Detections`.
        size: (height, width) of the photo; boxes do not need it.
    """
    del size
    return [
        {
            "image_id": image_id,
            "category_id": int(category),
            "bbox": [round(float(v), 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": float(score),
        }
        for (x1, y1, x2, y2), score, category in zip(detections.boxes, detections.scores, detections.classes)
    ]
