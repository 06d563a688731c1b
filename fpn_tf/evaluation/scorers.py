"""COCO's evaluation, by one of two libraries that give the same numbers.

pycocotools is the default: it is what COCO's numbers are defined by, and every installation has it.
hotcoco (the extra `fast`) does the same work many times as fast, for large sets and frequent
evaluations; that its numbers are pycocotools', tests hold. It has to be asked for, so that a number
never depends on what happens to be installed.
"""

import contextlib
import importlib
import importlib.util
import io

from fpn_tf.config import SCORERS
from fpn_tf.errors import ConfigError
from fpn_tf.evaluation.numbering import numbered_pair

MODULES = {"pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"), "hotcoco": ("hotcoco", "hotcoco")}


def check_scorer(name, key):
    """Raises ConfigError where `name`, the value of `key`, is no scorer or is not installed."""
    if name not in SCORERS:
        raise ConfigError(f"{key}={name}: expected {' or '.join(SCORERS)}")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"{key}={name}: is not installed; expected `pip install {name}` (the extra `fast`), "
            f"or {key}={SCORERS[0]}"
        )


def accumulated(scorer, coco, results, image_ids=None, overlap="bbox", **settings):
    """Precision and recall of detections, as COCOeval accumulates them.

    Args:
        scorer: one of SCORERS.
        coco: ground truth as a COCO dict.
        results: COCO results.
        image_ids: the images to score; None for all.
        overlap: "bbox", or "segm" for segments.
        **settings: values of COCOeval's `params`, such as `maxDets`.

    Returns:
        (precision [T, R, K, A, M], recall [T, K, A, M]), float64, of T IoU thresholds, R recalls, K
        classes by their ids, A areas (all, small, medium, large), M limits; -1 without an object.
    """
    index, evaluation = map(importlib.import_module, MODULES[scorer])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        pair = (_indexed(index.COCO(), each) for each in numbered_pair(coco, results, image_ids, overlap))
        scored = evaluation.COCOeval(*pair, overlap)
        for name, value in settings.items():
            setattr(scored.params, name, value)
        scored.evaluate()
        scored.accumulate()
    return scored.eval["precision"], scored.eval["recall"]


def _indexed(empty, values):
    """A COCO dict as the object of a library that was given an empty one."""
    empty.dataset = values
    empty.createIndex()
    return empty
