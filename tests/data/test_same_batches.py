"""The same photos and boxes as COCO's JSON, YOLO's, Pascal VOC's and CSV files give the same batches."""

import itertools
import json
import pathlib
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from fpn_tf.config import DataConfig
from fpn_tf.data.formats.folder import READERS
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.plan import training_plan


def described(coco):
    """(image, [(class number from 0, [x1, y1, x2, y2])]) of every image of a COCO dict."""
    numbers = {category["id"]: number for number, category in enumerate(coco["categories"])}
    boxes = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        x, y, w, h = map(int, annotation["bbox"])
        boxes[annotation["image_id"]].append((numbers[annotation["category_id"]], [x, y, x + w, y + h]))
    return [(image, boxes[image["id"]]) for image in coco["images"]]


def write_coco(coco, part, names, folder):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"{part}.json").write_text(json.dumps(coco))
    return folder / "images"


def write_yolo(coco, part, names, folder):
    labels = folder / part / "labels"
    labels.mkdir(parents=True)
    for image, boxes in described(coco):
        size = np.array([image["width"], image["height"]])
        lines = []
        for number, corners in boxes:
            low, high = np.array(corners).reshape(2, 2)
            shares = [*((low + high) / 2 / size), *((high - low) / size)]
            lines.append(" ".join([str(number), *(f"{share:.6f}" for share in shares)]))  # as most programs
        (labels / pathlib.Path(image["file_name"]).with_suffix(".txt")).write_text("\n".join(lines))
    description = {"train": "train/images", "val": "val/images", "names": list(names)}
    (folder / "data.yaml").write_text(yaml.safe_dump(description))
    return folder / part / "images"


def write_voc(coco, part, names, folder):
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stems = [pathlib.Path(image["file_name"]).stem for image in coco["images"]]
    (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(stems))
    (folder / "classes.txt").write_text("\n".join(names))
    for stem, (image, boxes) in zip(stems, described(coco)):
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = image["file_name"]
        for number, corners in boxes:
            entry = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(entry, "name").text = names[number]
            box = ElementTree.SubElement(entry, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners):
                ElementTree.SubElement(box, key).text = str(value)
        ElementTree.ElementTree(root).write(folder / "Annotations" / f"{stem}.xml")
    return folder / "JPEGImages"


def write_csv(coco, part, names, folder):
    lines = []
    for image, boxes in described(coco):
        name = f"photos/{image['file_name']}"
        lines += [f"{name},{','.join(map(str, corners))},{names[number]}" for number, corners in boxes]
        lines += [] if boxes else [f"{name},,,,,"]
    (folder / f"{part}.csv").write_text("\n".join(lines))
    (folder / "classes.csv").write_text("\n".join(f"{name},{number}" for number, name in enumerate(names)))
    return folder / "photos"


WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc, "csv": write_csv}


def write_all(parts, photos, folder):
    """Writes a data set in every format, a folder each.

    Args:
        parts: {"train" or "val": COCO dict}, boxes of whole pixels.
        photos: the folder of its photos.
        folder: where the four folders are made.
    """
    for name, write in WRITERS.items():
        (folder / name).mkdir()
        for part, coco in parts.items():
            names = [category["name"] for category in coco["categories"]]
            place = write(coco, part, names, folder / name)
            place.mkdir(parents=True, exist_ok=True)
            for image in coco["images"]:
                shutil.copy(photos / image["file_name"], place)


def batches_of(folder, count, batch_size=2, **changes):
    """The first batches of training on a folder, a list of {name: array}."""
    data = DataConfig(folder=str(folder), keep_empty=True, **changes)
    dataset = open_dataset(data, "train")
    plans = itertools.islice(training_plan(dataset.records, data, batch_size, seed=3), count)
    loader = Loader(dataset, data)
    return [loader.training_batch(plan) | {"indices": plan.indices} for plan in plans]


def assert_equal_batches(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name, values in batch.items():
            assert values.dtype == other[name].dtype
            np.testing.assert_array_equal(values, other[name], name)


@pytest.fixture
def formats(coco_folder, tmp_path):
    """A folder with a data set in every format."""
    coco = json.loads((coco_folder / "annotations.json").read_text())
    for annotation in coco["annotations"]:
        annotation["iscrowd"] = 0  # which the others cannot tell
    parts = {"train": coco | {"images": coco["images"][:4]}, "val": coco | {"images": coco["images"][4:]}}
    for part in parts.values():
        ids = {image["id"] for image in part["images"]}
        part["annotations"] = [a for a in coco["annotations"] if a["image_id"] in ids]
    folder = tmp_path / "formats"
    folder.mkdir()
    write_all(parts, coco_folder / "images", folder)
    return folder


def test_there_is_a_writer_of_every_format():
    assert WRITERS.keys() == READERS.keys()


@pytest.mark.parametrize("name", ["yolo", "voc", "csv"])
def test_batches_are_those_of_coco_bit_for_bit(formats, name):
    sizes = {"short_side": 64, "max_side": 96, "train_short_sides": (48, 64)}
    expected = batches_of(formats / "coco", 6, **sizes)
    assert_equal_batches(batches_of(formats / name, 6, **sizes), expected)
    data = DataConfig(folder=str(formats / name))
    assert f"taken for {name}" in open_dataset(data, "train").notes[0]
    assert sum(int(batch["valid"].sum()) for batch in expected) > 6
