"""A file of detections and a file of annotations: their score, or what is wrong with which entry."""

import json
import re

import pytest

from fpn_tf.errors import DataError
from fpn_tf.evaluation.result_file import score_files

BOXES = [[10.0, 10.0, 20.0, 20.0], [50.0, 50.0, 40.0, 40.0]]


def truth():
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 100, "width": 100}, {"id": 6}],
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": [{"image_id": 5, "category_id": 9, "bbox": box} for box in BOXES],
    }


def good():
    return [{"image_id": 5, "category_id": 9, "bbox": box, "score": 0.9} for box in BOXES]


def score(folder, results, annotations):
    """Of values of JSON, or of a file's text."""
    for name, value in (("found.json", results), ("truth.json", annotations)):
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return score_files(folder / "found.json", folder / "truth.json")[:2]


def test_what_annotations_may_leave_out(tmp_path):
    """Areas, crowd flags, annotations' ids, names of photos and their sizes."""
    metrics, notes = score(tmp_path, good(), truth())
    assert metrics["AP"] == metrics["AR100"] == 1.0
    assert notes == []


def test_no_detections_at_all(tmp_path):
    assert score(tmp_path, [], truth())[0]["AP"] == 0.0


WRONG_RESULTS = {  # key: (value, what the line says)
    "image_id": (
        (1, "[1].image_id = 1: expected an image of {truth}: 5, 6"),
        ("5", '[1].image_id = "5": expected an image of'),
        (5.0, "[1].image_id = 5.0: expected an image of"),
        (None, "[1].image_id = null: expected"),
        ([5], "[1].image_id = [5]: expected"),
        (True, "[1].image_id = true: expected"),
    ),
    "category_id": (
        (7, "[1].category_id = 7: expected a category of {truth}: 9: cat, 4: dog"),
        ("cat", '[1].category_id = "cat": expected a category of'),
        (9.0, "[1].category_id = 9.0: expected"),
        (None, "[1].category_id = null: expected"),
        ({}, "[1].category_id = {{}}: expected"),
    ),
    "bbox": (
        (None, "[1].bbox = null: expected [x, y, width, height], finite numbers"),
        ([], "[1].bbox = []: expected"),
        ([1, 2, 3], "[1].bbox = [1, 2, 3]: expected"),
        (["1", "2", "3", "4"], '[1].bbox = ["1", "2", "3", "4"]: expected'),
        ([1, 2, float("nan"), 4], "[1].bbox = [1, 2, NaN, 4]: expected"),
        ([1, 2, float("inf"), 4], "[1].bbox = [1, 2, Infinity, 4]: expected"),
        ([10**400, 2, 3, 4], "[1].bbox = [1000"),
        ([1, 2, -3, 4], "[1].bbox = [1, 2, -3, 4]: expected"),
        ([[1, 2, 3, 4]], "[1].bbox = [[1, 2, 3, 4]]: expected"),
        ("1 2 3 4", '[1].bbox = "1 2 3 4": expected'),
        ({"x": 1}, '[1].bbox = {{"x": 1}}: expected'),
    ),
    "score": (
        (float("nan"), "[1].score = NaN: expected a finite number"),
        (float("-inf"), "[1].score = -Infinity: expected"),
        (None, "[1].score = null: expected"),
        ("0.5", '[1].score = "0.5": expected'),
        (True, "[1].score = true: expected"),
        ([0.5], "[1].score = [0.5]: expected"),
    ),
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [(key, value, message) for key, cases in WRONG_RESULTS.items() for value, message in cases],
)
def test_a_wrong_value_is_told_with_its_entry(tmp_path, key, value, message):
    results = good()
    results[1][key] = value
    with pytest.raises(DataError) as caught:
        score(tmp_path, results, truth())
    assert str(caught.value).startswith(f"{tmp_path}/found.json: ")
    assert message.format(truth=f"{tmp_path}/truth.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_key_that_is_absent_is_told(tmp_path, key):
    results = good()
    del results[1][key]
    with pytest.raises(DataError, match=rf"found.json: \[1\] = .* has no {key}: expected an object with im"):
        score(tmp_path, results, truth())


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("{", "found.json: not valid JSON"),
        ({"a": 1}, "found.json: found no list; expected a list of results"),
        (None, "found.json: found no list"),
        ([5, None, good()[0]], "[0] = 5 has no image_id, [1] = null has no image_id: expected an object"),
        ([[]] * 9, "[0] = [] has no image_id, [1] = [] has no image_id, [2] = [] has no image_id (9 such):"),
    ],
)
def test_a_file_of_another_form_is_told(tmp_path, results, message):
    with pytest.raises(DataError, match=re.escape(message)):
        score(tmp_path, results, truth())


def test_every_kind_of_mistake_is_told_at_once(tmp_path):
    results = good() * 3
    for result in results:
        result["category_id"] = 7
    results[2] = results[2] | {"score": None}
    with pytest.raises(DataError) as caught:
        score(tmp_path, results, truth())
    assert str(caught.value) == (
        f"{tmp_path}/found.json: [0].category_id = 7, [1].category_id = 7, [2].category_id = 7 (6 such): "
        f"expected a category of {tmp_path}/truth.json: 9: cat, 4: dog; "
        "[2].score = null: expected a finite number"
    )


def changed(key, index, **values):
    def change(coco):
        coco[key][index].update(values)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("annotations", 1, image_id=8), "image_id = 8 is no image's id (5, 6)"),
        (changed("annotations", 1, category_id=8), "none of the ids in 'categories' (9: cat, 4: dog)"),
        (changed("annotations", 1, bbox=None), "annotations[1] (id None).bbox = null: expected [x, y"),
        (changed("images", 1, id=5), "images[1].id = 5: is used twice"),
        (changed("categories", 1, id=9), "categories[1].id = 9: is used twice"),
        (lambda c: [a.update(id=3) for a in c["annotations"]], "annotations[1].id = 3: is used twice"),
        (changed("images", 0, file_name=5), "images[0].file_name = 5: expected text"),
        (lambda c: c["images"].append(5), "images[2] = 5: expected an object"),
        (lambda c: c.pop("images"), "no list 'images'"),
        (lambda c: c["categories"].clear(), "'categories' is empty"),
    ],
)
def test_annotations_are_checked_like_those_of_a_training_set(tmp_path, change, message):
    annotations = truth()
    change(annotations)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        score(tmp_path, good(), annotations)
    assert str(caught.value).startswith(f"{tmp_path}/truth.json: ")
    assert "\n" not in str(caught.value)


def test_what_is_not_scored_or_not_counted_is_told(tmp_path):
    annotations = truth()
    annotations["annotations"].append({"image_id": 5, "category_id": 9, "bbox": [0, 0, 0, 0]})
    many = [{"image_id": 6, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 0.1}] * 101
    metrics, notes = score(tmp_path, good() + many, annotations)
    assert notes == [
        f"{tmp_path}/truth.json: 1 boxes without area inside their photo are not scored",
        f"{tmp_path}/found.json: AP counts the best 100 detections of a class in a photo, as COCO's does; "
        "AP_at_101 and AR101 count up to 101",
    ]
    assert metrics["AP"] == metrics["AP_at_101"] == metrics["AR101"] == 1.0
