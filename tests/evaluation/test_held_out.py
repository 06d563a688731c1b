"""The held-out split as it is scored: classes, official annotations and notes, before anything starts."""

import json

import numpy as np
import pytest

from fpn_tf import Detections
from fpn_tf import config as config_lib
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.errors import DataError
from fpn_tf.evaluation import evaluator
from fpn_tf.evaluation.held_out import as_scored
from fpn_tf.training.preparation import with_classes


@pytest.fixture
def trained_config(folder_config):
    """The config of a model that was trained on the drawn folder, with ids 7, 3, 90."""
    return with_classes(
        config_lib.replace(folder_config, **{"model.num_classes": 0}),
        open_dataset(folder_config.data, "train"),
    )


def write(folder, name, change):
    """The folder's annotations, changed, as another file; its path."""
    coco = json.loads((folder / "annotations.json").read_text())
    change(coco)
    path = folder / name
    path.write_text(json.dumps(coco))
    return path


def under(new_ids):
    """Gives classes other ids."""

    def change(coco):
        coco["categories"] = [c | {"id": new_ids[c["id"]]} for c in coco["categories"] if c["id"] in new_ids]
        coco["annotations"] = [
            a | {"category_id": new_ids[a["category_id"]]}
            for a in coco["annotations"]
            if a["category_id"] in new_ids
        ]

    return change


def named(*names):
    def change(coco):
        for category, name in zip(coco["categories"], names, strict=True):
            category["name"] = name

    return change


def of_other_images(coco):
    coco["annotations"].clear()
    for image in coco["images"]:
        image["id"] += 1


