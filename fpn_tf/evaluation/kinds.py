"""What a kind of model is for: its metric, its scorer, its pictures, and whether it is served.

One object a kind, so that nothing else asks which kind a model is.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from fpn_tf import visualize
from fpn_tf.errors import ConfigError
from fpn_tf.evaluation import coco, proposals


def _comparison_without_classes(photo, detections, record):
    record = record._replace(classes=np.ones_like(record.classes))
    return visualize.draw_comparison(photo, detections, record)


def _recall(evaluate):
    """A scorer of proposals, which counts to limits of its own."""
    return lambda coco, results, image_ids, limit, scorer: evaluate(coco, results, image_ids, scorer)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is particular to a kind of model once it is built."""

    metric: str  # that chooses the best checkpoint
    score: Callable  # (coco dict, results, image ids, most detections of a photo, scorer) -> metrics
    results: Callable = coco.as_results  # (image id, Detections, photo size) -> COCO result dicts
    draw: Callable = visualize.draw_comparison  # (photo, Detections, Record) -> PIL.Image
    has_classes: bool = True  # or knows one alone, `object`
    is_served: bool = True  # exported and run on photos alone
    merges_scales: bool = True  # whether what it detects at several scales can be merged
    scores_segments: bool = False  # whether its score needs the ground truth's segmentations


KINDS = {
    "faster_rcnn": Kind("AP", coco.evaluate),
    "fast_rcnn": Kind("AP", coco.evaluate, is_served=False),
    "rpn": Kind("AR1000", _recall(proposals.evaluate), draw=_comparison_without_classes, has_classes=False),
    "segment_proposals": Kind(
        "AR1000",
        _recall(proposals.evaluate_segments),
        proposals.as_segment_results,
        visualize.draw_segment_comparison,
        has_classes=False,
        is_served=False,
        merges_scales=False,
        scores_segments=True,
    ),
}


def check_served(kind, mode):
    """Raises ConfigError where a kind of model is not served."""
    if not KINDS[kind].is_served:
        served = " or ".join(name for name, each in KINDS.items() if each.is_served)
        raise ConfigError(f"--mode={mode}: model.kind={kind}: expected {served}")
