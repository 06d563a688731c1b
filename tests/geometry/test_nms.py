import keras
import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf.geometry.selection import nms
from fpn_tf.kernels import batched_nms, chunked_nms


def random_case(rng, rows, count, levels_of_score):
    center = rng.uniform(0, 60, (rows, count, 2))
    side = rng.uniform(4, 40, (rows, count, 2))
    boxes = np.concatenate([center - side / 2, center + side / 2], axis=-1).astype(np.float32)
    scores = np.round(rng.uniform(size=(rows, count)) * levels_of_score).astype(np.float32) / levels_of_score
    return boxes, scores, rng.uniform(size=(rows, count)) > 0.2


def check(kernel, boxes, scores, valid, threshold, limit):
    args = (ops.convert_to_tensor(a) for a in (boxes, scores, valid))
    indices, kept = (ops.convert_to_numpy(a) for a in kernel(*args, threshold, limit))
    assert indices.shape == kept.shape == (len(boxes), limit)
    for row in range(len(boxes)):
        expected = oracles.nms(boxes[row], scores[row], valid[row], threshold, limit)
        assert indices[row][kept[row]].tolist() == expected
        assert not indices[row][~kept[row]].any()


def by_small_chunks(*args):
    return chunked_nms.nms_of_rows(*args, chunk=7)


KERNELS = [nms, nms.plain, chunked_nms.nms, batched_nms.nms, by_small_chunks]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("ties", [4, 10**6])
@pytest.mark.parametrize(("threshold", "limit"), [(0.5, 8), (0.7, 50), (0.0, 5)])
def test_equals_the_loop(kernel, ties, threshold, limit):
    check(kernel, *random_case(np.random.default_rng(3), 3, 40, ties), threshold, limit)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nasty_rows(kernel):
    box = [0, 0, 10, 10]
    half = [0, 0, 10, 5]  # IoU with `box` is exactly 0.5: not above the threshold, kept
    boxes = np.array([[box, half, box], [box, box, box], [[3, 3, 3, 3]] * 3], np.float32)
    scores = np.array([[0.9, 0.8, 0.7], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]], np.float32)
    valid = np.array([[True, True, True], [False, False, False], [True, True, True]])
    check(kernel, boxes, scores, valid, 0.5, 4)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's compilers")
@pytest.mark.parametrize("xla", [False, True])
def test_compiled_equals_eager(xla):
    import tensorflow as tf

    case = random_case(np.random.default_rng(5), 2, 30, 10**6)
    kernel = chunked_nms.nms if xla else nms
    compiled = tf.function(lambda *a: kernel(*a, 0.5, 10), jit_compile=xla)
    args = [tf.convert_to_tensor(a) for a in case]
    for fast, slow in zip(compiled(*args), nms.plain(*args, 0.5, 10)):
        np.testing.assert_array_equal(fast, slow)
