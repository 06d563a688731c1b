"""Windows, labels and segment targets against exact geometry."""

import math

import numpy as np
import pytest
from backends import tensors_of
from keras import ops
from PIL import Image, ImageDraw

from fpn_tf.data import segments
from fpn_tf.geometry.windows import window_grid
from fpn_tf.structures import GroundTruth
from fpn_tf.targets.segment_targets import assign_segment_targets, match_windows, segment_in


@pytest.fixture
def windows():
    sizes = {k: (64 // 2**k, -(-96 // 2**k)) for k in (2, 3, 4, 5, 6)}
    return window_grid(sizes, (8.0, 8.0 * 2**0.5), 0.25)


def test_windows_are_the_papers():
    """Regions of 40, 80, ... 640 pixels for the 5x5 windows, sqrt 2 larger for the 7x7."""
    windows = window_grid({k: (64 // 2**k,) * 2 for k in (2, 3, 4, 5, 6)}, (32.0, 32.0 * 2**0.5), 0.25)
    regions = ops.convert_to_numpy(windows.regions)
    sides = sorted(set(np.round(regions[:, 2] - regions[:, 0], 3)))
    published = [40 * s * 2**i for s in (1, 2**0.5) for i in range(5)]
    np.testing.assert_allclose(sides, sorted(published), rtol=1e-4)
    centers = ops.convert_to_numpy(windows.centers)
    np.testing.assert_array_equal(centers[:2], [[2, 2], [6, 2]])
    assert len(centers) == 2 * (16**2 + 8**2 + 4**2 + 2**2 + 1)
    np.testing.assert_allclose((regions[:, :2] + regions[:, 2:]) / 2, centers, atol=1e-3)


def test_labels_equal_the_loop(windows):
    random = np.random.default_rng(0)
    corner = random.uniform(0, 50, (2, 6, 2))
    boxes = np.concatenate([corner, corner + np.exp(random.uniform(1, 4.2, (2, 6, 2)))], axis=2).astype("f")
    valid = np.array([[True] * 5 + [False], [False] * 6])
    gt_index, labels = (
        ops.convert_to_numpy(x)
        for x in match_windows(windows, tensors_of(GroundTruth(boxes, np.ones((2, 6), "i"), valid)))
    )
    centers, scales, strides = (
        ops.convert_to_numpy(x) for x in (windows.centers, windows.scales, windows.strides)
    )
    expected, nearest = np.zeros(labels.shape, int), {}
    for image, g in zip(*np.nonzero(valid)):
        x1, y1, x2, y2 = boxes[image, g]
        longest = max(x2 - x1, y2 - y1)
        scale = min(range(10), key=lambda i: abs(math.log(longest / windows.sizes[i])))
        for n, (x, y) in enumerate(centers):
            distance = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            if scales[n] == scale and distance <= strides[n]:
                expected[image, n] = 1
                if distance < nearest.get((image, n), (1e9,))[0]:
                    nearest[image, n] = (distance, g)
    np.testing.assert_array_equal(labels, expected)
    assert 4 <= expected.sum() < expected.size / 4
    for (image, n), (_, g) in nearest.items():
        assert gt_index[image, n] == g


def test_segments_are_the_object_seen_through_the_region():
    """A triangle, drawn exactly, against the share of each cell that it fills."""
    corners = [(20.0, 10.0), (60.0, 30.0), (30.0, 50.0)]
    fine = Image.new("L", (80 * 16, 64 * 16))
    ImageDraw.Draw(fine).polygon([(16 * x, 16 * y) for x, y in corners], fill=255)
    exact = np.asarray(fine, np.float32) / 255
    mask = (np.asarray(fine.reduce(16)) > 127).astype(np.uint8)
    box = np.array([20, 10, 60, 50], np.float32)
    grid = segments.in_box(mask, box)
    regions = np.array([[15, 5, 65, 55], [0, 0, 40, 40], [25, 15, 75, 65], [70, 55, 80, 64]], np.float32)
    repeated = [np.stack([x] * len(regions))[None] for x in (box, grid)]
    targets = ops.convert_to_numpy(segment_in(*tensors_of((regions[None], *repeated)), 14))[0]
    differing, decided = 0, 0
    for region, target in zip(regions, targets):
        for row in range(14):
            for column in range(14):
                x1, x2 = (16 * (region[0] + (region[2] - region[0]) * c / 14) for c in (column, column + 1))
                y1, y2 = (16 * (region[1] + (region[3] - region[1]) * r / 14) for r in (row, row + 1))
                cell = exact[max(round(y1), 0) : max(round(y2), 0), max(round(x1), 0) : max(round(x2), 0)]
                share = cell.sum() / max((round(y2) - round(y1)) * (round(x2) - round(x1)), 1)
                if abs(share - 0.5) > 0.2:  # the rest may fall either way by the pixels' own error
                    decided += 1
                    differing += target[row, column] != (share > 0.5)
    assert differing == 0
    assert decided > 0.85 * targets.size
    assert targets[:3].any(axis=(1, 2)).all()
    assert not targets[3].any()  # a region beside the object


def test_samples_are_foreground_and_background_inside_the_image(windows):
    size = 14
    boxes = np.array([[[8, 8, 40, 44], [60, 20, 68, 27]], [[0, 0, 0, 0]] * 2], np.float32)
    gt = tensors_of(GroundTruth(boxes, np.array([[1, 2], [0, 0]]), np.array([[True, True], [False, False]])))
    grids = np.zeros((2, 2, 64, 64), np.uint8)
    grids[:, :, 1:-1, 1:-1] = 255
    sizes = np.array([[64, 96], [32, 40]], np.int32)
    count = len(windows.scales)
    noise = np.random.default_rng(0).uniform(size=(2, count)).astype("f")
    targets = assign_segment_targets(
        windows, gt, grids, sizes, noise, samples=64, foreground_fraction=0.25, segment_size=size
    )
    labels, valid = (ops.convert_to_numpy(x) for x in (targets.labels, targets.valid))
    indices = ops.convert_to_numpy(targets.indices)
    assert 0 < labels[0].sum() <= 16
    assert labels[1].sum() == 0
    assert valid.all()
    centers = ops.convert_to_numpy(windows.centers)[indices[1]]
    assert np.all(centers < [40, 32])
    # The objects fill their boxes: a target is the box itself, seen through the region.
    positive = np.flatnonzero(labels[0])[0]
    region = ops.convert_to_numpy(windows.regions)[indices[0, positive]]
    middles = (np.arange(size) + 0.5) / size
    x = region[0] + middles * (region[2] - region[0])
    y = region[1] + middles * (region[3] - region[1])
    center = (region[:2] + region[2:]) / 2
    box = min(boxes[0], key=lambda b: np.abs((b[:2] + b[2:]) / 2 - center).max())
    expected = ((y > box[1]) & (y < box[3]))[:, None] & ((x > box[0]) & (x < box[2]))[None]
    segment = ops.convert_to_numpy(targets.segments)[0, positive]
    assert np.mean(segment != expected) < 0.08  # cells that the border runs through


def test_windows_a_stride_away_are_the_objects_still(windows):
    box = np.array([[[2, -2, 10, 6]]], np.float32)  # 8 pixels, around (6, 2); windows lie at 2, 6, 10, 14
    gt = tensors_of(GroundTruth(box, np.array([[1]], "i"), np.array([[True]])))
    _, labels = match_windows(windows, gt)
    assert ops.convert_to_numpy(labels)[0, :4].tolist() == [1, 1, 1, 0]
