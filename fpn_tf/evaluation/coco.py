"""COCO average precision, by pycocotools."""

import contextlib
import io

from pycocotools.cocoeval import COCOeval

from fpn_tf.data.dataset import class_labels
from fpn_tf.evaluation.numbering import indexed_pair

LIMITS = [1, 10, 100]  # detections of each class in a photo, of AR1, AR10 and all other METRICS
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


def evaluate(coco, detections, image_ids=None, limit=LIMITS[-1]):
    """Scores detections against ground truth.

    Args:
        coco: ground truth as a COCO dict; crowd regions (`iscrowd`) absorb detections, boxes without
            area in their photo are left out.
        detections: COCO results: dicts of image_id, category_id, bbox [x, y, w, h], score.
        image_ids: the images to score; None for all.
        limit: the most detections of a photo. COCO's metrics count the best 100 of each class in a
            photo; where more are allowed, two further ones count as many.

    Returns:
        dict of the 12 METRICS, floats, -1 without an object to score by; above 100 of
        `further_metrics(limit)`; and `per_class`: class name -> AP; names that several classes have
        tell the id, "name (id 3)".
    """
    scorer = _scored(coco, detections, image_ids, sorted({*LIMITS, max(limit, LIMITS[-1])}))
    metrics = {name: float(value) for name, value in zip(METRICS, scorer.stats)}
    # precision: [IoU thresholds, recalls, classes, areas, limits on detections], recall: no recalls
    precision, recall = scorer.eval["precision"][:, :, :, 0], scorer.eval["recall"][:, :, 0]
    if limit > LIMITS[-1]:
        further = _mean(precision[..., -1]), _mean(recall[..., -1])
        metrics |= dict(zip(further_metrics(limit), further))
    names, ids = ([category[key] for category in coco["categories"]] for key in ("name", "id"))
    metrics["per_class"] = {
        label: _mean(precision[:, :, sorted(ids).index(category), LIMITS.index(100)])
        for label, category in zip(class_labels(names, ids), ids)
    }
    return metrics


def further_metrics(limit):
    """Names of the AP and the AR that count up to `limit` detections of each class in a photo."""
    return f"AP_at_{limit}", f"AR{limit}"


def limit_note(limit, source):
    """What a user should know where a photo may have more detections than COCO's metrics count, or None."""
    if limit <= LIMITS[-1]:
        return None
    further = " and ".join(further_metrics(limit))
    return (
        f"{source}: AP counts the best {LIMITS[-1]} detections of a class in a photo, as COCO's does; "
        f"{further} count up to {limit}"
    )


def _scored(coco, detections, image_ids, limits):
    """A COCOeval that has done its work."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        scorer = COCOeval(*indexed_pair(coco, detections, image_ids), "bbox")
        scorer.params.maxDets = limits
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def _mean(values):
    """The mean where there is something to score by; -1 without."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


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
