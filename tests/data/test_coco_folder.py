"""What a COCO file may hold: null counts as absent, other types are told in one line."""

import json
import os

import numpy as np
import pytest

from fpn_tf.data import coco_folder as reader
from fpn_tf.data import segments
from fpn_tf.data.dataset import clipped_corners, have_area
from fpn_tf.errors import DataError
from fpn_tf.evaluation import coco as scorer
from fpn_tf.evaluation import proposals


def make(**changes):
    """A COCO dict of one photo of 64 x 96 pixels with two boxes; `changes` go into the first annotation."""
    coco = {
        "images": [{"id": 5, "file_name": "a.png", "height": 64, "width": 96}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1.0, 2.0, 30.0, 20.0]},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [40.0, 2.0, 10.0, 10.0], "area": 77},
        ],
        "categories": [{"id": 7, "name": "red"}, {"id": 3, "name": "green"}],
    }
    coco["annotations"][0].update(changes)
    return coco


def checked(coco):
    """The first annotation of a COCO dict as the reader leaves it, by way of JSON."""
    coco = json.loads(json.dumps(coco))
    reader.check(coco, "a.json")
    return coco["annotations"][0]


@pytest.mark.parametrize(
    ("changes", "area", "crowd"),
    [
        ({}, 600, 0),
        ({"area": None, "iscrowd": None, "segmentation": None, "id": None}, 600, 0),
        ({"area": 12}, 12, 0),
        ({"area": 12.5, "iscrowd": 1}, 12.5, 1),
        ({"area": 0, "iscrowd": True}, 0, 1),
        ({"iscrowd": False}, 600, 0),
        ({"iscrowd": 1.0}, 600, 1),
        ({"iscrowd": 0.0}, 600, 0),
    ],
)
def test_null_is_absent_and_numbers_are_numbers(changes, area, crowd):
    annotation = checked(make(**changes))
    assert (annotation["area"], annotation["iscrowd"]) == (area, crowd)
    assert type(annotation["iscrowd"]) is int
    assert annotation["id"] == (3 if "id" in changes else 1)  # a free one, where there was none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"area": "600"}, 'annotations[0].area = "600": expected a number of square pixels, 0 or more'),
        ({"area": float("nan")}, "annotations[0].area = NaN: expected a number"),
        ({"area": float("inf")}, "annotations[0].area = Infinity: expected a number"),
        ({"area": -1}, "annotations[0].area = -1: expected a number"),
        ({"area": True}, "annotations[0].area = true: expected a number"),
        ({"area": [600]}, "annotations[0].area = [600]: expected a number"),
        ({"area": 10**400}, "annotations[0].area = 1000"),
        ({"iscrowd": "0"}, 'annotations[0].iscrowd = "0": expected 0 or 1'),
        ({"iscrowd": "false"}, 'annotations[0].iscrowd = "false": expected 0 or 1'),
        ({"iscrowd": 2}, "annotations[0].iscrowd = 2: expected 0 or 1"),
        ({"iscrowd": []}, "annotations[0].iscrowd = []: expected 0 or 1"),
        ({"iscrowd": float("nan")}, "annotations[0].iscrowd = NaN: expected 0 or 1"),
        ({"id": "a"}, 'annotations[0].id = "a": expected a whole number'),
        ({"id": 1.5}, "annotations[0].id = 1.5: expected a whole number"),
        ({"id": 2}, "annotations[1].id = 2: is used twice"),
        ({"image_id": "5"}, 'annotations[0] (id 1).image_id = "5": expected a whole number'),
        ({"image_id": None}, "annotations[0] (id 1).image_id = null: expected a whole number"),
        ({"image_id": 999}, "annotations[0] (id 1): image_id = 999 is no image's id"),
        ({"category_id": 7.0}, "annotations[0] (id 1).category_id = 7.0: expected a whole number"),
        ({"category_id": True}, ".category_id = true: expected a whole number"),
        (
            {"category_id": 8},
            "annotations[0] (id 1): category_id = 8 is none of the ids in 'categories' (7: red, 3: ",
        ),
        ({"bbox": None}, ".bbox = null: expected [x, y, width, height], four finite numbers"),
        ({"bbox": []}, ".bbox = []: expected [x, y, width, height]"),
        ({"bbox": ["1", "2", "3", "4"]}, '.bbox = ["1", "2", "3", "4"]: expected'),
        ({"bbox": [1, 2, 3, True]}, ".bbox = [1, 2, 3, true]: expected"),
        ({"bbox": [1, 2, 3, 1e39]}, ".bbox = [1, 2, 3, 1e+39]: expected"),
        ({"bbox": [1, 2, 10**400, 4]}, "bbox = [1, 2, 1000"),
        ({"bbox": {"x": 1}}, '.bbox = {"x": 1}: expected'),
    ],
)
def test_other_types_are_told_in_one_line(changes, message):
    with pytest.raises(DataError) as caught:
        checked(make(**changes))
    assert str(caught.value).startswith("a.json: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_entries_of_images_and_categories_are_told_likewise():
    cases = [
        ("images", 0, {"id": "5"}, 'images[0].id = "5": expected a whole number'),
        ("images", 0, {"id": 5.0}, "images[0].id = 5.0: expected a whole number"),
        ("images", 0, {"id": None}, "images[0].id = null: expected a whole number"),
        (
            "images",
            0,
            {"id": 10**19},
            "images[0].id = 10000000000000000000: expected a whole number of 64 bits",
        ),
        ("images", 0, {"file_name": None}, "images[0].file_name = null: expected text"),
        ("images", 0, {"file_name": 12}, "images[0].file_name = 12: expected text"),
        ("images", 0, {"width": "96"}, 'images[0].width = "96": expected a positive whole number of pixels'),
        ("images", 0, {"height": 0}, "images[0].height = 0: expected a positive whole number of pixels"),
        ("images", 0, {"width": 2**40}, "images[0].width = 1099511627776: expected a positive"),
        ("categories", 1, {"id": "3"}, 'categories[1].id = "3": expected a whole number'),
        ("categories", 1, {"id": 7}, "categories[1].id = 7: is used twice"),
        ("categories", 1, {"id": 2**31}, "categories[1].id = 2147483648: expected a whole number of 32 bits"),
        (
            "categories",
            1,
            {"id": -(2**31) - 1},
            "categories[1].id = -2147483649: expected a whole number of 32",
        ),
        ("categories", 1, {"name": None}, "categories[1].name = null: expected text"),
        ("categories", 1, {"name": 3}, "categories[1].name = 3: expected text"),
    ]
    for key, index, changes, message in cases:
        coco = make()
        coco[key][index].update(changes)
        with pytest.raises(DataError) as caught:
            checked(coco)
        assert message in str(caught.value)
    for key in ("images", "annotations", "categories"):
        coco = make()
        coco[key].append(None)
        with pytest.raises(DataError, match=rf"a.json: {key}\[\d\] = null: expected an object"):
            checked(coco)
    coco = make()
    del coco["categories"][0]["name"]
    with pytest.raises(DataError, match=r"categories\[0\]: has no 'name'; expected text"):
        checked(coco)


def test_the_largest_ids_are_taken():
    coco = make(image_id=2**63 - 1, category_id=2**31 - 1, id=10**30)
    coco["images"].append({"id": 2**63 - 1, "file_name": "b.png"})
    coco["categories"].append({"id": 2**31 - 1, "name": "last"})
    coco["categories"].append({"id": -(2**31), "name": "first"})
    assert checked(coco)["id"] == 10**30


def test_of_many_ids_that_there_are_a_message_names_some():
    coco = make(category_id=-1)
    coco["categories"] = [{"id": i, "name": str(i)} for i in range(3, 900)]
    with pytest.raises(DataError, match=r"'categories' \(3: 3, 4: 4, .*, 22: 22, \.\.\. \(897 in all\)\)$"):
        checked(coco)


def edited(folder, change):
    path = folder / "annotations.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))
    return reader.load(path, folder / "images")


def test_sizes_that_are_null_are_read_from_the_files(coco_folder):
    dataset = edited(coco_folder, lambda c: [i.update(width=None, height=None) for i in c["images"]])
    assert [record.size for record in dataset.records[:2]] == [(64, 96), (96, 64)]


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "\ud83d.png"])
def test_names_that_no_file_has(coco_folder, name):
    with pytest.raises(DataError, match="no such file, named by image 100"):
        edited(coco_folder, lambda c: c["images"][0].update(file_name=name))


