"""What detectors have in common that find objects and do not tell their classes."""

import numpy as np
from keras import ops

from fpn_tf.models.detector import Detector


class ClassAgnosticDetector(Detector):
    """A Detector of one class, 1, named "object", which detects whatever its score is."""

    num_classes = 1
    score_threshold = -1.0

    def category_ids(self, classes: np.ndarray) -> np.ndarray:
        return np.ones(len(classes), np.int64)

    @property
    def class_names(self) -> dict[int, str]:
        return {1: "object"}


def above(detections, score_threshold):
    """BatchDetections or BatchSegments of one class: those above the threshold (None: all of them)."""
    if score_threshold is None:
        return detections
    valid = detections.valid & (detections.scores > score_threshold)
    return detections._replace(valid=valid, classes=ops.cast(valid, "int32"))
