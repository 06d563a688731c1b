import keras
import numpy as np
import pytest

from fpn_tf import build, config
from fpn_tf.models.conv_norm import conv3x3, scaled
from fpn_tf.training.optimizer import with_decay

if keras.config.backend() != "tensorflow":
    pytest.skip("TensorFlow's own paths", allow_module_level=True)
import tensorflow as tf


@pytest.mark.parametrize(
    ("channels", "filters", "dtype", "saves"),
    [
        (64, 80, "float32", True),
        (63, 80, "float32", False),
        (64, 3, "float32", False),
        (64, 64, "bfloat16", False),
    ],
)
def test_many_channels_are_convolved_with_few_multiplications(channels, filters, dtype, saves):
    random = np.random.default_rng(0)
    x, kernel = (
        tf.constant(random.normal(size=size).astype("float32"))
        for size in ((1, 5, 7, channels), (3, 3, channels, filters))
    )

    @tf.function
    def convolve(x, kernel):
        return conv3x3(tf.cast(x, dtype), tf.cast(kernel, dtype))

    found = convolve(x, kernel)
    assert found.dtype == dtype
    bound = 1e-5 if dtype == "float32" else 2e-2
    expected = tf.nn.conv2d(x, kernel, 1, "SAME").numpy()
    assert np.abs(tf.cast(found, "float32") - expected).max() < bound * np.abs(expected).max()
    kinds = {op.type for op in convolve.get_concrete_function(x, kernel).graph.get_operations()}
    assert ("Conv2D" in kinds) is not saves


def test_products_wait_for_what_they_are_used_with():
    weight = keras.Variable([1.0, 2.0])

    @tf.function
    def products(x):
        return with_decay(x * 3.0, weight, 0.5), scaled(weight, 0.5, x * 3.0)

    steps = products.get_concrete_function(tf.zeros(2))
    for found, expected in zip(steps(tf.constant([1.0, 1.0])), ([3.5, 4.0], [0.5, 1.0])):
        np.testing.assert_allclose(found, expected)
    reads = [op for op in steps.graph.get_operations() if op.type == "ReadVariableOp"]
    assert len(reads) == 2
    assert all(op.control_inputs for op in reads)


def test_detect_follows_the_weights(quick_config):
    keras.utils.set_random_seed(0)
    model = build(config.replace(quick_config, **{"model.norm": "frozen_bn"}))
    classifier = model.box_head.head.classifier
    classifier.kernel.assign(classifier.kernel * 30)  # random scores then differ clearly
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    before, again = model.detect([photo, photo])
    np.testing.assert_array_equal(before.scores, again.scores)
    assert len(before.scores)
    for variable in (model.backbone.stem.kernel, model.backbone.stem.moving_mean):
        variable.assign(variable + 0.01)
        [after] = model.detect(photo)
        assert after.scores.shape != before.scores.shape or np.abs(after.scores - before.scores).max() > 1e-5
        before = after
        fresh = build(model.config)
        fresh.set_weights(model.get_weights())
        [expected] = fresh.detect(photo)
        np.testing.assert_allclose(after.scores, expected.scores, atol=1e-6)
        np.testing.assert_allclose(after.boxes, expected.boxes, atol=1e-3)
