"""Labels: letters that a font has, places where they do not cover each other."""

import itertools

import numpy as np
import pytest

from fpn_tf import labels
from fpn_tf.labels import label_text, placed_labels


@pytest.fixture
def without_system_fonts(monkeypatch):
    monkeypatch.setattr(labels, "SYSTEM_FONTS", ())
    labels.fonts.cache_clear()
    yield
    labels.fonts.cache_clear()


@pytest.mark.parametrize("name", ["赤血球", "größe", "🟦", "Жук", "كلب", "red 赤", "a\u200bb", ""])
def test_the_id_stands_for_a_name_whose_letters_no_font_has(name, without_system_fonts):
    assert label_text(name, 90, 0.987) == "90 0.99"
    assert label_text(name, 90) == "90"


@pytest.mark.parametrize(
    ("name", "text"),
    [("car [rear]", "car [rear]"), ("[/b]", "[/b]"), ("two\nlines\t", "two lines"), ("7", "7")],
)
def test_other_names_stand_on_one_line(name, text):
    assert label_text(name, 90) == text
    assert label_text(name, 90, 0.5) == f"{text} 0.50"


def test_letters_are_looked_for_in_all_fonts(monkeypatch):
    """A font of the system is asked after Pillow's; accents in two characters are one letter."""
    plain, other = object(), object()
    monkeypatch.setattr(labels, "fonts", lambda size: [plain, other])
    monkeypatch.setattr(
        labels, "_has", lambda font, letter: letter.isascii() or (font is other and letter == "ö")
    )
    assert labels.font_for("ab", 16) is plain
    assert labels.font_for("aö", 16) is other
    assert labels.font_for("aß", 16) is None
    assert label_text("go\u0308", 3) == "gö"


def overlap(one, two):
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def placed(corners, size, texts=None):
    return placed_labels(texts or ["cat 0.90"] * len(corners), np.array(corners, float), size, 11)


def test_a_label_stands_above_its_corner_or_inside_at_the_edge():
    [label] = placed([(100, 200)], (640, 480))
    assert label.box[0] == 100
    assert label.box[3] == 200
    assert placed([(100, 3)], (640, 480))[0].box[1] == 0
    assert placed([(630, 200)], (640, 480))[0].box[2] == 640
    assert placed([(-50, 900)], (640, 480))[0].box[::3] == (0, 480)


@pytest.mark.parametrize("edge", [0, 5, 240, 470, 480])
def test_labels_of_boxes_that_coincide_stand_in_rows(edge):
    boxes = [label.box for label in placed([(100, edge)] * 8, (640, 480))]
    assert not any(overlap(*pair) for pair in itertools.combinations(boxes, 2))
    tops = np.array(sorted(box[1] for box in boxes))
    height = boxes[0][3] - boxes[0][1]
    np.testing.assert_array_equal(np.diff(tops), height)  # side by side, none far away
    assert tops[0] >= 0
    assert tops[-1] + height <= 480
    above = int(np.clip(edge - height, 0, 480 - height))
    assert boxes[0][1] == above  # the best in the best place


def test_no_label_covers_another_among_many_boxes():
    rng = np.random.default_rng(0)
    corners = rng.uniform(-10, 300, (200, 2))
    texts = [f"{'x' * rng.integers(1, 20)} 0.50" for _ in corners]
    made = placed(corners, (320, 240), texts)
    boxes = [label.box for label in made if label is not None]
    assert len(boxes) > 20
    assert made[0] is not None
    assert not any(overlap(*pair) for pair in itertools.combinations(boxes, 2))
    assert np.min(boxes) >= 0
    assert np.all(np.max(boxes, axis=0)[2:] <= (320, 240))


def test_where_no_row_is_free_a_label_is_left_out():
    made = placed([(0, 0)] * 5, (96, 30))
    assert [label is not None for label in made] == [True, True, False, False, False]


def test_names_are_shortened_to_the_width_of_the_picture_and_scores_are_not():
    [label] = placed([(0, 50)], (80, 100), ["a name of very many letters 0.75"])
    assert label.text.startswith("a na")
    assert label.text.endswith(".. 0.75")
    assert label.box[2] <= 80
    for size in ((1, 1), (5, 300), (300, 5)):  # too small for any
        [label] = placed([(0, 0)], size, ["cat 0.90"])
        assert label.box[:2] == (0, 0)