def test_a_photo_whose_name_is_not_ascii(coco_folder):
    os.rename(coco_folder / "images" / "photo_0.png", coco_folder / "images" / "größe 赤.png")
    dataset = edited(coco_folder, lambda c: c["images"][0].update(file_name="größe 赤.png"))
    assert dataset.read_bytes(0) == (coco_folder / "images" / "größe 赤.png").read_bytes()


FLAT = [[5, 5, 0, 10], [5, 5, 10, 0], [0, 0, 0, 0], [5, 5, -3, 4], [200, 5, 10, 10], [-20, 5, 10, 10]]
FLAT += [[0, 0, 1e-44, 1e-44], [0, 0, 1e-30, 1e-30], [5, 5, 1e-9, 10]]


@pytest.mark.parametrize("box", FLAT)
def test_a_box_without_area_is_neither_trained_on_nor_scored(coco_folder, box):
    flat = {"id": 900, "image_id": 100, "category_id": 7, "bbox": box, "iscrowd": 0}
    plain = edited(coco_folder, lambda c: None)
    dataset = edited(coco_folder, lambda c: c["annotations"].insert(1, flat))
    assert [a["id"] for a in dataset.left_out] == [900]
    assert dataset.coco == plain.coco
    for record, expected in zip(dataset.records, plain.records, strict=True):
        np.testing.assert_array_equal(record.boxes, expected.boxes)
        np.testing.assert_array_equal(record.classes, expected.classes)
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in plain.coco["annotations"]
        if not a["iscrowd"]
    ]
    assert scorer.evaluate(dataset.coco, results)["AP"] == pytest.approx(1)
    assert proposals.evaluate(dataset.coco, results)["AR100"] == pytest.approx(1)