def perfect_detections(folder):
    """Of the folder as it was drawn, in the ids of the training set: {index: Detections}."""
    coco = json.loads((folder / "annotations.json").read_text())
    detections = {}
    for index, image in enumerate(coco["images"]):
        objects = [a for a in coco["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        boxes = np.array([a["bbox"] for a in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([a["category_id"] for a in objects], np.int64)
        detections[index] = Detections(boxes, np.full(len(objects), 0.9, np.float32), classes)
    return detections


def scored(config, folder):
    dataset, notes = as_scored(open_dataset(config.data, "eval"), config)
    metrics, results = evaluator.score(dataset, perfect_detections(folder), config)
    assert {result["category_id"] for result in results} == {7, 3, 90}  # the training set's
    return metrics, notes


OTHER_IDS = {
    "same": {7: 7, 3: 3, 90: 90},
    "from 1": {7: 1, 3: 2, 90: 3},
    "from 0": {7: 0, 3: 1, 90: 2},
    "exchanged": {7: 90, 3: 7, 90: 3},
    "one absent": {7: 1, 90: 3},
}


@pytest.mark.parametrize("key", ["data.eval_annotations", "eval.annotations"])
@pytest.mark.parametrize("name", OTHER_IDS)
def test_perfect_detections_of_another_export_score_one(trained_config, coco_folder, key, name):
    ids = OTHER_IDS[name]
    path = write(coco_folder, "other.json", under(ids))
    metrics, notes = scored(config_lib.replace(trained_config, **{key: str(path)}), coco_folder)
    assert metrics["AP"] == metrics["AR100"] == 1.0
    assert metrics["per_class"] == {
        name: 1.0 for i, name in ((7, "red"), (3, "green"), (90, "blue")) if i in ids
    }
    are_moved = any(old != new for old, new in ids.items())
    assert notes == (
        [f"{key}={path}: has other ids than the model; classes are matched by name"] if are_moved else []
    )


@pytest.mark.parametrize("key", ["data.eval_annotations", "eval.annotations"])
def test_the_order_of_the_classes_does_not_matter(trained_config, coco_folder, key):
    path = write(coco_folder, "other.json", lambda coco: coco["categories"].reverse())
    metrics, notes = scored(config_lib.replace(trained_config, **{key: str(path)}), coco_folder)
    assert metrics["AP"] == 1.0
    assert notes == []
    dataset, _ = as_scored(open_dataset(trained_config.data, "eval"), trained_config)
    assert dataset.class_names == ("red", "green", "blue")


@pytest.mark.parametrize("key", ["data.eval_annotations", "eval.annotations"])
def test_classes_of_the_same_ids_and_other_names(trained_config, coco_folder, key):
    path = write(coco_folder, "other.json", named("rot", "gruen", "blau"))
    metrics, [note] = scored(config_lib.replace(trained_config, **{key: str(path)}), coco_folder)
    assert metrics["per_class"] == {"rot": 1.0, "gruen": 1.0, "blau": 1.0}
    assert note.endswith(
        "7 is rot, the model's red; 3 is gruen, the model's green; 90 is blau, the model's blue"
    )


@pytest.mark.parametrize("key", ["data.eval_annotations", "eval.annotations"])
def test_other_classes_are_told_with_both_lists(trained_config, coco_folder, key):
    def change(coco):
        under({7: 1, 3: 2, 90: 3})(coco)
        named("red", "green", "azure")(coco)

    path = write(coco_folder, "other.json", change)
    config = config_lib.replace(trained_config, **{key: str(path)})
    with pytest.raises(DataError) as caught:
        as_scored(open_dataset(config.data, "eval"), config)
    assert str(caught.value) == (
        f"{key}={path}: has the classes 1: red, 2: green, 3: azure; the model has 7: red, 3: green, "
        "90: blue; expected the same names, each of them once, or the same ids"
    )


@pytest.mark.parametrize("key", ["folder", "tfds_name"])
def test_a_data_set_is_named_by_the_key_that_it_was_opened_by(trained_config, key):
    dataset = open_dataset(trained_config.data, "eval")
    names = ("train_annotations", "train_images", "eval_annotations", "eval_images", "root")
    changes = {f"data.{name}": "" for name in names}
    changes |= {f"data.{key}": "mine", "data.category_ids": (1, 2, 3), "data.class_names": ("a", "b", "c")}
    with pytest.raises(DataError, match=f"^data.{key}=mine: has the classes 7: red"):
        as_scored(dataset, config_lib.replace(trained_config, **changes))


def test_a_class_that_the_model_lacks_counts_as_missed(trained_config, coco_folder):
    def change(coco):
        coco["categories"].append({"id": 8, "name": "grey"})
        coco["annotations"][0]["category_id"] = 8

    path = write(coco_folder, "other.json", change)
    config = config_lib.replace(trained_config, **{"data.eval_annotations": str(path)})
    metrics, notes = scored(config, coco_folder)
    assert metrics["per_class"]["grey"] == 0.0
    assert notes == [
        f"data.eval_annotations={path}: 1 boxes count as missed, of classes that the model lacks: grey"
    ]


def test_a_model_of_boxes_alone_asks_for_no_classes(trained_config, coco_folder):
    path = write(coco_folder, "other.json", named("cat", "dog", "bird"))
    changes = {"model.kind": "rpn", "data.eval_annotations": str(path), "eval.max_detections": 300}
    dataset, notes = as_scored(
        open_dataset(trained_config.data, "eval"), config_lib.replace(trained_config, **changes)
    )
    assert notes == []
    assert dataset.category_ids == (7, 3, 90)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [i.update(id=i["id"] + 1) for i in c["images"]], "is no image's id (101, 111"),
        (lambda c: (c["images"].clear(), c["annotations"].clear()), "'images' is empty"),
        (of_other_images, "has no image 100 (6 such); expected the ids of the evaluated photos"),
        (lambda c: c["annotations"][1].update(bbox=None), "annotations[1] (id 2).bbox = null"),
        (lambda c: c.pop("categories"), "no list 'categories'"),
    ],
)
def test_official_annotations_are_checked_first(trained_config, coco_folder, change, message):
    path = write(coco_folder, "official.json", change)
    config = config_lib.replace(trained_config, **{"eval.annotations": str(path)})
    with pytest.raises(DataError) as caught:
        as_scored(open_dataset(config.data, "eval"), config)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_not_scored_or_not_counted_is_told(trained_config, coco_folder):
    def change(coco):
        coco["annotations"].append(
            {"id": 0, "image_id": 100, "category_id": 3, "bbox": [0, 0, 0, 0], "area": 0, "iscrowd": 0}
        )

    path = write(coco_folder, "other.json", change)
    changes = {"eval.annotations": str(path), "eval.max_detections": 300}
    metrics, notes = scored(config_lib.replace(trained_config, **changes), coco_folder)
    assert metrics["AP"] == metrics["AP_at_300"] == metrics["AR300"] == 1.0
    assert notes == [
        "eval.max_detections: AP counts the best 100 detections of a class in a photo, as COCO's does; "
        "AP_at_300 and AR300 count up to 300",
        f"eval.annotations={path}: 1 boxes without area inside their photo are not scored",
    ]
