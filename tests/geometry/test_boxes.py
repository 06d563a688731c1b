import math

import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf.geometry import boxes as box_maths

BOXES = np.array(
    [[0, 0, 10, 10], [5, 5, 15, 15], [-4, -4, 2, 2], [3, 3, 3, 9], [20, 20, 21, 40], [0, 0, 10, 10]],
    np.float32,
)


def test_pairwise_iou_equals_the_loop():
    found = ops.convert_to_numpy(box_maths.pairwise_iou(BOXES, BOXES[:4]))
    expected = [[oracles.iou(a, b) for b in BOXES[:4]] for a in BOXES]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0, 1] == pytest.approx(25 / (100 + 100 - 25))


def test_pairwise_iou_of_boxes_without_area_is_zero():
    point = np.array([[3, 3, 3, 3]], np.float32)
    assert ops.convert_to_numpy(box_maths.pairwise_iou(point, point)).item() == 0.0


def test_areas_of_boxes_that_end_before_they_begin_are_zero():
    boxes = np.array([[0, 0, 2, 3], [3, 3, 1, 5], [5, 5, 1, 1]], np.float32)
    np.testing.assert_array_equal(ops.convert_to_numpy(box_maths.box_area(boxes)), [6, 0, 0])


def test_boxes_smaller_than_a_pixel_count_as_large_as_they_are():
    small, tall = np.array([[[0, 0, 0.5, 0.5]], [[0, 0, 0.5, 1.0]]], np.float32)
    assert ops.convert_to_numpy(box_maths.pairwise_iou(small, tall)).item() == 0.25 / 0.5
    deltas = ops.convert_to_numpy(box_maths.encode_deltas(tall, small, (1, 1, 1, 1)))
    np.testing.assert_allclose(deltas, [[0, 0.25 / 0.5, 0, math.log(2)]], atol=1e-6)
    point = np.array([[3, 3, 3, 3]], np.float32)
    deltas = ops.convert_to_numpy(box_maths.encode_deltas(point, tall, (1, 1, 1, 1)))
    np.testing.assert_allclose(deltas[0, 2:], [math.log(1e-6 / 0.5), math.log(1e-6)], rtol=1e-5)


def test_pairwise_iou_keeps_leading_axes():
    stacked = np.stack([BOXES[:3], BOXES[3:]])
    found = ops.convert_to_numpy(box_maths.pairwise_iou(stacked, stacked))
    for i in range(2):
        np.testing.assert_array_equal(
            found[i], ops.convert_to_numpy(box_maths.pairwise_iou(stacked[i], stacked[i]))
        )


def test_clip_boxes_uses_each_images_own_size():
    boxes = np.array([[[-5, -5, 50, 50]], [[-5, -5, 50, 50]]], np.float32)
    found = ops.convert_to_numpy(box_maths.clip_boxes(boxes, np.array([[20, 30], [60, 40]])))
    np.testing.assert_array_equal(found, [[[0, 0, 30, 20]], [[0, 0, 40, 50]]])


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_encoding_equals_the_loop_and_decoding_inverts_it(weights):
    rng = np.random.default_rng(0)
    low = rng.uniform(-20, 50, (2, 20, 2))
    boxes, anchors = np.concatenate([low, low + rng.uniform(1, 60, (2, 20, 2))], axis=-1).astype(np.float32)
    deltas = ops.convert_to_numpy(box_maths.encode_deltas(boxes, anchors, weights))
    expected = [oracles.encode(b, a, weights) for b, a in zip(boxes, anchors)]
    np.testing.assert_allclose(deltas, expected, rtol=1e-4, atol=1e-5)
    back = ops.convert_to_numpy(box_maths.decode_deltas(deltas, anchors, weights))
    np.testing.assert_allclose(back, boxes, atol=1e-3)


def test_decoding_clamps_the_scale():
    anchors = np.array([[0, 0, 16, 16]], np.float32)
    found = ops.convert_to_numpy(
        box_maths.decode_deltas(np.array([[0, 0, 99, math.log(2)]], np.float32), anchors, (1,) * 4)
    )
    # Width 16 * 1000/16 = 1000 and height 16 * 2 = 32, both about the centre (8, 8).
    np.testing.assert_allclose(found, [[8 - 500, 8 - 16, 8 + 500, 8 + 16]], rtol=1e-5)


def test_encoding_of_padding_is_finite():
    zero = np.zeros((1, 4), np.float32)
    assert np.isfinite(ops.convert_to_numpy(box_maths.encode_deltas(zero, zero, (1,) * 4))).all()
