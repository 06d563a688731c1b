import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf.structures import GroundTruth, Proposals
from fpn_tf.targets.box_targets import assign_rpn_targets, match, sample, sample_rois

QUOTAS = {"foreground_fraction": 0.25, "foreground_iou": 0.5, "box_weights": (10.0, 10.0, 5.0, 5.0)}


def numpy(values):
    return [ops.convert_to_numpy(v) for v in values]


def random_boxes(rng, *shape):
    low = rng.uniform(0, 60, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (*shape, 2))], axis=-1).astype(np.float32)


@pytest.mark.parametrize("keep_best", [True, False])
@pytest.mark.parametrize("valid", ["all", "the first", "none"])
@pytest.mark.parametrize("count", [1, 8, 19])  # some are compared at a time: one go, one whole, three
def test_match_equals_the_loop(keep_best, valid, count):
    rng = np.random.default_rng(0)
    boxes, gt = random_boxes(rng, 40), random_boxes(rng, 2, count)
    gt[:, -1] = gt[:, 0]  # of two that lie alike the first counts
    number = {"all": count, "the first": 1, "none": 0}[valid]
    valid = np.stack([np.arange(count) < number, np.arange(count) % 3 < 2])
    gt_index, labels = numpy(match(boxes, gt, valid, 0.5, 0.2, keep_best))
    for b in range(2):
        expected_index, expected = oracles.match(boxes, gt[b], valid[b], 0.5, 0.2, keep_best)
        assert labels[b].tolist() == expected
        assert all(e is None or e == g for e, g in zip(expected_index, gt_index[b]))


def test_a_tie_for_the_best_box_makes_both_foreground():
    gt = np.array([[[0, 0, 10, 10]]], np.float32)
    boxes = np.array([[-5, 0, 5, 10], [5, 0, 15, 10], [30, 30, 40, 40]], np.float32)  # IoU 1/3, 1/3, 0
    _, labels = numpy(match(boxes, gt, np.array([[True]]), 0.7, 0.3, True))
    assert labels.tolist() == [[1, 1, 0]]


def test_a_gt_that_nothing_overlaps_claims_nothing():
    gt = np.array([[[500, 500, 510, 510]]], np.float32)
    _, labels = numpy(match(np.array([[0, 0, 5, 5]], np.float32), gt, np.array([[True]]), 0.7, 0.3, True))
    assert labels.tolist() == [[0]]


@pytest.mark.parametrize("labels", ["mixed", "all background", "all ignored", "all foreground", "few"])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_sample_equals_the_loop(labels, fraction):
    rng = np.random.default_rng(1)
    chosen = {
        "mixed": rng.integers(-1, 2, (2, 50)),
        "all background": np.zeros((2, 50), int),
        "all ignored": -np.ones((2, 50), int),
        "all foreground": np.ones((2, 50), int),
        "few": np.array([[1, 0, -1], [0, 0, 1]]),
    }[labels]
    noise = rng.uniform(size=chosen.shape).astype(np.float32)
    drawn = sample(chosen.astype(np.int32), noise, 8, fraction)
    indices, foreground, valid = numpy(drawn)
    assert indices.shape == (2, 8)
    for b in range(2):
        fg, bg = oracles.sample(chosen[b], noise[b], 8, fraction)
        assert sorted(indices[b][valid[b] & foreground[b]]) == sorted(fg)
        assert sorted(indices[b][valid[b] & ~foreground[b]]) == sorted(bg)
        assert not foreground[b][~valid[b]].any()


def test_rpn_targets_by_hand():
    anchors = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60]], np.float32)
    gt = GroundTruth(np.array([[[0, 0, 10, 10]]], np.float32), np.array([[2]]), np.array([[True]]))
    noise = np.array([[0.5, 0.6, 0.7]], np.float32)
    targets = assign_rpn_targets(
        anchors,
        gt,
        noise,
        foreground_iou=0.7,
        background_iou=0.3,
        samples=4,
        foreground_fraction=0.5,
        box_weights=(1.0, 1.0, 1.0, 1.0),
    )
    indices, labels, deltas, valid = numpy(targets)
    # Anchor 0 is the object, anchor 1 (IoU 0.5) is ignored, anchor 2 is background.
    assert valid.tolist() == [[True, True, False, False]]
    assert indices[0, :2].tolist() == [0, 2]
    assert labels[0, :2].tolist() == [1, 0]
    np.testing.assert_allclose(deltas[0, 0], 0, atol=1e-6)


