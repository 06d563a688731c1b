import numpy as np
import pytest

from fpn_tf import photos
from fpn_tf.data.transforms import Draw, Example, Tools, flip, paint, resize, transformed
from fpn_tf.preprocessing import Preprocessor

TOOLS = Tools(Preprocessor(short_side=60, max_side=90), photos)


def example():
    """A photo of 20 x 10 with one box, one proposal and a segment whose left column is inside."""
    photo = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    segment = np.zeros((1, 2, 2), np.uint8)
    segment[0, :, 0] = 255
    boxes, proposals = np.float32([[2, 1, 6, 9]]), np.float32([[0, 0, 20, 5]])
    return Example(photo, (10, 20), boxes, np.int32([3]), proposals, segment)


def test_resize_by_hand():
    # 10 x 20 to a shorter side of 30: three times as large; 60 would make 120, longer than 90.
    larger = resize(example(), Draw(30, False), (), TOOLS)
    assert larger.size == (30, 60)
    np.testing.assert_array_equal(larger.boxes, [[6, 3, 18, 27]])
    np.testing.assert_array_equal(larger.proposals, [[0, 0, 60, 15]])
    assert resize(example(), Draw(60, False), (), TOOLS).size == (45, 90)


def test_flip_by_hand():
    mirrored = flip(example(), Draw(30, True), (), TOOLS)
    np.testing.assert_array_equal(mirrored.photo, example().photo[:, ::-1])
    np.testing.assert_array_equal(mirrored.boxes, [[14, 1, 18, 9]])
    np.testing.assert_array_equal(mirrored.proposals, [[0, 0, 20, 5]])
    np.testing.assert_array_equal(mirrored.segments[0], [[0, 255], [0, 255]])
    assert mirrored.classes.tolist() == [3]


def test_what_is_not_drawn_or_not_there_stays():
    bare = example()._replace(proposals=None, segments=None)
    for told, seen in zip(flip(bare, Draw(30, False), (), TOOLS), bare):
        assert told is seen
    both = transformed(bare, Draw(30, True), (), TOOLS)
    np.testing.assert_array_equal(both.boxes, [[42, 3, 54, 27]])  # 60 - 18, 60 - 6
    assert both.proposals is both.segments is None


@pytest.mark.parametrize("side", [10, 30, 7])
def test_painted_at_the_top_left(side):
    shown = transformed(example(), Draw(side, True), (), TOOLS)
    image = np.full((32, 64, 3), 9, np.uint8)
    paint(image, shown, TOOLS)
    expected = np.zeros_like(image)
    expected[:side, : 2 * side] = photos.resize(
        np.ascontiguousarray(example().photo[:, ::-1]), (side, 2 * side)
    )
    np.testing.assert_array_equal(image, expected)