def test_of_photos_of_unknown_size_boxes_without_sides_alone_have_no_area():
    coco = make(bbox=[500.0, 500.0, 10.0, 0.0])
    del coco["images"][0]["width"]
    coco["annotations"][1]["bbox"] = [500.0, 5.0, 10.0, 10.0]
    assert have_area(clipped_corners(coco)).tolist() == [False, True]


def test_classes_of_one_name_have_a_row_each():
    coco = make()
    coco["categories"] = [{"id": 7, "name": "red"}, {"id": 3, "name": "red"}, {"id": 0, "name": "blue"}]
    reader.check(coco, "a.json")
    result = {"image_id": 5, "category_id": 7, "bbox": [1.0, 2.0, 30.0, 20.0], "score": 0.9}
    metrics = scorer.evaluate(coco, [result])
    assert metrics["per_class"] == {"red (id 7)": pytest.approx(1), "red (id 3)": 0.0, "blue": -1.0}


CODE = segments.encode(np.pad(np.ones((20, 30), np.uint8), ((2, 42), (1, 65))))
RUNS = {"size": [64, 96], "counts": segments.run_lengths(CODE["counts"])}


def test_run_lengths_are_those_of_the_code():
    assert RUNS["counts"] == [66, *[20, 44] * 29, 20, 42 + 65 * 64]
    np.testing.assert_array_equal(segments.rasterise(RUNS, (64, 96)), segments.rasterise(CODE, (64, 96)))
    random = (np.random.default_rng(0).random((64, 96)) < 0.5).astype(np.uint8)
    assert sum(segments.run_lengths(segments.encode(random)["counts"])) == 64 * 96


def test_segmentations_that_can_be_drawn():
    for segmentation in (CODE, RUNS, [[1, 2, 31, 2, 31, 22]], [[1, 2, 31, 2, 31, 22], [0.5, 0, 1, 0, 1, 1]]):
        coco = make(segmentation=segmentation)
        reader.check(coco, "a.json")
        coco["annotations"].pop()
        segments.check_segmentations(coco, "a.json")
        segments.rasterise(segmentation, (64, 96))


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 31, 2, 31, 22, 5]],
        [[1, 2, 31, 2, 31, "22"]],
        [[1, 2, 31, 2, 31, None]],
        [1, 2, 31, 2, 31, 22],
        "66",
        {"size": [64, 96]},
        {"size": [96, 64], "counts": CODE["counts"]},
        {"size": [64, 96], "counts": "b'abc'"},
        {"size": [64, 96], "counts": CODE["counts"][:-2]},
        {"size": [64, 96], "counts": [64, 96]},
        {"size": [64, 96], "counts": [64 * 96 + 5, -5]},
        {"size": [64, 96], "counts": None},
        {"size": 64, "counts": RUNS["counts"]},
    ],
)
def test_segmentations_that_cannot_be_drawn_are_told(segmentation):
    coco = make(segmentation=segmentation)
    reader.check(coco, "a.json")
    with pytest.raises(
        DataError, match="annotation 1 of image 5: segmentation = .*; expected polygons or a run"
    ):
        segments.check_segmentations(coco, "a.json")
