"""A training set that has changed since a checkpoint is told so, with counts and the first ids."""

import copy
import json
import os
import shutil

import numpy as np
import pytest

from fpn_tf.data import coco_folder, snapshot
from fpn_tf.data.proposals_file import attach, write
from fpn_tf.data.snapshot import change_note, changes_between, read_snapshot, snapshot_of
from fpn_tf.structures import Detections, TruthField

IDS = [100, 110, 120, 130, 140, 150]  # of the drawn folder; 130 has no box, the others two each


@pytest.fixture
def folder(coco_folder):
    """The drawn folder, its photos written a minute ago."""
    for path in (coco_folder / "images").iterdir():
        os.utime(path, ns=(0, path.stat().st_mtime_ns - 60 * 10**9))
    return coco_folder


def snapshot_now(folder, **arguments):
    dataset = coco_folder.load(folder / "annotations.json", folder / "images", segmentations=True)
    return snapshot_of(dataset, **arguments)


def edited(folder, edit):
    coco = json.loads((folder / "annotations.json").read_text())
    edit(coco)
    (folder / "annotations.json").write_text(json.dumps(coco))


def of_image(coco, image_id):
    return [a for a in coco["annotations"] if a["image_id"] == image_id]


def move_a_box(coco):
    of_image(coco, 110)[1]["bbox"][0] += 0.5


def change_a_class(coco):
    of_image(coco, 120)[0]["category_id"] = 90 if of_image(coco, 120)[0]["category_id"] != 90 else 7


def swap_boxes(coco):
    first, second = of_image(coco, 150)
    first["bbox"], second["bbox"] = second["bbox"], first["bbox"]
    first["category_id"], second["category_id"] = second["category_id"], first["category_id"]


def double_all(coco):
    more = [a | {"id": 1000 + a["id"]} for a in coco["annotations"] if not a["iscrowd"]]
    coco["annotations"] += copy.deepcopy(more)


def drop_a_photo(coco):
    coco["images"] = [image for image in coco["images"] if image["id"] != 120]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] != 120]


def add_a_photo(coco):
    coco["images"].append(coco["images"][0] | {"id": 7, "file_name": "photo_0.png"})


def reverse_photos(coco):
    coco["images"].reverse()


def swap_two_photos(coco):
    coco["images"][1], coco["images"][4] = coco["images"][4], coco["images"][1]


def move_the_crowd(coco):
    coco["annotations"][-1]["bbox"][0] += 1


EDITS = {
    move_a_box: ["1 photo with other annotations (id 110)"],
    change_a_class: ["1 photo with other annotations (id 120)"],
    swap_boxes: ["1 photo with other annotations (id 150)"],
    double_all: ["5 photos with other annotations (ids 100, 110, 120, ...)", "boxes: 10 -> 20"],
    drop_a_photo: ["1 photo gone (id 120)", "boxes: 10 -> 8"],
    add_a_photo: ["1 photo new (id 7)"],
    reverse_photos: ["6 photos in another place of the order (ids 150, 140, 130, ...)"],
    swap_two_photos: ["2 photos in another place of the order (ids 140, 110)"],
    move_the_crowd: ["classes or crowd regions"],
}


@pytest.mark.parametrize(("edit", "texts"), EDITS.items(), ids=[edit.__name__ for edit in EDITS])
def test_edited_annotations_are_told(edit, texts, folder):
    before = snapshot_now(folder)
    edited(folder, edit)
    assert changes_between(before, snapshot_now(folder)) == texts


def test_what_training_does_not_see_is_no_change(folder):
    before = snapshot_now(folder)
    edited(folder, lambda coco: coco["images"][0].update(license=3, date_captured="today"))
    edited(folder, lambda coco: coco["annotations"][0].update(id=77))
    assert changes_between(before, snapshot_now(folder)) == []


def test_a_photo_of_another_size_is_told(folder):
    before = snapshot_now(folder)
    edited(folder, lambda coco: coco["images"][0].update(height=70))
    assert changes_between(before, snapshot_now(folder)) == ["1 photo with other annotations (id 100)"]