def test_rois_hold_the_ground_truth_and_fill_the_quota():
    gt = GroundTruth(
        np.array([[[0, 0, 10, 10], [0, 0, 0, 0]]], np.float32), np.array([[3, 0]]), np.array([[True, False]])
    )
    boxes = np.zeros((1, 6, 4), np.float32)
    boxes[0, :5] = [50, 50, 60, 60]
    proposals = Proposals(boxes, np.zeros((1, 6), np.float32), np.array([[1, 1, 1, 1, 1, 0]], bool), None)
    noise = np.linspace(0, 0.9, 8, dtype=np.float32)[None]
    rois, classes, deltas, valid = numpy(sample_rois(proposals, gt, noise, samples=4, **QUOTAS)[:4])
    assert valid.all()
    assert classes.tolist() == [[3, 0, 0, 0]]  # a quarter of 4 is 1 foreground
    np.testing.assert_array_equal(rois[0, 0], [0, 0, 10, 10])
    np.testing.assert_array_equal(rois[0, 1:], [[50, 50, 60, 60]] * 3)
    np.testing.assert_allclose(deltas[0, 0], 0, atol=1e-6)


def test_without_ground_truth_everything_is_background():
    gt = GroundTruth(np.zeros((1, 1, 4), np.float32), np.zeros((1, 1), np.int32), np.zeros((1, 1), bool))
    boxes = random_boxes(np.random.default_rng(2), 1, 6)
    proposals = Proposals(boxes, np.zeros((1, 6), np.float32), np.ones((1, 6), bool), None)
    noise = np.linspace(0, 0.9, 7, dtype=np.float32)[None]
    rois, classes, deltas, valid = numpy(sample_rois(proposals, gt, noise, samples=8, **QUOTAS)[:4])
    assert valid.sum() == 6
    assert not classes.any()
    assert np.isfinite(deltas).all()
    assert np.isfinite(rois).all()


def test_the_thresholds_themselves():
    # IoU with the object: 0.5 and 0.25 exactly.
    boxes = np.array([[0, 0, 10, 5], [0, 0, 10, 2.5]], np.float32)
    gt, valid = np.array([[[0, 0, 10, 10]]], np.float32), np.array([[True]])
    assert numpy(match(boxes, gt, valid, 0.5, 0.25, False))[1].tolist() == [[1, -1]]
    assert numpy(match(boxes, gt, valid, 0.75, 0.5, False))[1].tolist() == [[-1, 0]]


def test_a_ground_truth_without_area_claims_nothing():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    gt = np.array([[[5, 5, 5, 5]]], np.float32)
    assert numpy(match(boxes, gt, np.array([[True]]), 0.7, 0.3, True))[1].tolist() == [[0, 0]]


def test_the_foreground_quota_is_rounded_down():
    labels = np.ones((1, 20), np.int32)
    labels[:, 10:] = 0
    drawn = sample(labels, np.linspace(0, 0.9, 20, dtype=np.float32)[None], 7, 0.25)  # 1.75 of 7
    assert numpy(drawn)[1].sum() == 1


def test_a_roi_has_the_fields_of_its_own_object():
    boxes = np.array([[[0, 0, 10, 10], [40, 40, 60, 60]], [[5, 5, 25, 25], [0, 0, 0, 0]]], np.float32)
    colours = np.array([[5, 9], [7, 0]], np.int32)
    valid = np.array([[True, True], [True, False]])
    gt = GroundTruth(boxes, np.array([[1, 2], [3, 0]]), valid, {"colour": colours})
    proposals = Proposals(
        boxes + 1, np.zeros((2, 2), np.float32), np.array([[False, True], [True, False]]), None
    )
    noise = np.array([[0.1, 0.9, 0.2, 0.3], [0.9, 0.1, 0.3, 0.2]], np.float32)
    rois = sample_rois(proposals, gt, noise, samples=4, **QUOTAS | {"foreground_fraction": 0.5})
    classes, drawn_colours = ops.convert_to_numpy(rois.classes), ops.convert_to_numpy(rois.fields["colour"])
    assert sorted(set(classes[classes > 0].tolist())) == [2, 3]
    for kind, colour in ((2, 9), (3, 7)):
        assert set(drawn_colours[classes == kind].tolist()) == {colour}
