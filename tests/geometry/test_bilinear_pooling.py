import keras
import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf.geometry import bilinear_pooling as module

BOXES = np.array(
    [
        [4, 4, 36, 52],
        [0, 0, 95, 63],
        [-30, -20, 20, 25],  # partly outside
        [200, 200, 260, 240],  # outside altogether
        [10, 10, 10, 10],  # no area
        [8, 3, 9, 60],  # thin
        [-500, -400, 900, 800],  # far larger than the image
    ],
    np.float32,
)
LEVELS = np.array([2, 3, 2, 3, 2, 2, 3], np.int32)


def pyramid(rng):
    return {k: rng.normal(size=(2, 64 // 2**k, 96 // 2**k, 3)).astype(np.float32) for k in (2, 3)}


KERNELS = [module.roi_align, module.roi_align.plain]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [1, 2, 3, 0])
def test_equals_the_loop(aligned, sampling):
    rng = np.random.default_rng(0)
    maps = pyramid(rng)
    boxes = np.stack([BOXES, BOXES[::-1]])
    levels = np.stack([LEVELS, LEVELS[::-1]])
    tensors = {k: ops.convert_to_tensor(v) for k, v in maps.items()}
    expected = np.array(
        [
            [
                oracles.roi_align(maps[k][b], box, 2.0**k, 4, sampling, aligned)
                for box, k in zip(boxes[b], levels[b])
            ]
            for b in range(2)
        ]
    )
    for kernel in KERNELS:
        found = kernel(
            tensors, ops.convert_to_tensor(boxes), ops.convert_to_tensor(levels), 4, sampling, aligned
        )
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-4)


def test_a_ramp_is_averaged_exactly():
    # On the map f(y, x) = x the bins of a box read the x of their centres.
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[None, None, :, None], (1, 16, 16, 1))
    box = np.array([[[8.0, 8.0, 40.0, 40.0]]], np.float32)  # cells 2..10, bins of 2 cells
    found = module.roi_align({2: ops.convert_to_tensor(ramp)}, box, np.array([[2]]), 4, 2, True)
    # Cell centres lie at half-integers when aligned: bin centres 3, 5, 7, 9 are cells 2.5 ... 8.5.
    np.testing.assert_allclose(ops.convert_to_numpy(found)[0, 0, 0, :, 0], [2.5, 4.5, 6.5, 8.5], atol=1e-5)


@pytest.mark.parametrize(
    ("side", "level"), [(224, 4), (223.9, 3), (112, 3), (448, 5), (10, 2), (5000, 5), (0, 2), (447.9, 4)]
)
def test_levels_of_the_papers_equation(side, level):
    found = module.assign_levels(np.array([[0, 0, side, side]], np.float32), (2, 3, 4, 5))
    assert ops.convert_to_numpy(found).tolist() == [level]


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="compares TensorFlow's gradients")
@pytest.mark.parametrize("sampling", [2, 0])
def test_gradients_of_the_kernels_agree(sampling):
    import tensorflow as tf

    maps = {k: tf.convert_to_tensor(v) for k, v in pyramid(np.random.default_rng(1)).items()}
    boxes, levels = tf.convert_to_tensor(np.stack([BOXES] * 2)), tf.convert_to_tensor(np.stack([LEVELS] * 2))
    weights = tf.random.stateless_normal([2, len(BOXES), 4, 4, 3], [0, 1])
    gradients = []
    for kernel in KERNELS:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(kernel(maps, boxes, levels, 4, sampling, True) * weights)
        gradients.append(tape.gradient(total, maps))
    for k in maps:
        np.testing.assert_allclose(gradients[0][k], gradients[1][k], atol=2e-3)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's kernels")
@pytest.mark.parametrize("sampling", [2, 0])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("device", ["CPU", "GPU"])  # whose way; both run on a CPU too
def test_boxes_that_share_cells_and_their_gradient(sampling, aligned, device, monkeypatch):
    """Threads that add to the same cells lose nothing: many boxes lie on few cells."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind] if kind == device else [])
    rng = np.random.default_rng(0)
    feature = tf.constant(rng.normal(size=(1, 3, 4, 256)).astype(np.float32))
    # The slow ways are very slow; it is the CPU's threads that need many boxes to meet.
    count = (600 if sampling else 20) // (1 if device == "CPU" else 10)
    corner = rng.uniform(-4, 8, (1, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 12, corner.shape)], axis=-1).astype(np.float32)
    levels = np.full((1, count), 2, np.int32)
    upstream = tf.constant(rng.normal(size=(1, count, 7, 7, 256)).astype(np.float32))
    pooled, gradients = [], []
    for kernel in (module.roi_align.plain, module.roi_align):
        with tf.GradientTape() as tape:
            tape.watch(feature)
            found = kernel({2: feature}, tf.constant(boxes), tf.constant(levels), 7, sampling, aligned)
        pooled.append(found)
        gradients.append(tape.gradient(found, feature, upstream))
    np.testing.assert_allclose(pooled[1], pooled[0], atol=1e-4)  # of more boxes than are cropped at once
    largest = float(tf.reduce_max(tf.abs(gradients[0])))
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-5 * largest)
