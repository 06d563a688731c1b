"""Annotations in columns: what the fast reading gives is what the slow one gives, and nothing else passes."""

import io
import json

import numpy as np
import pytest

from fpn_tf.data import coco_folder, typed_json
from fpn_tf.data.columns import columns_of
from fpn_tf.data.json_stream import OddFileError
from fpn_tf.errors import DataError

ARRAYS = ("image_ids", "sizes", "ids", "images", "categories", "boxes", "areas", "crowds")


def make(**changes):
    """A COCO dict of two photos with three boxes; `changes` go into the second annotation."""
    coco = {
        "info": {"year": 2024},
        "images": [
            {"id": 2**62, "file_name": "ö/a.png", "height": 64, "width": 96, "license": None},
            {"id": -5, "file_name": "b.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": -5, "category_id": 7, "bbox": [1, 2.5, 30, 1e-3], "area": 5, "iscrowd": 0},
            {
                "id": 9,
                "image_id": 2**62,
                "category_id": 3,
                "bbox": [0.1, 0.2, 10, 20],
                "mood": [1, {"a": "é"}],
            },
            {"id": 4, "image_id": -5, "category_id": 7, "bbox": [-3, 0, 5, 5], "iscrowd": 1, "mood": None},
        ],
        "categories": [{"id": 7, "name": "red", "supercategory": "colour"}, {"id": 3, "name": "green"}],
    }
    coco["annotations"][1].update(changes)
    return coco


def read_fast(coco, further=()):
    return typed_json.read_columns(io.BytesIO(json.dumps(coco).encode()), further)


def read_slowly(coco, further=()):
    coco = json.loads(json.dumps(coco))
    coco_folder.check(coco, "a.json")
    return columns_of(coco, further)


def assert_same(columns, expected):
    for name in ARRAYS:
        values, others = getattr(columns, name), getattr(expected, name)
        assert values.dtype == others.dtype, name
        np.testing.assert_array_equal(values, others, name)
    assert columns.file_names == expected.file_names
    assert columns.category_entries == expected.category_entries
    assert columns.further.keys() == expected.further.keys()
    for name, texts in columns.further.items():
        others = expected.further[name]
        assert [(row in texts, texts[row]) for row in range(len(texts))] == [
            (row in others, others[row]) for row in range(len(others))
        ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"id": None, "area": None, "iscrowd": None},
        {"id": 0, "area": 0, "iscrowd": False},
        {"id": -(2**63), "iscrowd": True},
        {"id": 10**30},
        {"bbox": [3.4e38, -3.4e38, 0, -1]},
        {"bbox": [0.1 + 0.2, 1 / 3, 2**53 + 1, 5e-324]},
        {"segmentation": [[1, 2, 3.5, 4, 5, 6]], "mood": "}, {", "caption": '\\"\u2028'},
    ],
)
def test_the_fast_way_gives_what_the_slow_one_gives(changes):
    for further in ((), ("mood",), ("segmentation", "mood")):
        assert_same(read_fast(make(**changes), further), read_slowly(make(**changes), further))


def test_values_by_hand():
    columns = read_fast(make(id=None), ("mood",))
    assert columns.ids.tolist() == [1, 4 + 1 + 1, 4]  # a free one, by its place
    assert columns.images.tolist() == [1, 0, 1]
    assert columns.categories.tolist() == [0, 1, 0]
    assert columns.sizes.tolist() == [[64, 96], [0, 0]]
    assert columns.areas.tolist() == [5, 10 * 20, 25]
    assert columns.crowds.tolist() == [False, False, True]
    moods = columns.further["mood"]
    assert [row in moods for row in range(3)] == [False, True, True]
    assert [moods[row] for row in range(3)] == [None, [1, {"a": "é"}], None]
    assert columns.used_ids(columns.crowds) == {7}
    assert columns.coco(np.array([2, 0]))["annotations"] == [
        {
            "id": 4,
            "image_id": -5,
            "category_id": 7,
            "bbox": [-3, 0, 5, 5],
            "area": 25,
            "iscrowd": 1,
            "mood": None,
        },
        {"id": 1, "image_id": -5, "category_id": 7, "bbox": [1, 2.5, 30, 1e-3], "area": 5, "iscrowd": 0},
    ]


def test_some_photos_alone():
    columns = read_fast(make(), ("mood",)).of_images(np.array([False, True]))
    assert (columns.image_ids.tolist(), columns.file_names, columns.sizes.tolist()) == (
        [-5],
        ["b.png"],
        [[0, 0]],
    )
    assert (columns.ids.tolist(), columns.images.tolist()) == ([1, 4], [0, 0])
    assert [row in columns.further["mood"] for row in range(2)] == [False, True]


WRONG = [
    {"id": 1},  # another's
    {"id": 1.0},
    {"id": "9"},
    {"area": -1},
    {"area": "5"},
    {"area": 1e39},
    {"area": True},
    {"iscrowd": 2},
    {"iscrowd": "0"},
    {"image_id": 6},
    {"image_id": None},
    {"image_id": 1.0},
    {"category_id": 8},
    {"category_id": True},
    {"bbox": [1, 2, 3]},
    {"bbox": [1, 2, 3, 4, 5]},
    {"bbox": [1, 2, 3, "4"]},
    {"bbox": [1, 2, 3, True]},
    {"bbox": [1, 2, 3, float("nan")]},
    {"bbox": [1, 2, 3, 1e39]},
    {"bbox": [1, 2, 3, 10**400]},
    {"bbox": None},
]


@pytest.mark.parametrize("changes", WRONG)
def test_what_the_check_refuses_does_not_pass(changes, tmp_path):
    with pytest.raises(OddFileError):
        read_fast(make(**changes))
    with pytest.raises(DataError) as expected:
        read_slowly(make(**changes))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(make(**changes)))
    with pytest.raises(DataError) as caught:
        coco_folder.read_columns(path)
    assert str(caught.value) == str(expected.value).replace("a.json", str(path), 1)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("images", {"id": 2**63}),
        ("images", {"id": 2**62}),  # another's
        ("images", {"height": 0}),
        ("images", {"width": 2**31}),
        ("images", {"file_name": None}),
        ("categories", {"id": 7}),  # another's
        ("categories", {"id": 2**31}),
        ("categories", {"name": None}),
    ],
)
def test_nor_does_it_of_photos_and_classes(key, changes):
    coco = make()
    coco[key][1].update(changes)
    with pytest.raises(OddFileError):
        read_fast(coco)
    with pytest.raises(DataError):
        read_slowly(coco)


@pytest.mark.parametrize("key", ["images", "categories"])
def test_nor_does_a_file_without_any(key):
    with pytest.raises(OddFileError):
        read_fast(make() | {key: [], "annotations": []})


def test_what_is_right_in_an_uncommon_way_is_read_slowly(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(make(iscrowd=1.0, score=float("nan"))).encode("utf-16"))
    assert_same(coco_folder.read_columns(path), read_slowly(make(iscrowd=1)))


def test_a_field_that_is_read_already_may_be_asked_for_again(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(make()))
    assert [coco_folder.read_columns(path, ("area",)).further["area"][row] for row in range(3)] == [
        5,
        200,
        25,
    ]
