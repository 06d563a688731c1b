"""Pictures: what is drawn where."""

import numpy as np
import pytest

from fpn_tf import visualize
from fpn_tf.data.records import Record
from fpn_tf.structures import Detections, SegmentDetections

GREY = np.full((480, 640, 3), 90, np.uint8)  # large enough not to be enlarged
RED, BLUE = (255, 0, 0), (0, 0, 255)
BOX = [100, 200, 300, 400]
NAMES = {7: "red", 3: "green"}


def changed(image):
    """Where a picture of GREY is no longer grey: bool [H, W]."""
    return (np.asarray(image)[:480, :640] != 90).any(axis=-1)


def test_a_box_is_drawn_on_its_border_and_its_label_above_it():
    drawn = changed(visualize.draw_boxes(GREY, [BOX], ["cat"], [RED]))
    assert drawn[200:400, 100].all()
    assert drawn[400, 100:301].all()
    assert not drawn[210:390, 110:290].any()
    assert drawn[190:199, 103:115].all()
    assert not drawn[:, 310:].any()


def test_an_empty_label_leaves_nothing():
    drawn = changed(visualize.draw_boxes(GREY, [BOX], [""], [RED]))
    assert drawn[200, 100:301].all()
    assert not drawn[:200].any()


def test_the_best_is_on_top():
    image = np.asarray(visualize.draw_boxes(GREY, [BOX, BOX], ["", ""], [RED, BLUE]))
    assert tuple(image[300, 100]) == RED


SMALL = np.zeros((60, 90, 3), np.uint8)


def test_detections_are_drawn_at_the_size_of_the_photo():
    """To which their numbers belong."""
    for photo in (SMALL, np.zeros((1, 1, 3), np.uint8), np.zeros((3, 5000, 3), np.uint8)):
        detections = Detections(np.array([[10, 10, 20, 20]]), np.array([0.9]), np.array([3]), NAMES)
        image = visualize.draw_detections(photo, detections, 0.5)
        assert image.size == photo.shape[1::-1]
    image = visualize.draw_boxes(SMALL, [[10, 40, 20, 50]], [""], [RED])
    assert image.getpixel((10, 45)) == RED
    assert image.getpixel((14, 45)) == (0, 0, 0)


def test_comparisons_of_small_photos_are_enlarged():
    record = Record(1, "photo", (60, 90), np.array([[10, 40, 20, 50]], np.float32), np.array([2]))
    detections = Detections(record.boxes, np.array([0.9]), np.array([7]), NAMES)
    image = visualize.draw_record(SMALL, record, NAMES)
    assert image.size == (90 * 8, 60 * 8)
    assert image.getpixel((80, 360)) == visualize.class_color(1)
    sheet = visualize.draw_comparison(SMALL, detections, record)
    assert sheet.size == (2 * 90 * 8 + visualize.GAP, 60 * 8 + 24)
    assert sheet.getpixel((80, 24 + 360)) == visualize.class_color(0)
    assert sheet.getpixel((90 * 8 + visualize.GAP + 80, 24 + 360)) == visualize.class_color(1)


def test_names_that_cannot_be_drawn_are_ids():
    """The pictures of a name of unknown letters and of the id in its place are the same."""
    boxes, scores, classes = np.array([BOX]), np.array([0.9]), np.array([90])
    unknown, number, other = (
        np.asarray(visualize.draw_detections(GREY, Detections(boxes, scores, classes, {90: name}), 0.5))
        for name in ("\U0010fffe\U0010ffff", "90", "91")
    )
    np.testing.assert_array_equal(unknown, number)
    assert (unknown != other).any()


def test_labels_of_boxes_that_coincide_do_not_cover_each_other():
    labels, colors = ["one 0.90", "two 0.80"], [RED, BLUE]
    both = np.asarray(visualize.draw_boxes(GREY, [BOX, BOX], labels, colors))
    for label, color in zip(labels, colors):
        alone = np.asarray(visualize.draw_boxes(GREY, [BOX], [label], [color]))
        assert ((both == color).all(axis=-1) & (np.arange(480) < 200)[:, None]).sum() >= (
            (alone == color).all(axis=-1) & (np.arange(480) < 200)[:, None]
        ).sum()


def test_pictures_are_known_again(tmp_path):
    for path, is_drawn in ((tmp_path / "drawn.png", True), (tmp_path / "other.png", False)):
        image = visualize.draw_boxes(SMALL, [], [], [])
        if is_drawn:
            visualize.save_picture(image, path)
        else:
            image.save(path)
        assert visualize.is_drawn(path) == is_drawn


@pytest.mark.parametrize(("min_score", "count"), [(0.5, 1), (0.1, 2), (0.95, 0)])
def test_detections_below_the_score_are_not_drawn(min_score, count):
    boxes = np.array([BOX, [400, 200, 500, 300]], np.float32)
    detections = Detections(boxes, np.array([0.9, 0.3]), np.array([3, 7]), NAMES)
    drawn = changed(visualize.draw_detections(GREY, detections, min_score))
    assert [drawn[300, 100], drawn[250, 400]] == [count > 0, count > 1]


def test_two_pictures_stand_side_by_side():
    left, right = (visualize.draw_boxes(GREY, [], [], []) for _ in range(2))
    sheet = visualize.side_by_side(left, right, ("one", "two"))
    assert sheet.size == (640 + visualize.GAP + 640, 24 + 480)
    pixels = np.asarray(sheet)
    assert (pixels[24:, :640] == 90).all()
    assert (pixels[24:, 640 : 640 + visualize.GAP] == 255).all()
    assert (pixels[:24, :640] < 128).any()


def test_ground_truth_stands_right_of_the_detections():
    record = Record(1, "photo", (480, 640), np.array([BOX], np.float32), np.array([2]))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), NAMES)
    sheet = np.asarray(visualize.draw_comparison(GREY, nothing, record))[24:]
    assert (sheet[:, :640] == 90).all()
    assert tuple(sheet[300, 640 + visualize.GAP + 100]) == visualize.class_color(1)


def test_the_best_segment_of_an_object_is_shown_with_its_iou():
    """Two proposals for one object: its own box, and its upper half. IoU 1 and 1/2."""
    corners = [100, 200, 300, 200, 300, 400, 100, 400]
    boxes = np.array([BOX, [100, 200, 300, 300]], np.float32)[::-1]
    record = Record(1, "photo", (480, 640), boxes[1:], np.array([1]), ([corners],))
    grids = np.ones((2, 14, 14), np.float32)
    proposals = SegmentDetections(boxes, np.ones(2), np.ones(2, int), regions=boxes, segments=grids)
    sheet = np.asarray(visualize.draw_segment_comparison(GREY, proposals, record))[24:]
    color = np.asarray(visualize.class_color(0))
    for x in (200, 640 + visualize.GAP + 200):
        np.testing.assert_array_equal(sheet[380, x], (90 + color) // 2)  # the lower half, too
        np.testing.assert_array_equal(sheet[300, x - 100], color)


def test_photos_are_tiled():
    pictures = [visualize.draw_boxes(GREY, [], [], []) for _ in range(5)]
    sheet = visualize.contact_sheet(pictures, columns=2, width=64)
    assert sheet.size == (2 * (64 + visualize.GAP), 3 * (48 + visualize.GAP))


def test_classes_have_different_colors():
    colors = [visualize.class_color(i) for i in range(20)]
    assert len(set(colors)) == 20
