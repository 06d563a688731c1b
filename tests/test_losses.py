import math

import numpy as np
import pytest
from backends import tensors_of

from fpn_tf import losses
from fpn_tf.structures import ROITargets, RPNTargets, SegmentTargets


def test_smooth_l1_by_hand():
    predictions = np.array([[0.5, -2.0, 0.0, 1.0]], np.float32)
    found = losses.smooth_l1(predictions, np.zeros((1, 4), np.float32), 1.0)
    assert float(found[0]) == pytest.approx(0.5 * 0.25 + (2 - 0.5) + 0 + (1 - 0.5))
    assert float(losses.smooth_l1(predictions, np.zeros((1, 4), np.float32), 0.0)[0]) == pytest.approx(3.5)


def test_rpn_losses_by_hand():
    targets = tensors_of(
        RPNTargets(
            indices=np.zeros((2, 3), np.int32),
            labels=np.array([[1, 0, 1], [0, 0, 0]], np.float32),
            deltas=np.zeros((2, 3, 4), np.float32),
            valid=np.array([[True, True, False], [True, False, False]]),
        )
    )
    logits = np.array([[2.0, -1.0, 9.0], [0.0, 9.0, 9.0]], np.float32)
    deltas = np.full((2, 3, 4), 0.25, np.float32)
    objectness, box = losses.rpn_losses(*tensors_of((logits, deltas)), targets, 0.0)
    first = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert float(objectness) == pytest.approx((first + math.log(2)) / 2, rel=1e-6)
    assert float(box) == pytest.approx((4 * 0.25 / 2 + 0) / 2, rel=1e-6)


def test_head_losses_by_hand():
    targets = tensors_of(
        ROITargets(
            rois=np.zeros((1, 3, 4), np.float32),
            classes=np.array([[2, 0, 1]], np.int32),
            deltas=np.zeros((1, 3, 4), np.float32),
            valid=np.array([[True, True, False]]),
        )
    )
    logits = np.zeros((1, 3, 3), np.float32)
    deltas = np.zeros((1, 3, 2, 4), np.float32)
    deltas[0, 0, 1] = [1, 0, 0, 0]  # of the RoI's own class
    deltas[0, 0, 0] = 77  # of another: must not count
    class_loss, box_loss = losses.head_losses(*tensors_of((logits, deltas)), targets, 0.0)
    assert float(class_loss) == pytest.approx(math.log(3), rel=1e-6)
    assert float(box_loss) == pytest.approx(1 / 2, rel=1e-6)


def test_every_roi_of_every_image_has_the_score_of_its_own_class():
    classes = np.array([[2, 0], [1, 3]], np.int32)
    logits = np.arange(16, dtype=np.float32).reshape(2, 2, 4) ** 1.5 / 8
    targets = tensors_of(
        ROITargets(np.zeros((2, 2, 4)), classes, np.zeros((2, 2, 4), np.float32), np.ones((2, 2), bool))
    )
    class_loss, box_loss = losses.head_losses(
        *tensors_of((logits, np.zeros((2, 2, 3, 4), np.float32))), targets, 0.0
    )
    expected = [
        math.log(sum(math.exp(x) for x in logits[image, roi])) - logits[image, roi, classes[image, roi]]
        for image in range(2)
        for roi in range(2)
    ]
    assert np.ptp(expected) > 0.1
    assert float(class_loss) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(box_loss) == 0.0


def test_segment_losses_by_hand():
    targets = tensors_of(
        SegmentTargets(
            indices=np.zeros((1, 3), np.int32),
            labels=np.array([[1, 0, 1]], np.float32),
            segments=np.ones((1, 3, 2, 2), np.float32),
            valid=np.array([[True, True, False]]),
        )
    )
    scores, segments = np.array([[0.0, 1.0, 5.0]], np.float32), np.zeros((1, 3, 2, 2), np.float32)
    segments[0, 0, 0] = 2.0
    segments[0, 1:] = -9.0  # of background and of padding: must not count
    score_loss, segment_loss = losses.segment_losses(*tensors_of((scores, segments)), targets)
    assert float(score_loss) == pytest.approx((math.log(2) + math.log(1 + math.e)) / 2, rel=1e-6)
    assert float(segment_loss) == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2, rel=1e-6)


def test_extreme_logits_stay_finite_and_nothing_valid_is_zero():
    targets = tensors_of(
        RPNTargets(
            np.zeros((1, 2), np.int32),
            np.array([[0.0, 1.0]], np.float32),
            np.zeros((1, 2, 4), np.float32),
            np.ones((1, 2), bool),
        )
    )
    logits = np.array([[1e4, -1e4]], np.float32)
    outputs = tensors_of((logits, np.zeros((1, 2, 4), np.float32)))
    objectness, _ = losses.rpn_losses(*outputs, targets, 0.0)
    assert float(objectness) == pytest.approx(1e4)
    values, none = tensors_of((np.ones((2, 3), np.float32), np.zeros((2, 3), bool)))
    assert float(losses.mean_per_image(values, none)) == 0.0
    assert (
        float(losses.mean_per_image(*tensors_of((values, np.eye(2, 3) > 0)))) == 1.0
    )  # and nothing is added
