"""COCO average precision."""

from fpn_tf.config import SCORERS
from fpn_tf.data.dataset import class_labels
from fpn_tf.evaluation.scorers import accumulated

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


def evaluate(coco, detections, image_ids=None, limit=LIMITS[-1], scorer=SCORERS[0]):
    """Scores detections against ground truth.

    Args:
        coco: ground truth as a COCO dict; crowd regions (`iscrowd`) absorb detections, boxes without
            area in their photo are left out.
        detections: COCO results: dicts of image_id, category_id, bbox [x, y, w, h], score.
        image_ids: the images to score; None for all.
        limit: the most detections of a photo. COCO's metrics count the best 100 of each class in a
            photo; where more are allowed, two further ones count as many.
        scorer: the library that does it, see `fpn_tf.evaluation.scorers`.

    Returns:
        dict of the 12 METRICS, floats, -1 without an object to score by; above 100 of
        `further_metrics(limit)`; and `per_class`: class name -> AP; names that several classes have
        tell the id, "name (id 3)".
    """
    limits = sorted({*LIMITS, max(limit, LIMITS[-1])})
    precision, recall = accumulated(scorer, coco, detections, image_ids, maxDets=limits)
    metrics = dict(zip(METRICS, map(_mean, _parts(precision, recall))))
    if limit > LIMITS[-1]:
        further = _mean(precision[..., 0, -1]), _mean(recall[..., 0, -1])
        metrics |= dict(zip(further_metrics(limit), further))
    names, ids = ([category[key] for category in coco["categories"]] for key in ("name", "id"))
    metrics["per_class"] = {
        label: _mean(precision[:, :, sorted(ids).index(category), 0, LIMITS.index(100)])
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


def _parts(precision, recall):
    """What each of METRICS is the mean of; see `fpn_tf.evaluation.scorers.accumulated`."""
    precision_at_100, recall_at_100 = (values[..., LIMITS.index(100)] for values in (precision, recall))
    whole = precision_at_100[..., 0]
    yield from (whole, whole[0], whole[5])  # IoU 0.5, 0.55 .. 0.95
    yield from (precision_at_100[..., size] for size in (1, 2, 3))
    yield from (recall[..., 0, number] for number in range(len(LIMITS)))
    yield from (recall_at_100[..., size] for size in (1, 2, 3))


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
