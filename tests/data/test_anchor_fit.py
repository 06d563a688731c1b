"""How well anchors fit boxes, by all anchors and by hand; and what is said where they do not."""

import re

import numpy as np
import pytest

from fpn_tf import config as config_lib
from fpn_tf.data.anchor_fit import anchor_coverage, anchor_findings, best_anchor_iou
from fpn_tf.data.dataset import Dataset
from fpn_tf.data.records import Record
from fpn_tf.geometry.boxes import anchor_grid, base_anchors, pairwise_iou


@pytest.mark.parametrize("neck", ["fpn", "finest", "c4"])
@pytest.mark.parametrize("rounding", ["none", "torchvision", "detectron"])
def test_best_anchor_iou_equals_that_of_all_anchors(rounding, neck):
    sizes = (8, 16, 32, 64, 96)
    rpn = config_lib.RPNConfig(anchor_sizes=sizes, anchor_rounding=rounding)
    model = config_lib.ModelConfig(neck=neck, rpn=rpn)
    rng = np.random.default_rng(0)
    corner = rng.uniform(-10, 90, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 70, corner.shape)], axis=1)
    canvas = (64, 96)
    expected = np.zeros(len(boxes))
    of_level = {"finest": {2: sizes}, "c4": {4: sizes}}.get(neck) or {
        level: (size,) for level, size in enumerate(sizes, start=2)
    }
    for level, sizes_of_level in of_level.items():
        cell = base_anchors(sizes_of_level, rpn.anchor_ratios, rounding, 2**level)
        anchors = anchor_grid([-(-side // 2**level) for side in canvas], 2**level, cell)
        expected = np.maximum(expected, np.asarray(pairwise_iou(boxes, anchors)).max(axis=1))
    best = best_anchor_iou(boxes, canvas, model)
    np.testing.assert_allclose(best, expected, atol=1e-6)
    canvases = np.repeat([(64, 96), (32, 32)], 60, axis=0)  # each box on its own
    both = best_anchor_iou(np.tile(boxes, (2, 1)), canvases, model)
    np.testing.assert_array_equal(both, [*best, *best_anchor_iou(boxes, (32, 32), model)])


def record(boxes, size=(64, 96), image_id=100):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Record(image_id, "a.png", size, boxes, np.ones(len(boxes), np.int32))


def test_coverage_by_hand(tiny_config):
    """An anchor of 32 x 32 at a cell fits a box of 32 x 32 there, and half of one of 32 x 64."""
    config = config_lib.replace(tiny_config, **{"model.rpn.anchor_sizes": (32,) * 5})
    coverage = anchor_coverage(
        [record([[16, 16, 48, 48], [16, 0, 48, 64], [0, 0, 3, 3]]), record([])], config
    )
    # In the second lies the anchor of ratio 2, 22.6 x 45.3: half of its area.
    assert coverage["all"] == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert coverage["small"] == (1, 0.0, 0.0)
    assert coverage["medium"] == (2, 1.0, 0.5)
    assert coverage["large"] == (0, 0.0, 0.0)


def text_of(boxes, changes=None, size=(600, 800)):
    """The only finding of boxes on photos of a size under the default config; "" where there is none."""
    config = config_lib.replace(config_lib.Config(), **(changes or {}))
    middle = len(boxes) // 2
    records = [record(boxes[:middle], size), record([], size, 101), record(boxes[middle:], size, 102)]
    dataset = Dataset(records, None, None, ("red",), (1,), {})
    findings = anchor_findings(dataset, config)
    assert len(findings) <= 1
    return "".join(map(str, findings))


def boxes_of(width, height, count=40):
    """Boxes of one shape anywhere on a photo of 600 x 800."""
    random = np.random.default_rng(1)
    corner = random.uniform(0, (800 - width, 600 - height), (count, 2))
    return np.concatenate([corner, corner + np.asarray([width, height])], axis=1)


def check_remedies(text, boxes):
    """Every remedy of a finding leaves the share of boxes without an anchor that it tells."""
    remedies = re.findall(r"; (\d+)% with ([^;:]+)", text)
    assert remedies
    for left, changes in remedies:
        pairs = re.split(r", (?=data|model)", changes)
        config = config_lib.override(config_lib.Config(), pairs)
        covered = anchor_coverage([record(boxes, (600, 800))], config)["all"][1]
        assert round(100 * (1 - covered)) == int(left)
    return [changes for _, changes in remedies]


def test_nothing_is_said_of_boxes_that_anchors_reach():
    assert text_of(boxes_of(100, 120)) == ""
    few = np.concatenate([boxes_of(100, 120, 39), boxes_of(4, 4, 2)])
    assert text_of(few) == ""  # 2 of 41 are fewer than 5 %
    assert text_of(np.zeros((0, 4))) == ""


def test_objects_that_are_too_large():
    """580 pixels of a photo that is shown at 800 / 600 of its size are 773, the largest anchor has 512."""
    boxes = boxes_of(760, 580)
    text = text_of(boxes)
    assert text.startswith("40 boxes (100%) have no anchor of IoU 0.5; 0% with data.short_side=")
    assert re.search(r": one of image 100, 101[34] x 773.3 pixels as shown, ", text)
    sides, sizes = check_remedies(text, boxes)
    assert re.fullmatch(r"data.short_side=(533|400), data.max_side=(889|666)", sides)
    assert sizes == "model.rpn.anchor_sizes=48,96,192,384,768"


def test_objects_that_are_too_small():
    boxes = boxes_of(9, 9)  # 12 pixels as shown, of an area a seventh of the smallest anchor's
    sides, sizes = check_remedies(text_of(boxes), boxes)
    assert sides == "data.short_side=1600, data.max_side=2666"
    assert sizes == "model.rpn.anchor_sizes=16,32,64,128,256"


def test_objects_that_are_too_long():
    boxes = boxes_of(30, 150)
    remedies = check_remedies(text_of(boxes), boxes)
    assert remedies == ["model.rpn.anchor_ratios=0.25,0.5,1,2,4"]


def test_where_nothing_helps_nothing_is_advised():
    boxes = np.concatenate([boxes_of(2, 2), boxes_of(790, 10), boxes_of(5, 590), boxes_of(790, 590)])
    text = text_of(boxes)
    assert "have no anchor of IoU 0.5: one of image 100" in text
    assert text.endswith(", ...")


def test_with_scale_jitter_the_side_is_no_remedy():
    text = text_of(boxes_of(9, 9), {"data.train_short_sides": (640, 800)})
    assert "data.short_side" not in text
    assert "model.rpn.anchor_sizes=" in text


def test_models_without_anchors_have_no_such_finding():
    assert text_of(boxes_of(9, 9), {"data.segments": True}) == ""
