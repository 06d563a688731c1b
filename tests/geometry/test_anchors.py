import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf.geometry.boxes import anchor_grid, base_anchors


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 2)])
@pytest.mark.parametrize("ratios", [(1.0,), (0.5, 1.0, 2.0)])
def test_grid_equals_the_loop(size, ratios):
    found = ops.convert_to_numpy(anchor_grid(size, 8, base_anchors((32,), ratios)))
    np.testing.assert_allclose(found, oracles.anchors(*size, 8, (32,), ratios), atol=1e-4)


def test_areas_and_ratios_of_the_paper():
    cell = base_anchors((64,), (0.5, 1.0, 2.0))
    width, height = cell[:, 2] - cell[:, 0], cell[:, 3] - cell[:, 1]
    np.testing.assert_allclose(width * height, 64**2, rtol=1e-5)
    np.testing.assert_allclose(height / width, [0.5, 1, 2], rtol=1e-5)


def test_rounded_anchors_of_torchvision():
    # sqrt(0.5) * 32 = 22.63, 32 / sqrt(0.5) = 45.25; halves 11.31 -> 11 and 22.63 -> 23.
    np.testing.assert_array_equal(base_anchors((32,), (0.5,), rounding="torchvision"), [[-23, -11, 23, 11]])


def test_rounded_anchors_of_detectron():
    # 16 / sqrt(0.5) = 22.63 -> 23 wide, 23 / 2 = 11.5 -> 12 high; twice as large for a size of 32, and moved
    # by half a stride, to the middle of the cell.
    np.testing.assert_array_equal(base_anchors((32,), (0.5,), "detectron", 16), [[-15, -4, 31, 20]])


def test_a_grid_may_have_one_stride_down_and_another_to_the_right():
    grid = ops.convert_to_numpy(anchor_grid((2, 2), (4, 8), [[0, 0, 1, 2]]))
    np.testing.assert_array_equal(grid, [[0, 0, 1, 2], [8, 0, 9, 2], [0, 4, 1, 6], [8, 4, 9, 6]])
