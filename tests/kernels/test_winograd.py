import keras
import numpy as np
import pytest

if keras.config.backend() != "tensorflow":
    pytest.skip("TensorFlow's own path", allow_module_level=True)
import tensorflow as tf

from fpn_tf.kernels import winograd

LARGE = (1, 300, 301, 64, 8)  # more than `winograd.MOST_HELD` at once


def numbers(batch, height, width, channels, filters):
    """A map, a kernel and an upstream gradient, normally distributed."""
    random = np.random.default_rng(0)
    size = (batch, height, width)
    shapes = ((*size, channels), (3, 3, channels, filters), (*size, filters))
    return [tf.constant(random.normal(size=shape).astype("float32")) for shape in shapes]


def plain(x, kernel):
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def with_gradients(convolve):
    """(x, kernel, upstream) -> the convolution, and the gradients of its inner product with `upstream`."""

    def results(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            y = convolve(x, kernel)
        return [y, *tape.gradient(y, (x, kernel), upstream)]

    return results


def exact(*inputs):
    """`with_gradients` of a direct convolution in float64."""
    return with_gradients(plain)(*(tf.cast(x, tf.float64) for x in inputs))


def root_mean_square(x):
    return np.sqrt(np.mean(np.square(x)))


def assert_close(results, expected):
    for a, b in zip(results, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(tf.cast(a, tf.float64) - b).max() <= 3 * winograd.ERROR * np.abs(b).max()


@pytest.mark.parametrize(
    "sizes", [(2, 5, 7, 4, 6), (1, 1, 1, 3, 2), (3, 8, 2, 1, 5), (1, 1, 6, 4, 4), (2, 12, 16, 5, 3), LARGE]
)
def test_a_convolution_and_its_gradients(sizes):
    inputs = numbers(*sizes)
    expected = exact(*inputs)
    assert_close(with_gradients(winograd.conv3x3)(*inputs), expected)
    assert_close(tf.function(with_gradients(winograd.conv3x3))(*inputs), expected)


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_it_rounds_as_little_as_it_says(channels):
    x, kernel, upstream = numbers(1, 20, 21, channels, channels)
    for inputs in ((x, kernel, upstream), (tf.nn.relu(x), kernel, upstream)):
        for result, expected in zip(with_gradients(winograd.conv3x3)(*inputs), exact(*inputs), strict=True):
            assert root_mean_square(
                tf.cast(result, tf.float64) - expected
            ) <= winograd.ERROR * root_mean_square(expected)


def test_a_large_map_is_done_in_parts():
    x = numbers(*LARGE)[0]
    parts = winograd._parts(x)
    assert parts.shape[0] > 1
    held = winograd._cells(x, parts[0], winograd.WINDOW, 1)
    assert np.prod(held.shape) <= winograd.MOST_HELD


def test_under_xla():
    inputs = numbers(2, 9, 6, 4, 3)
    compiled = tf.function(with_gradients(winograd.conv3x3), jit_compile=True)
    assert_close(compiled(*inputs), exact(*inputs))


def test_sizes_that_vary_and_shapes_that_are_known():
    kernel = numbers(1, 1, 1, 4, 6)[1]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 4])])
    def convolve(x):
        return winograd.conv3x3(x, kernel)

    assert convolve.get_concrete_function().output_shapes.as_list() == [None, None, None, 6]
    for size in ((1, 3, 9), (2, 8, 4)):
        x, _, upstream = numbers(*size, 4, 6)
        assert_close([convolve(x)], exact(x, kernel, upstream)[:1])


def test_one_trace_serves_all_layers():
    convolve = tf.function(winograd.conv3x3)
    convolve(*numbers(1, 3, 9, 4, 6)[:2])
    traces = winograd._winograd_convolve.experimental_get_tracing_count()
    convolve(*numbers(2, 8, 4, 3, 5)[:2])
    assert winograd._winograd_convolve.experimental_get_tracing_count() == traces
