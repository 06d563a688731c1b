import keras
import numpy as np
import pytest

if keras.config.backend() != "tensorflow":
    pytest.skip("TensorFlow's own path", allow_module_level=True)
import tensorflow as tf

from fpn_tf import winograd

LARGE = (1, 300, 301, 64, 8)  # more than `winograd.NUMBERS` at once


def numbers(batch, height, width, channels, filters):
    random = np.random.default_rng(0)
    shapes = ((batch, height, width, channels), (3, 3, channels, filters))
    return [tf.constant(random.normal(size=shape).astype("float32")) for shape in shapes]


def plain(x, kernel):
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def with_gradients(convolve):
    """(x, kernel) -> the convolution and the gradients of a function of it."""

    def results(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            y = convolve(x, kernel)
            total = tf.reduce_sum(tf.sin(y / 10))
        return [y, *tape.gradient(total, (x, kernel))]

    return results


def assert_close(found, expected, bound=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= bound * np.abs(b).max()


@pytest.mark.parametrize(
    "sizes", [(2, 5, 7, 4, 6), (1, 1, 1, 3, 2), (3, 8, 2, 1, 5), (1, 1, 6, 4, 4), (2, 12, 16, 5, 3), LARGE]
)
def test_a_convolution_and_its_gradients(sizes):
    inputs = numbers(*sizes)
    expected = with_gradients(plain)(*inputs)
    assert_close(with_gradients(winograd.conv3x3)(*inputs), expected)
    assert_close(tf.function(with_gradients(winograd.conv3x3))(*inputs), expected)


def test_a_large_map_is_done_in_parts():
    x, _ = numbers(*LARGE)
    parts = winograd._parts(x)
    assert parts.shape[0] > 1
    held = winograd._cells(x, parts[0], winograd.WINDOW, 1)
    assert np.prod(held.shape) <= winograd.NUMBERS


def test_it_rounds_little_worse_than_a_direct_convolution():
    x, kernel = numbers(1, 40, 40, 128, 128)
    exact = plain(tf.cast(x, tf.float64), tf.cast(kernel, tf.float64)).numpy()
    error, direct = (np.std(f(x, kernel) - exact) for f in (winograd.conv3x3, plain))
    assert error < 4 * direct


def test_under_xla():
    inputs = numbers(2, 9, 6, 4, 3)
    compiled = tf.function(with_gradients(winograd.conv3x3), jit_compile=True)
    assert_close(compiled(*inputs), with_gradients(plain)(*inputs))


def test_sizes_that_vary_and_shapes_that_are_known():
    kernel = numbers(1, 1, 1, 4, 6)[1]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 4])])
    def convolve(x):
        return winograd.conv3x3(x, kernel)

    assert convolve.get_concrete_function().output_shapes.as_list() == [None, None, None, 6]
    for size in ((1, 3, 9), (2, 8, 4)):
        x = numbers(*size, 4, 6)[0]
        assert_close([convolve(x)], [plain(x, kernel)])


def test_one_trace_serves_all_layers():
    convolve = tf.function(winograd.conv3x3)
    convolve(*numbers(1, 3, 9, 4, 6))
    traces = winograd._convolve.experimental_get_tracing_count()
    convolve(*numbers(2, 8, 4, 3, 5))
    assert winograd._convolve.experimental_get_tracing_count() == traces
