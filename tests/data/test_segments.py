import itertools
import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from fpn_tf import config
from fpn_tf.data import segments, shapes
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import open_dataset, training_batches
from fpn_tf.data.plan import training_plan
from fpn_tf.errors import DataError


def test_polygons_and_codes_are_the_same_pixels():
    polygon = [[10, 5, 30, 5, 30, 25, 10, 25], [40, 30, 50, 30, 50, 38, 40, 38]]
    rasterised = segments.rasterise(polygon, (48, 64))
    expected = np.zeros((48, 64), np.uint8)
    expected[5:25, 10:30] = expected[30:38, 40:50] = 1
    np.testing.assert_array_equal(rasterised, expected)
    compressed = segments.encode(expected)
    np.testing.assert_array_equal(segments.rasterise(compressed, (48, 64)), expected)
    runs = [len(list(run)) for _, run in itertools.groupby(expected.ravel(order="F"))]  # begins with 0
    uncompressed = {"size": [48, 64], "counts": runs}
    np.testing.assert_array_equal(segments.rasterise(uncompressed, (48, 64)), expected)


def test_a_grid_is_the_box_with_a_border():
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 10:30] = 1
    grid = segments.in_box(mask, np.array([10, 10, 30, 30], np.float32))
    assert grid.shape == (segments.GRID, segments.GRID)
    border = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]])
    assert not border.any()
    assert (grid[1:32, 1:-1] == 255).all()
    assert not grid[32:].any()


@pytest.mark.parametrize("region", [[10, 8, 38, 36], [-14, -6, 14, 22], [40, 30, 54, 44], [90, 90, 99, 99]])
def test_pasting_equals_the_loop(region):
    random = np.random.default_rng(0)
    segment = random.uniform(size=(14, 14)).astype("f")
    pasted = segments.paste(np.array(region, np.float32), segment, (40, 50))
    x1, y1, x2, y2 = region
    for y in range(40):
        for x in range(50):
            if not (x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2):
                assert pasted[y, x] == 0
                continue
            u = min(max((x + 0.5 - x1) / (x2 - x1) * 14 - 0.5, 0), 13)
            v = min(max((y + 0.5 - y1) / (y2 - y1) * 14 - 0.5, 0), 13)
            left, top = int(u), int(v)
            right, bottom = min(left + 1, 13), min(top + 1, 13)
            a, b = u - left, v - top
            value = (1 - b) * ((1 - a) * segment[top, left] + a * segment[top, right]) + b * (
                (1 - a) * segment[bottom, left] + a * segment[bottom, right]
            )
            if abs(value - 0.5) > 1e-4:
                assert pasted[y, x] == (value >= 0.5)


def test_generated_segments_are_exact():
    """Boxes are tight around them, areas are theirs, and they do not overlap."""
    for scene in (shapes.SHAPES, shapes.OCTAVES):
        image, objects, masks = shapes.draw_example("train", 1, scene)
        assert len(objects) == len(masks) > 1
        assert np.sum(masks, axis=0).max() == 1
        for (_, (x1, y1, x2, y2), area), mask in zip(objects, masks):
            assert mask.shape == image.shape[:2]
            assert mask.sum() == area == mask[y1:y2, x1:x2].sum()
            assert coco_masks.toBbox(coco_masks.encode(np.asfortranarray(mask))).tolist() == [
                x1,
                y1,
                x2 - x1,
                y2 - y1,
            ]


def test_they_reach_the_batch_and_are_mirrored(folder_config, coco_folder):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    settings = config.replace(folder_config, **{"model.kind": "segment_proposals", "data.segments": True})
    with pytest.raises(DataError, match="segmentation = null; expected polygons"):
        open_dataset(settings.data, "train")
    for annotation in coco["annotations"]:  # the left half of every box
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w / 2, y, x + w / 2, y + h, x, y + h]]
    path.write_text(json.dumps(coco))
    dataset = open_dataset(settings.data, "train")
    seen = set()
    plans = training_plan(dataset.records, settings.data, 2, seed=0)
    batches = training_batches(Loader(dataset, settings.data), settings.data, 2, 0).take(8)
    for (_, y), plan in zip(batches, plans):
        for slot, flipped in enumerate(plan.flips):
            for grid in y["segments"][slot].numpy()[y["valid"][slot].numpy()]:
                left, right = (grid[2:-2, part].mean() for part in (slice(4, 28), slice(36, 60)))
                assert (left < 30 < 220 < right) if flipped else (right < 30 < 220 < left)
            seen.add(bool(flipped))
    assert seen == {False, True}


def test_overlaps():
    left, right = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    left[:, :6] = right[:, 4:] = 1
    np.testing.assert_allclose(segments.overlaps([left, right], [left]), [[1.0], [0.2]])
    assert segments.overlaps([left], []).shape == (1, 0)
