"""The digest of annotations: equal for the same ones, another for each change that training or AP sees."""

import copy

import pytest

from fpn_tf.data.dataset import from_coco_dict
from fpn_tf.data.digest import annotations_digest

COCO = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 3, "file_name": "b.png", "height": 50, "width": 60},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [4, 5, 6, 7], "area": 42, "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 5, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1},
    ],
    "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
}
CHANGES = {
    "a box moves": lambda coco: coco["annotations"][0]["bbox"].__setitem__(0, 1.5),
    "a crowd region moves": lambda coco: coco["annotations"][2]["bbox"].__setitem__(0, 0.5),
    "a box becomes a crowd region": lambda coco: coco["annotations"][1].update(iscrowd=1),
    "another class": lambda coco: coco["annotations"][0].update(category_id=5),
    "another photo's": lambda coco: coco["annotations"][1].update(image_id=3),
    "a box is gone": lambda coco: coco["annotations"].pop(1),
    "a box is doubled": lambda coco: coco["annotations"].append(coco["annotations"][0] | {"id": 4}),
    "boxes change places": lambda coco: coco["annotations"].insert(0, coco["annotations"].pop(1)),
    "photos change places": lambda coco: coco["images"].reverse(),
    "a photo's size": lambda coco: coco["images"][0].update(height=41),
    "a photo's id": lambda coco: coco["images"].append(
        {"id": 9, "file_name": "c.png", "height": 9, "width": 9}
    ),
    "classes change places": lambda coco: coco["categories"].reverse(),
    "a class's name": lambda coco: coco["categories"][0].update(name="cow"),
}


def dataset_of(coco):
    return from_coco_dict(copy.deepcopy(coco), None, lambda image: image["file_name"], None)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_gives_another_digest(change):
    changed = copy.deepcopy(COCO)
    change(changed)
    assert annotations_digest(dataset_of(changed)) != annotations_digest(dataset_of(COCO))


def test_files_names_and_unread_fields_are_not_part_of_it():
    other = copy.deepcopy(COCO)
    other["images"][0]["file_name"], other["images"][1]["license"] = "elsewhere/a.png", 3
    other["annotations"][0]["id"] = 77
    assert annotations_digest(dataset_of(other)) == annotations_digest(dataset_of(COCO))


def test_a_set_without_boxes_has_a_digest():
    bare = COCO | {"annotations": []}
    assert len(annotations_digest(dataset_of(bare))) == 64
