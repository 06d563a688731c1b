"""`fpn_tf.evaluate` of a detector that finds what is annotated, in the ids that it was trained with."""

import json
import types

import numpy as np
import pytest

import fpn_tf
from fpn_tf.data import coco_folder as reader
from fpn_tf.errors import DataError
from fpn_tf.preprocessing import Preprocessor

IDS, NAMES = (7, 3, 90), ("red", "green", "blue")


def perfect_model(folder, ids=IDS, names=NAMES, **attributes):
    """A model that gives the boxes of the folder's photos in their order."""
    records = iter(reader.load(folder / "annotations.json", folder / "images").records)
    preprocessor = Preprocessor(category_ids=ids, class_names=names)

    def detect(photos):
        record = next(records)
        scores = np.full(len(record.boxes), 0.9, np.float32)
        return [fpn_tf.Detections(record.boxes, scores, preprocessor.ids_of(record.classes))]

    settings = {"kind": "faster_rcnn", "num_classes": 3, "max_detections": 100} | attributes
    return types.SimpleNamespace(detect=detect, preprocessor=preprocessor, **settings)


def under(folder, new_ids, names=NAMES, order=1):
    """The folder's annotations under other ids and names of the classes; the path of the file."""
    coco = json.loads((folder / "annotations.json").read_text())
    coco["categories"] = [{"id": new_ids[i], "name": name} for i, name in zip(IDS, names)][::order]
    for annotation in coco["annotations"]:
        annotation["category_id"] = new_ids[annotation["category_id"]]
    (folder / "other.json").write_text(json.dumps(coco))
    return folder / "other.json"


@pytest.mark.parametrize("new_ids", [(7, 3, 90), (1, 2, 3), (0, 1, 2), (90, 7, 3)])
@pytest.mark.parametrize("order", [1, -1])
def test_classes_are_matched_by_name(coco_folder, new_ids, order):
    path = under(coco_folder, dict(zip(IDS, new_ids)), order=order)
    metrics = fpn_tf.evaluate(perfect_model(coco_folder), path, coco_folder / "images")
    assert metrics["AP"] == 1.0
    assert metrics["per_class"] == dict.fromkeys(NAMES, 1.0)


def test_ids_serve_where_names_are_not_known(coco_folder):
    path = under(coco_folder, dict(zip(IDS, IDS)), order=-1)
    metrics = fpn_tf.evaluate(perfect_model(coco_folder, names=()), path, coco_folder / "images")
    assert metrics["AP"] == 1.0


def test_names_serve_where_the_model_has_no_ids(coco_folder):
    path = under(coco_folder, {7: 30, 3: 20, 90: 10}, order=-1)
    metrics = fpn_tf.evaluate(perfect_model(coco_folder, ids=()), path, coco_folder / "images")
    assert metrics["AP"] == 1.0


def test_the_order_serves_where_the_model_has_neither(coco_folder):
    path = under(coco_folder, {7: 30, 3: 20, 90: 10})
    metrics = fpn_tf.evaluate(perfect_model(coco_folder, (), ()), path, coco_folder / "images")
    assert metrics["AP"] == 1.0


def test_other_classes_are_told(coco_folder):
    path = under(coco_folder, {7: 1, 3: 2, 90: 3}, names=("cat", "dog", "cow"))
    with pytest.raises(DataError, match=r"1: cat, 2: dog, 3: cow; the model has 7: red, 3: green, 90: blue"):
        fpn_tf.evaluate(perfect_model(coco_folder), path, coco_folder / "images")


def test_more_than_100_detections_have_metrics_of_their_own(coco_folder):
    model = perfect_model(coco_folder, max_detections=300)
    metrics = fpn_tf.evaluate(model, coco_folder / "annotations.json", coco_folder / "images")
    assert metrics["AP_at_300"] == metrics["AR300"] == 1.0
