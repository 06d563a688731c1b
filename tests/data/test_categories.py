"""Classes of a data set and of a model: which is which."""

import json

import numpy as np
import pytest

from fpn_tf.data import coco_folder
from fpn_tf.data.categories import categories_of, in_classes_of, known_by, matched, unknown_note, used_ids
from fpn_tf.errors import DataError

MODEL = {7: "red", 3: "green", 90: "blue"}
BY_NAME, BY_ID = "matched by name", "matched by id"
MATCHES = {  # name: (the model's classes, the data set's, its ids -> the model's, what the note says)
    "same": (MODEL, MODEL, {7: 7, 3: 3, 90: 90}, None),
    "another order": (MODEL, {90: "blue", 7: "red", 3: "green"}, {90: 90, 7: 7, 3: 3}, None),
    "other ids": (MODEL, {1: "red", 2: "green", 3: "blue"}, {1: 7, 2: 3, 3: 90}, BY_NAME),
    "ids exchanged": (MODEL, {7: "blue", 3: "red", 90: "green"}, {7: 90, 3: 7, 90: 3}, BY_NAME),
    "ids from 0": (MODEL, {0: "blue", 1: "green", 2: "red"}, {0: 90, 1: 3, 2: 7}, BY_NAME),
    "a class absent": (MODEL, {7: "red", 90: "blue"}, {7: 7, 90: 90}, None),
    "a class absent, other ids": (MODEL, {1: "blue", 2: "red"}, {1: 90, 2: 7}, BY_NAME),
    "a class more": (MODEL, {**MODEL, 8: "grey"}, {7: 7, 3: 3, 90: 90, 8: 91}, None),
    "a class more under the id of another": (
        MODEL,
        {3: "grey", 4: "red", 5: "green", 6: "blue"},
        {3: 91, 4: 7, 5: 3, 6: 90},
        BY_NAME,
    ),
    "spelt otherwise": (MODEL, {1: "Green", 2: " RED", 3: "blue "}, {1: 3, 2: 7, 3: 90}, BY_NAME),
    "underscores": ({1: "traffic light", 2: "car"}, {5: "Car", 6: "traffic_light"}, {5: 2, 6: 1}, BY_NAME),
    "accents composed": ({1: "gr\u00fcn", 2: "rot"}, {1: "rot", 2: "gru\u0308n"}, {1: 2, 2: 1}, BY_NAME),
    "names that differ by case alone": ({1: "a", 2: "A"}, {1: "A", 2: "a"}, {1: 2, 2: 1}, BY_NAME),
    "one renamed": (MODEL, {7: "red", 3: "lime", 90: "blue"}, {7: 7, 3: 3, 90: 90}, BY_ID),
    "all renamed": (MODEL, {3: "vert", 7: "rouge", 90: "bleu"}, {3: 3, 7: 7, 90: 90}, BY_ID),
    "a class of its own on each side": (MODEL, {7: "red", 3: "green", 8: "grey"}, {7: 7, 3: 3, 8: 91}, None),
    "a name twice": (
        {0: "red", 1: "red", 2: "green"},
        {0: "red", 1: "red", 2: "green"},
        {0: 0, 1: 1, 2: 2},
        None,
    ),
    "names not known": ({7: None, 3: None}, {3: "a", 7: "b", 8: "c"}, {3: 3, 7: 7, 8: 8}, None),
}


@pytest.mark.parametrize("case", MATCHES)
def test_classes_are_matched(case):
    known, given, ids, note = MATCHES[case]
    matching = matched(known, given, given, "data.eval_annotations=val.json")
    assert matching.ids == ids
    assert [note in text for text in matching.notes] == ([True] if note else [])
    assert all(text.startswith("data.eval_annotations=val.json: ") for text in matching.notes)


