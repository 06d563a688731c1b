import numpy as np
from keras import ops

from fpn_tf.geometry.selection import uniform_noise


def draw(seeds, count, stream=1):
    return ops.convert_to_numpy(uniform_noise(np.asarray(seeds, np.int32), count, stream))


def test_known_values():
    # Recorded from this hash: a change would change every seeded run.
    np.testing.assert_allclose(draw([1, 2], 2), [[0.8374328, 0.7974317], [0.13518071, 0.36256653]], atol=1e-7)


def test_is_uniform_and_uncorrelated():
    x = draw([1, 2, 3], 50000)
    assert x.min() >= 0
    assert x.max() < 1
    np.testing.assert_allclose(x.mean(axis=1), 0.5, atol=0.006)
    np.testing.assert_allclose(np.histogram(x, 10)[0], 15000, rtol=0.03)
    assert np.abs(np.corrcoef(x) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(x[:, :-1].ravel(), x[:, 1:].ravel())[0, 1]) < 0.02


def test_is_a_function_of_seed_and_stream():
    np.testing.assert_array_equal(draw([5], 10), draw([5], 20)[:, :10])
    assert (draw([5], 10, 1) != draw([5], 10, 2)).all()
