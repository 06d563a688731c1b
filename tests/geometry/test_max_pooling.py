import keras
import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf.geometry.max_pooling import roi_pool
from fpn_tf.kernels import pooling_tables

BOXES = np.array(
    [
        [0, 0, 64, 48],  # the whole image
        [3.9, 5.1, 21.2, 40.7],
        [10, 10, 10, 10],  # no area: one cell
        [-30, -20, 20, 12],  # over the border
        [50, 40, 90, 70],
        [100, 100, 120, 130],  # outside
        [6, 6, 10, 10],  # corners on halves of cells
        [0, 20, 64, 22],  # long and flat
        [-600, -500, 900, 700],  # a bin is as large as the map
    ],
    np.float32,
)
LEVELS = np.array([2, 2, 3, 2, 3, 2, 2, 3, 2], np.int32)


def make_pyramid():
    random = np.random.default_rng(0)
    sizes = {2: (12, 16), 3: (6, 8)}
    return {level: random.normal(size=(2, *size, 3)).astype("float32") for level, size in sizes.items()}


def compiled(kernel):
    """The kernel as a graph, where the backend has one: loops take long in eager calls."""
    if keras.config.backend() != "tensorflow":
        return kernel
    import tensorflow as tf

    return tf.function(kernel, autograph=False)


@pytest.mark.parametrize("kernel", [roi_pool, roi_pool.plain, pooling_tables.roi_pool])
@pytest.mark.parametrize("bins", [1, 2, 7])
def test_equals_the_loop(kernel, bins):
    pyramid = make_pyramid()
    boxes, levels = np.stack([BOXES, BOXES[::-1]]), np.stack([LEVELS, LEVELS[::-1]])
    pyramid_of_tensors = {k: ops.convert_to_tensor(v) for k, v in pyramid.items()}
    boxes_and_levels = ops.convert_to_tensor(boxes), ops.convert_to_tensor(levels)
    kernel = compiled(kernel)
    found = ops.convert_to_numpy(kernel(pyramid_of_tensors, *boxes_and_levels, bins))
    for image in range(2):
        for i, (box, level) in enumerate(zip(boxes[image], levels[image])):
            expected = oracles.roi_pool(pyramid[level][image], box, 2.0**level, bins)
            np.testing.assert_array_equal(found[image, i], expected.astype("float32"))


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="the other way is that backend's own")
def test_both_ways_agree_and_the_gradient_goes_to_the_largest_cell():
    import tensorflow as tf

    pyramid = {k: tf.constant(v) for k, v in make_pyramid().items()}
    boxes, levels = tf.constant(np.stack([BOXES] * 2)), tf.constant(np.stack([LEVELS] * 2))

    @tf.function
    def pooled_and_gradient():
        with tf.GradientTape() as tape:
            tape.watch(pyramid)
            pooled = roi_pool(pyramid, boxes, levels, 3)
            order = tf.range(tf.size(pooled), dtype=tf.float32)
            total = tf.reduce_sum(tf.reshape(pooled, [-1]) * order)
        return [pooled, *tape.gradient(total, pyramid).values()]

    fast = pooled_and_gradient()
    expected = pooling_tables.roi_pool(pyramid, boxes, levels, 3).numpy()
    np.testing.assert_array_equal(fast[0], expected)
    order = np.arange(expected.size, dtype=np.float64).reshape(expected.shape)
    for level, gradient in zip(pyramid, fast[1:]):
        feature = pyramid[level].numpy()
        by_hand = np.zeros_like(feature, np.float64)
        for image, i, p, q, c in np.ndindex(*expected.shape):
            if LEVELS[i] == level and expected[image, i, p, q, c] != 0:
                y, x = np.argwhere(feature[image, :, :, c] == expected[image, i, p, q, c])[0]
                by_hand[image, y, x, c] += order[image, i, p, q, c]
        np.testing.assert_allclose(gradient, by_hand, rtol=1e-5)