@pytest.mark.parametrize(
    ("known", "given"),
    [
        (MODEL, {1: "cat", 2: "dog"}),  # nothing in common
        (MODEL, {3: "cat", 7: "dog"}),  # ids by chance
        (MODEL, {1: "red", 2: "green", 3: "azure"}),  # id 3 is not the model's green
        (MODEL, {1: "red", 2: "red", 3: "blue"}),  # which red?
        ({0: "red", 1: "red", 2: "green"}, {1: "green", 2: "red"}),
        ({1: None, 2: None}, {3: "a", 4: "b"}),
    ],
)
def test_what_cannot_be_matched_is_told_with_both_lists(known, given):
    with pytest.raises(DataError) as caught:
        matched(known, given, given, "val.json")
    for number, name in (*known.items(), *given.items()):
        assert (f"{number}: {name}" if name else f"{number}") in str(caught.value)
    assert str(caught.value).startswith("val.json: has the classes ")
    assert "\n" not in str(caught.value)


def test_the_note_of_renamed_classes_names_them():
    [note] = matched(MODEL, {7: "red", 3: "lime", 90: "blue"}, MODEL, "val.json").notes
    assert note == "val.json: has other names than the model; matched by id: 3 is lime, the model's green"


def test_a_class_without_a_box_does_not_stand_in_the_way():
    """Some exports begin with the project's name as a class that no box has."""
    given = {0: "red", 1: "red", 2: "green", 3: "blue"}
    matching = matched(MODEL, given, {1, 2, 3}, "val.json")
    assert matching.ids == {0: 91, 1: 7, 2: 3, 3: 90}
    assert matched(MODEL, given, {1, 3}, "val.json").ids == {0: 91, 1: 7, 2: 92, 3: 90}
    for used in ({0, 1}, ()):
        with pytest.raises(DataError, match="has the classes 0: red, 1: red, 2: green, 3: blue; the model"):
            matched(MODEL, given, used, "val.json")


def test_long_lists_are_cut():
    with pytest.raises(DataError, match=r"19: n19, \.\.\. \(300 in all\); the model has 1000: a;"):
        matched({1000: "a"}, {i: f"n{i}" for i in range(300)}, (), "val.json")


def test_what_a_model_says_of_its_classes():
    assert known_by((7, 3), ("red", "green"), 2) == {7: "red", 3: "green"}
    assert known_by((7, 3), (), 2) == {7: None, 3: None}
    assert known_by((), ("red", "green"), 2) == {1: "red", 2: "green"}
    assert known_by((), (), 2) == {1: None, 2: None}


def test_a_data_set_in_the_classes_of_a_model(coco_folder):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    new = {7: 1, 3: 2, 90: 3}
    coco["categories"] = [{"id": 4, "name": "grey"}, *(c | {"id": new[c["id"]]} for c in coco["categories"])]
    for annotation in coco["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]
    coco["annotations"][0]["category_id"] = 4
    before = coco_folder_of(coco_folder)
    path.write_text(json.dumps(coco))
    given = coco_folder_of(coco_folder)
    known = {3: "green", 7: "red", 90: "blue"}
    matching = matched(known, categories_of(given), used_ids(given.coco), "val.json")
    dataset = in_classes_of(given, known, matching.ids)
    assert dataset.category_ids == (3, 7, 90, 91)
    assert dataset.class_names == ("green", "red", "blue", "grey")
    renumbered = np.array([0, 2, 1, 3])  # of no class, 7, 3, 90
    for old, record in zip(before.records, dataset.records, strict=True):
        expected = renumbered[old.classes]
        if record.image_id == 100:
            expected[0] = 4
        np.testing.assert_array_equal(record.classes, expected)
    truth = [a["category_id"] for a in dataset.coco["annotations"]]
    assert truth == [91, *(a["category_id"] for a in before.coco["annotations"][1:])]
    assert {c["id"]: c["name"] for c in dataset.coco["categories"]} == {91: "grey", **MODEL}
    assert given.coco["annotations"][0]["category_id"] == 4  # as it was read
    assert unknown_note(dataset.coco, known, "val.json") == (
        "val.json: 1 boxes count as missed, of classes that the model lacks: grey"
    )
    assert unknown_note(before.coco, known, "val.json") is None


def coco_folder_of(folder):
    return coco_folder.load(folder / "annotations.json", folder / "images")