# Photos ---------------------------------------------------------------------------------------------


def spoiled(path):
    """Another content of the same length."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_replaced_photos_are_told(folder):
    before = snapshot_now(folder)
    (folder / "images" / "photo_1.png").write_bytes(b"longer" * 10000)
    spoiled(folder / "images" / "photo_4.png")
    texts = ["2 photos with another file (ids 110, 140)"]
    assert changes_between(before, snapshot_now(folder)) == texts


def test_a_copied_set_is_no_change(folder, tmp_path):
    before = snapshot_now(folder)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)  # without the times
    assert changes_between(before, snapshot_now(tmp_path / "copy")) == []
    spoiled(tmp_path / "copy" / "images" / "photo_2.png")
    assert changes_between(before, snapshot_now(tmp_path / "copy")) == ["1 photo with another file (id 120)"]


def test_photos_that_were_not_looked_into(folder, monkeypatch):
    """Of a large set a sample is read: of the others the size and the time tell."""
    monkeypatch.setattr(snapshot, "SAMPLE", 2)
    before = snapshot_now(folder)
    sampled = before.sample_ids.tolist()
    other = next(i for i, image_id in enumerate(IDS) if image_id not in sampled)
    inside = IDS.index(sampled[0])
    spoiled(folder / "images" / f"photo_{other}.png")
    text = f"1 photo written anew, perhaps with other contents (id {IDS[other]})"
    assert changes_between(before, snapshot_now(folder)) == [text]
    os.utime(folder / "images" / f"photo_{inside}.png")  # rewritten as it was, as by a copy
    assert changes_between(before, snapshot_now(folder)) == []
    spoiled(folder / "images" / f"photo_{inside}.png")
    assert changes_between(before, snapshot_now(folder)) == [f"1 photo with another file (id {IDS[inside]})"]


def test_photos_without_files_go_by_the_sample(folder, monkeypatch):
    dataset = coco_folder.load(folder / "annotations.json", folder / "images")
    monkeypatch.setattr(snapshot, "_stamps", lambda paths: [(snapshot.GONE, snapshot.GONE)] * len(paths))
    before = snapshot_of(dataset)
    assert changes_between(before, snapshot_of(dataset)) == []
    spoiled(folder / "images" / "photo_3.png")
    assert changes_between(before, snapshot_of(dataset)) == ["1 photo with another file (id 130)"]


def test_photos_are_known_by_name_where_the_ids_only_count(folder):
    """Formats without ids number the photos: one that goes moves all numbers behind it."""

    def number(coco):
        new = {image["id"]: number for number, image in enumerate(coco["images"], start=1)}
        for image in coco["images"]:
            image["id"] = new[image["id"]]
        for annotation in coco["annotations"]:
            annotation["image_id"] = new[annotation["image_id"]]

    edited(folder, number)
    before = snapshot_now(folder)

    def drop_the_second(coco):
        coco["images"] = [image for image in coco["images"] if image["id"] != 2]
        coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] != 2]
        number(coco)

    edited(folder, drop_the_second)
    assert changes_between(before, snapshot_now(folder)) == ["1 photo gone (id 2)", "boxes: 10 -> 8"]


# What else is trained on ----------------------------------------------------------------------------


def test_segmentations_count_where_they_are_trained_on(folder):
    triangle = [[1.0, 1.0, 9.0, 1.0, 5.0, 9.0]]
    edited(folder, lambda coco: [a.update(segmentation=triangle) for a in coco["annotations"]])
    before = [snapshot_now(folder, has_segments=has_segments) for has_segments in (False, True)]
    edited(folder, lambda coco: coco["annotations"][0].update(segmentation=[[1.0, 1.0, 9.0, 1.0, 5.0, 8.0]]))
    after = [snapshot_now(folder, has_segments=has_segments) for has_segments in (False, True)]
    assert changes_between(before[0], after[0]) == []
    assert changes_between(before[1], after[1]) == ["1 photo with other annotations (id 100)"]


def test_truth_fields_and_proposals_count(folder, tmp_path):
    def weighing(weight):
        def weigh(coco):
            for annotation in coco["annotations"]:
                annotation["weight"] = weight if annotation["image_id"] == 110 else 1.0

        return weigh

    fields, weighed = {"weight": TruthField((), "float32")}, []
    for weight in (1.0, 2.0):
        edited(folder, weighing(weight))
        dataset = coco_folder.load(folder / "annotations.json", folder / "images", fields)
        weighed.append(snapshot_of(dataset))
    assert changes_between(*weighed) == ["1 photo with other annotations (id 110)"]

    proposed = []
    for right in (30.0, 31.0):
        boxes = np.array([[1.0, 2.0, right, 40.0]], np.float32)
        of_image = {i: Detections(boxes, np.ones(1), np.ones(1, np.int64)) for i in IDS}
        write(tmp_path / "proposals.npz", of_image)
        dataset = coco_folder.load(folder / "annotations.json", folder / "images")
        proposed.append(snapshot_of(attach(dataset, tmp_path / "proposals.npz", 10)))
    texts = ["6 photos with other annotations (ids 100, 110, 120, ...)"]
    assert changes_between(*proposed) == texts


# In a checkpoint ------------------------------------------------------------------------------------


def test_a_snapshot_is_read_as_it_was_written(folder, tmp_path):
    before = snapshot_now(folder)
    np.savez(tmp_path / "training_set.npz", **before.arrays())
    again = read_snapshot(tmp_path / "training_set.npz")
    assert again.digest == before.digest
    assert changes_between(before, again) == changes_between(again, before) == []
    for one, other in zip(before.arrays().values(), again.arrays().values()):
        np.testing.assert_array_equal(one, other)
    assert before.summary() == {"annotations": before.digest, "photos": 6, "boxes": 10}


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_no_snapshot_or_a_damaged_one_is_none(content, tmp_path):
    if content is not None:
        (tmp_path / "training_set.npz").write_bytes(content)
    assert read_snapshot(tmp_path / "training_set.npz") is None


def test_the_note_is_one_line(folder):
    before = snapshot_now(folder)
    assert change_note(before, before, 4) == ""
    assert "step 4 does not say what it was trained on" in change_note(None, before, 4)
    edited(folder, double_all)
    assert change_note(before, snapshot_now(folder), 4) == (
        "the training data has changed since step 4: 5 photos with other annotations (ids 100, 110, 120, "
        "...); boxes: 10 -> 20"
    )


def test_sums_tell_where_a_box_belongs():
    """The hash of a photo is that of its boxes in their order, whatever the other photos have."""
    rng = np.random.default_rng(0)
    boxes, classes = rng.uniform(0, 99, (5, 4)).astype(np.float32), np.array([1, 2, 1, 1, 3])
    sums = snapshot._sums_by_photo(boxes, classes, np.array([2, 0, 3]))
    assert len(set(sums.tolist())) == 3
    assert sums[1] == 0
    alone = snapshot._sums_by_photo(boxes[2:], classes[2:], np.array([3]))
    assert alone[0] == sums[2]
    turned = snapshot._sums_by_photo(boxes[[1, 0]], classes[[1, 0]], np.array([2]))
    assert turned[0] != sums[0]


@pytest.mark.slow
def test_25_million_boxes_take_seconds():
    import time

    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 999, (25_000_000, 4)).astype(np.float32)
    classes, counts = np.ones(len(boxes), np.int32), np.full(1_700_000, 14)
    counts[:1_200_000] += 1
    assert counts.sum() == len(boxes)
    before = time.perf_counter()
    sums = snapshot._sums_by_photo(boxes, classes, counts)
    assert time.perf_counter() - before < 30
    assert len(np.unique(sums)) == len(counts)
