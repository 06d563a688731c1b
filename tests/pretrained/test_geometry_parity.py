"""The geometry computes what torchvision's computes: recorded outputs."""

import pathlib

import numpy as np
import pytest
from keras import ops

from fpn_tf.geometry.bilinear_pooling import roi_align
from fpn_tf.geometry.boxes import anchor_grid, base_anchors, decode_deltas, encode_deltas, pairwise_iou
from fpn_tf.geometry.selection import nms

GOLDEN = np.load(pathlib.Path(__file__).parent / "goldens" / "torchvision_geometry.npz")
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@pytest.mark.parametrize(("height", "width", "step"), [(224, 320, 53), (96, 416, 53), (800, 1088, 997)])
def test_anchors(height, width, step):
    found = []
    for level in (2, 3, 4, 5, 6):
        size = -(-height // 2**level), -(-width // 2**level)
        cell = base_anchors((2 ** (level + 3),), (0.5, 1.0, 2.0), "torchvision")
        found.append(anchor_grid(size, (height // size[0], width // size[1]), cell))
    found = ops.convert_to_numpy(ops.concatenate(found))[::step]
    np.testing.assert_allclose(found, GOLDEN[f"anchors_{height}_{width}"], atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling", [2, 3, 0])
def test_roi_align(aligned, sampling):
    rois, feature = GOLDEN["rois"], GOLDEN["feature"]
    expected = GOLDEN[f"roi_align_{aligned}_{sampling}"]
    for image in (0, 1):
        here = rois[:, 0] == image
        boxes = rois[here, 1:][None]
        levels = np.full(boxes.shape[:2], 2, np.int32)
        found = roi_align({2: feature[image : image + 1]}, boxes, levels, 5, sampling, aligned)
        np.testing.assert_allclose(ops.convert_to_numpy(found)[0], expected[here], atol=1e-4)


def test_nms_with_ties():
    valid = np.ones((1, 80), bool)
    indices, kept = nms(GOLDEN["boxes"][None], GOLDEN["scores"][None], valid, 0.4, 80)
    found = ops.convert_to_numpy(indices)[ops.convert_to_numpy(kept)]
    np.testing.assert_array_equal(found, GOLDEN["nms"])


def test_nms_of_classes_as_rows():
    classes = np.arange(3)[:, None]
    boxes, scores = (np.repeat(GOLDEN[k][None], 3, axis=0) for k in ("boxes", "scores"))
    indices, kept = nms(boxes, scores, GOLDEN["classes"] == classes, 0.4, 80)
    found = ops.convert_to_numpy(indices)[ops.convert_to_numpy(kept)]
    order = np.lexsort((found, -GOLDEN["scores"][found]))  # by falling score, ties by index
    expected = GOLDEN["batched_nms"]
    expected = expected[np.lexsort((expected, -GOLDEN["scores"][expected]))]
    np.testing.assert_array_equal(found[order], expected)


def test_iou_and_box_coding():
    boxes = GOLDEN["boxes"]
    iou = pairwise_iou(boxes, boxes[:20])
    np.testing.assert_allclose(ops.convert_to_numpy(iou), GOLDEN["iou"], atol=1e-5)
    encoded = ops.convert_to_numpy(encode_deltas(boxes[::-1], boxes, WEIGHTS))
    np.testing.assert_allclose(encoded, GOLDEN["encoded"], rtol=1e-5, atol=1e-5)
    decoded = ops.convert_to_numpy(decode_deltas(GOLDEN["deltas"], boxes, WEIGHTS))
    np.testing.assert_allclose(decoded, GOLDEN["decoded"], rtol=1e-5, atol=1e-4)


def test_detectron_anchors_by_hand():
    # p2: stride 4, size 32: sides of ratio 0.5 on a 4 x 4 cell are round(sqrt(32)) = 6 and
    # round(6 * 0.5) = 3, eight times as large; centred at 2.
    np.testing.assert_array_equal(base_anchors((32,), (0.5,), "detectron", 4), [[-22, -10, 26, 14]])
