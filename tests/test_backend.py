import keras
import numpy as np
import pytest

from fpn_tf import FasterRCNN, config
from fpn_tf.backend import conv3x3, frozen, scaled, with_decay

if keras.config.backend() != "tensorflow":
    pytest.skip("TensorFlow's own paths", allow_module_level=True)
import tensorflow as tf


def make_detector(settings):
    keras.utils.set_random_seed(0)
    model = FasterRCNN(config.replace(settings, **{"model.norm": "frozen_bn"}))
    classifier = model.box_head.classifier
    classifier.kernel.assign(classifier.kernel * 30)  # random scores then differ clearly
    return model


@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 1, 1), (3, 8, 2), (1, 1, 6)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_3x3_convolution_and_its_gradients(shape, compiled):
    random = np.random.default_rng(0)
    x, kernel, bias = (
        tf.constant(random.normal(size=size).astype("float32")) for size in ((*shape, 4), (3, 3, 4, 6), (6,))
    )

    def plain(x, kernel, bias):
        return tf.nn.conv2d(x, kernel, 1, "SAME") + bias

    def results(convolve):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel, bias))
            y = convolve(x, kernel, bias)
            total = tf.reduce_sum(tf.sin(y))
        return [y, *tape.gradient(total, (x, kernel, bias))]

    found = (tf.function(results) if compiled else results)(conv3x3)
    for a, b in zip(found, results(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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


def test_frozen_gives_what_the_model_gives_and_its_3x3_kernels_are_constants(tiny_config, batch):
    x = {name: tf.constant(value) for name, value in batch[0].items()}
    model = make_detector(tiny_config)
    compiled = tf.function(frozen(model), autograph=False)
    for found, expected in zip(compiled(x), model(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    graph = compiled.get_concrete_function(x).graph
    kernels = [op.inputs[1] for op in graph.get_operations() if op.type == "Conv2D"]
    assert len(kernels) > 10
    sliding = [source(kernel) for kernel in kernels if kernel.shape[0] > 1]
    others = {source(kernel) for kernel in kernels if kernel.shape[0] == 1}
    assert others == {"Placeholder"}  # a variable comes in as its handle
    assert sliding.count("Placeholder") == 2  # the smoothing of p4 and p5
    assert sliding.count("Const") == len(sliding) - 2 >= 8


def source(kernel):
    """The type of the op that a convolution's kernel comes from."""
    op = kernel.op
    while op.type in ("Mul", "ReadVariableOp", "Identity"):  # times the frozen batch norm
        op = op.inputs[0].op
    return op.type


def test_detect_follows_the_weights(quick_config):
    model = make_detector(quick_config)
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    before, again = model.detect([photo, photo])
    np.testing.assert_array_equal(before.scores, again.scores)
    assert len(before.scores)
    for variable in (model.backbone.stem.kernel, model.backbone.stem.moving_mean):
        variable.assign(variable + 0.01)
        [after] = model.detect(photo)
        assert after.scores.shape != before.scores.shape or np.abs(after.scores - before.scores).max() > 1e-5
        before = after
        fresh = FasterRCNN(model.config)
        fresh.set_weights(model.get_weights())
        [expected] = fresh.detect(photo)
        np.testing.assert_allclose(after.scores, expected.scores, atol=1e-6)
        np.testing.assert_allclose(after.boxes, expected.boxes, atol=1e-3)
