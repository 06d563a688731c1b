import numpy as np
from keras import ops

from fpn_tf.geometry.selection import best_rows, gather_rows


def test_gather_rows():
    x = np.arange(24).reshape(2, 4, 3)
    found = ops.convert_to_numpy(gather_rows(x, np.array([[3, 0], [1, 1]], np.int32)))
    np.testing.assert_array_equal(found, [[x[0, 3], x[0, 0]], [x[1, 1], x[1, 1]]])


def test_best_rows_pads_and_breaks_ties_by_index():
    scores = np.array([[1.0, 3.0, 3.0]], np.float32)
    values, indices, there = (ops.convert_to_numpy(x) for x in best_rows(scores, 5))
    np.testing.assert_array_equal(indices, [[1, 2, 0, 0, 0]])
    np.testing.assert_array_equal(there, [[True, True, True, False, False]])
    np.testing.assert_array_equal(values[0, :3], [3, 3, 1])
