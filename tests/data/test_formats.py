"""Every format gives the data set that COCO's JSON of the same photos gives."""

import csv
import json
import pathlib
import shutil
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from conftest import make_coco_folder
from PIL import Image

from fpn_tf.config import DataConfig, override
from fpn_tf.config.run import FORMATS
from fpn_tf.data.columns import columns_of
from fpn_tf.data.formats.folder import READERS, divided, open_folder, sets_of
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.errors import DataError, UserError
from fpn_tf.modes.converting import convert
from fpn_tf.training.preparation import open_held_out, prepared

NAMES = ("red", "green", "blue")


@pytest.fixture
def coco(coco_folder):
    """The drawn photos' ground truth, without crowds, which the other formats cannot tell."""
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    for annotation in coco["annotations"]:
        annotation["iscrowd"] = 0
    path.write_text(json.dumps(coco))
    return coco


def boxes_of(coco, image):
    """(class number from 0, [x1, y1, x2, y2]) of an image's annotations."""
    numbers = {category["id"]: i for i, category in enumerate(coco["categories"])}
    for annotation in coco["annotations"]:
        if annotation["image_id"] == image["id"]:
            x, y, w, h = annotation["bbox"]
            yield numbers[annotation["category_id"]], [x, y, x + w, y + h]


def write_yolo(coco, photos, folder, part="train"):
    for image in coco["images"]:
        width, height = image["width"], image["height"]
        size = np.array([width, height])
        lines = []
        for c, corners in boxes_of(coco, image):
            low, high = np.array(corners).reshape(2, 2)
            shares = [*((low + high) / 2 / size), *((high - low) / size)]
            lines.append(" ".join([str(c), *(repr(float(share)) for share in shares)]))
        place(photos / image["file_name"], folder / part / "images")
        labels = folder / part / "labels" / pathlib.Path(image["file_name"]).with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("\n".join(lines))
    # As Roboflow writes it: from the folder's neighbour.
    description = {"train": "../train/images", "nc": len(NAMES), "names": list(NAMES)}
    if part != "train":
        description = yaml.safe_load((folder / "data.yaml").read_text()) | {"val": f"../{part}/images"}
    (folder / "data.yaml").write_text(yaml.safe_dump(description))


def write_voc(coco, photos, folder, **source):
    for image in coco["images"]:
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = image["file_name"]
        for key, value in source.items():
            ElementTree.SubElement(ElementTree.SubElement(root, "source"), key).text = value
        for c, corners in boxes_of(coco, image):
            entry = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(entry, "name").text = NAMES[c]
            box = ElementTree.SubElement(entry, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners):
                ElementTree.SubElement(box, name).text = str(int(value))
        place(photos / image["file_name"], folder / "JPEGImages")
        path = folder / "Annotations" / pathlib.Path(image["file_name"]).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(root).write(path)


def write_csv(coco, photos, folder, head=()):
    rows = [head] if head else []
    for image in coco["images"]:
        place(photos / image["file_name"], folder)
        boxes = [[image["file_name"], *map(int, b), NAMES[c]] for c, b in boxes_of(coco, image)]
        rows += boxes or [[image["file_name"], "", "", "", "", ""]]
    with open(folder / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)


def place(photo, folder):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, folder / photo.name)


WRITERS = {"yolo": write_yolo, "voc": write_voc, "csv": write_csv}


def opened(folder, split="train", **changes):
    return open_dataset(DataConfig(folder=str(folder), **changes), split)


def assert_same(records, expected):
    assert len(records) == len(expected)
    for record, other in zip(records, expected):
        assert pathlib.Path(record.name).name == pathlib.Path(other.name).name
        assert record.size == other.size
        np.testing.assert_array_equal(record.boxes, other.boxes)
        np.testing.assert_array_equal(record.classes, other.classes)


def test_every_format_has_a_reader():
    assert set(FORMATS) == {"auto", *READERS}


@pytest.mark.parametrize("name", WRITERS)
def test_records_are_those_of_coco(name, coco, coco_folder, tmp_path):
    WRITERS[name](coco, coco_folder / "images", tmp_path / name)
    found, _ = sets_of(tmp_path / name)
    assert found == name
    expected = opened(coco_folder)
    dataset = opened(tmp_path / name, class_names=NAMES)
    assert dataset.class_names == NAMES
    assert_same(dataset.records, expected.records)
    assert_same(
        opened(tmp_path / name, "eval", class_names=NAMES).records, opened(coco_folder, "eval").records
    )
    for i in range(len(dataset.records)):
        assert dataset.read_bytes(i) == expected.read_bytes(i)


def test_without_a_part_to_evaluate_a_fixed_share_is_held_out(coco, coco_folder):
    train, held_out = (opened(coco_folder, split, holdout=0.3) for split in ("train", "eval"))
    names = [{record.name for record in dataset.records} for dataset in (train, held_out)]
    assert min(map(len, names)) > 0
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == len(coco["images"])
    note = f"{coco_folder}: taken for coco (annotations.json, all); 30% of its photos are held out, chosen by"
    assert [d.notes for d in (train, held_out)] == [(f"{note} their names",)] * 2
    # A photo more moves none of the others.
    more = coco | {
        "images": [*coco["images"], {"id": 999, "file_name": "another.png", "width": 4, "height": 4}]
    }
    kept = set(divided(columns_of(more), "eval", 0.3).image_ids.tolist()) - {999}
    assert kept <= {record.image_id for record in held_out.records}
    two = coco | {"images": coco["images"][:2]}
    two |= {"annotations": [a for a in coco["annotations"] if a["image_id"] in (100, 110)]}
    parts = [divided(columns_of(two), split, 0.01) for split in ("train", "eval")]
    assert [len(part.image_ids) for part in parts] == [1, 1]
    for part in parts:
        assert [a["image_id"] for a in part.coco(np.arange(len(part.ids)))["annotations"]] == [
            a["image_id"] for a in two["annotations"] if a["image_id"] == part.image_ids[0]
        ]


def test_the_share_that_is_held_out_is_about_the_one_asked_for():
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(2000)]
    held_out = divided(columns_of({"images": images, "annotations": [], "categories": []}), "eval", 0.25)
    assert 420 < len(held_out.image_ids) < 580


def test_parts_that_the_folder_has_are_taken(coco, coco_folder, tmp_path):
    first, rest = coco["images"][:2], coco["images"][2:]
    write_yolo(coco | {"images": rest}, coco_folder / "images", tmp_path / "yolo")
    write_yolo(coco | {"images": first}, coco_folder / "images", tmp_path / "yolo", part="valid")
    counts = [len(opened(tmp_path / "yolo", split).records) for split in ("train", "eval")]
    assert counts == [len(rest), 2]


@pytest.mark.parametrize("layout", ["coco", "roboflow", "cvat"])
def test_layouts_of_coco(layout, coco, coco_folder, tmp_path):
    root = tmp_path / layout
    for part, images in (("train", coco["images"][2:]), ("val", coco["images"][:2])):
        photos, path = {
            "coco": (root / f"{part}2017", root / "annotations" / f"instances_{part}2017.json"),
            "roboflow": (root / part, root / part / "_annotations.coco.json"),
            "cvat": (root / "images" / part, root / "annotations" / f"instances_{part}.json"),
        }[layout]
        ids = {image["id"] for image in images}
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [a for a in coco["annotations"] if a["image_id"] in ids]
        path.write_text(json.dumps(coco | {"images": images, "annotations": kept}))
        for image in images:
            place(coco_folder / "images" / image["file_name"], photos)
    datasets = [opened(root, split) for split in ("train", "eval")]
    assert [len(d.records) for d in datasets] == [len(coco["images"]) - 2, 2]
    for dataset in datasets:
        for i, record in enumerate(dataset.records):
            original = coco_folder / "images" / pathlib.Path(record.name).name
            assert dataset.read_bytes(i) == original.read_bytes()


@pytest.mark.parametrize(
    "written",
    [
        lambda name: f"images\\{name}",
        lambda name: quote(f"images/{name}"),
        lambda name: f"/data/upload/7/1a2b3c4d-{name}",
        lambda name: f"C:\\Users\\me\\{name}",
        lambda name: quote(name) + "?d=some%2Fplace",
    ],
)
def test_names_of_exports(written, coco, coco_folder):
    for image in coco["images"]:
        name = image["file_name"].replace("_", " ") if image["id"] % 20 else image["file_name"]
        (coco_folder / "images" / image["file_name"]).rename(coco_folder / "images" / name)
        image["file_name"] = written(name)
    (coco_folder / "annotations.json").write_text(json.dumps(coco))
    dataset = opened(coco_folder)
    assert all((coco_folder / "images" / pathlib.Path(r.name).name).is_file() for r in dataset.records)


def test_yolo_polygons_dicts_empty_and_absent_labels(tmp_path):
    photos = tmp_path / "images"
    photos.mkdir()
    for i in range(3):
        Image.new("RGB", (40, 20)).save(photos / f"{i}.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text("5 .25 .5 .75 .5 .5 1.0\n\n0 0.5 0.5 1 1\n")
    (tmp_path / "labels" / "1.txt").write_text("")
    description = {"path": ".", "train": "images", "val": ["images"], "names": {5: "kite", 0: "sea"}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(description))
    dataset = opened(tmp_path)
    assert dataset.class_names == ("sea", "kite")
    assert dataset.category_ids == (0, 5)
    np.testing.assert_array_equal(dataset.records[0].boxes, [[10, 10, 30, 20], [0, 0, 40, 20]])
    np.testing.assert_array_equal(dataset.records[0].classes, [2, 1])
    assert [len(record.boxes) for record in dataset.records] == [2, 0, 0]


def test_pascals_own_corners_count_from_one(coco, coco_folder, tmp_path):
    write_voc(coco, coco_folder / "images", tmp_path / "voc", database="The VOC2007 Database")
    [first, *_] = opened(tmp_path / "voc", class_names=NAMES).records
    [same] = [r for r in opened(coco_folder).records if r.name.endswith(pathlib.Path(first.name).name)]
    np.testing.assert_array_equal(first.boxes, np.maximum(same.boxes - [1, 1, 0, 0], 0))


def test_voc_lists_and_difficult(coco, coco_folder, tmp_path):
    root = tmp_path / "voc"
    write_voc(coco, coco_folder / "images", root)
    stems = [pathlib.Path(image["file_name"]).stem for image in coco["images"]]
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(stems[1:]))
    (lists / "val.txt").write_text(stems[0] + "\n")
    path = root / "Annotations" / f"{stems[0]}.xml"
    path.write_text(path.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>", 1))
    dataset = opened(root, "eval")
    assert len(dataset.records) == 1
    assert [a["iscrowd"] for a in dataset.coco["annotations"]] == [1] + [0] * (len(dataset.records[0].boxes))
    (lists / "val.txt").write_text("nobody")
    with pytest.raises(DataError, match=r"val\.txt: nobody: no such file as .*nobody\.xml"):
        opened(root, "eval")


def test_csv_with_a_header_and_the_order_of_its_classes(coco, coco_folder, tmp_path):
    write_csv(
        coco, coco_folder / "images", tmp_path, head=("filename", "xmin", "ymin", "xmax", "ymax", "class")
    )
    (tmp_path / "classes.csv").write_text("green,1\nred,0\nblue,2\n")
    dataset = opened(tmp_path)
    assert dataset.class_names == NAMES
    assert_same(dataset.records, opened(coco_folder).records)


def spoil_yolo(folder):
    next(folder.rglob("labels/*.txt")).write_text("0 0.5 0.5 320 200\n")


def spoil_class(folder):
    next(folder.rglob("labels/*.txt")).write_text("3 0.5 0.5 0.1 0.1\n")


def spoil_yaml(folder):
    (folder / "data.yaml").write_text("names: [a\ntrain: x")


def spoil_xml(folder):
    next(folder.rglob("*.xml")).write_text("<annotation><object>")


def spoil_object(folder):
    path = next(p for p in sorted(folder.rglob("*.xml")) if "<xmax>" in p.read_text())
    path.write_text(path.read_text().replace("<xmax>", "<xmax>wide", 1))


def spoil_csv(folder):
    path = folder / "boxes.csv"
    path.write_text(path.read_text() + "photo_0.png,1,2,three,4,red\n")


def lose_a_photo(folder):
    next(folder.rglob("*.png")).unlink()


@pytest.mark.parametrize(
    ("name", "spoil", "expected"),
    [
        ("yolo", spoil_yolo, r"photo_\d\.txt:1: '0 0\.5 0\.5 320 200': expected class cx cy width height"),
        ("yolo", spoil_class, r"photo_\d\.txt:1: class 3: expected one of 0: red, 1: green, 2: blue"),
        ("yolo", spoil_yaml, r"data\.yaml: not valid YAML"),
        ("voc", spoil_xml, r"photo_\d\.xml: not valid XML"),
        ("voc", spoil_object, r"photo_\d\.xml: object 1: expected a name and a bndbox of xmin"),
        ("voc", lose_a_photo, r"photo_\d\.xml: filename = photo_\d\.png: no such photo in"),
        (
            "csv",
            spoil_csv,
            r"boxes\.csv:\d+: 'photo_0\.png,1,2,three,4,red': expected path,x1,y1,x2,y2,class",
        ),
        ("csv", lose_a_photo, r"boxes\.csv:\d+: photo_\d\.png: no such photo in"),
    ],
)
def test_mistakes_are_told_in_one_line(name, spoil, expected, coco, coco_folder, tmp_path):
    WRITERS[name](coco, coco_folder / "images", tmp_path / name)
    spoil(tmp_path / name)
    with pytest.raises(DataError, match=expected) as caught:
        opened(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folders_that_are_none(tmp_path, coco, coco_folder):
    with pytest.raises(DataError, match="no such folder; expected photos with their annotations"):
        opened(tmp_path / "typo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no annotations; expected COCO's JSON, YOLO's data.yaml, Pascal"):
        opened(tmp_path / "empty")
    with pytest.raises(DataError, match="no annotations; expected voc"):
        opened(coco_folder, format="voc")
    with pytest.raises(UserError, match="data.format=tfrecord: expected one of auto, coco"):
        DataConfig(folder="x", format="tfrecord").validate()
    with pytest.raises(UserError, match=r"data\.holdout=1\.0: expected a share"):
        DataConfig(folder="x", holdout=1.0).validate()
    (tmp_path / "empty" / "train.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"train\.json: not valid JSON"):
        opened(tmp_path / "empty")
    shutil.copy(coco_folder / "annotations.json", coco_folder / "again.json")
    with pytest.raises(DataError, match="are of all; expected one"):
        opened(coco_folder)


@pytest.mark.parametrize("name", WRITERS)
def test_a_photo_that_cannot_be_read_stands_in_nobodys_way(name, coco, coco_folder, tmp_path):
    WRITERS[name](coco, coco_folder / "images", tmp_path / name)
    next((tmp_path / name).rglob("*.png")).write_bytes(b"broken")
    dataset = opened(tmp_path / name, holdout=1e-9)
    assert len(dataset.records) + 1 == len(coco["images"])  # one is held out


@pytest.mark.parametrize("name", WRITERS)
def test_converted_to_coco_it_is_the_same(name, coco, coco_folder, tmp_path, capsys):
    WRITERS[name](coco, coco_folder / "images", tmp_path / name)
    convert(tmp_path / name, tmp_path / "json")
    [path] = (tmp_path / "json").glob("*.json")
    photos = sets_of(tmp_path / name)[1][path.stem].images
    assert str(photos) in capsys.readouterr().out.replace("\n", "")
    settings = DataConfig(train_annotations=str(path), train_images=str(photos))
    contents = open_folder(tmp_path / name, "train", holdout=1e-9)
    records = {r.name: r for r in open_dataset(settings, "train").records}
    assert len(records) == len(coco["images"])
    for record in open_dataset(DataConfig(folder=str(tmp_path / name), holdout=1e-9), "train").records:
        assert_same([records[record.name]], [record])
    assert contents.columns.category_entries == json.loads(path.read_text())["categories"]
    with pytest.raises(DataError, match=r"\.json: exists; expected an --output without it"):
        convert(tmp_path / name, tmp_path / "json")


def test_the_order_of_photos_is_that_of_their_names(tmp_path):
    root = make_coco_folder(tmp_path / "data")
    coco = json.loads((root / "annotations.json").read_text())
    write_csv(coco, root / "images", tmp_path / "csv")
    coco["images"].reverse()
    write_yolo(coco, root / "images", tmp_path / "yolo")
    names = [pathlib.Path(r.name).name for r in opened(tmp_path / "yolo").records]
    assert names == sorted(names)


def test_a_run_tells_once_what_it_took_the_folder_for(coco_folder, tmp_path, tiny_config, capsys):
    config = override(tiny_config, [f"data.folder={coco_folder}", "data.holdout=0.3"])
    with prepared(config, tmp_path / "run"):
        open_held_out(config)
    lines = [line for line in capsys.readouterr().out.splitlines() if "taken for" in line]
    note = f"{coco_folder}: taken for coco (annotations.json, all); 30% of its photos are held out, chosen by"
    assert lines == [f"note: {note} their names", f"note, held-out set: {note} their names"]


def test_the_command_reads_a_folder_and_converts_it(coco, coco_folder, tmp_path, main_here):
    write_yolo(coco, coco_folder / "images", tmp_path / "yolo")
    output = tmp_path / "json"
    status, out, err = main_here("--mode=convert", f"--data={tmp_path}/yolo", f"--output={output}")
    assert status == 0, err
    assert "yolo, train: 6 photos" in out
    status, out, err = main_here("--mode=inspect", f"--data={tmp_path}/yolo", f"--model_dir={tmp_path}/run")
    assert status == 0, err
    assert (tmp_path / "run" / "inspect").is_dir()
    note = f"note: {tmp_path}/yolo: taken for yolo (data.yaml, train); 20% of its photos are held out"
    assert [line for line in out.splitlines() if "taken for" in line] == [
        f"{note}, chosen by their names"
    ] * 2
    for label in NAMES:
        assert label in out
    status, _, err = main_here("--mode=predict", f"--data={tmp_path}/yolo", "--images=x")
    assert status == 1
    assert "--mode=predict does not read it; expected --mode=train_and_eval or" in err
    flag = "data.tfds_name=shapes"
    status, _, err = main_here("--mode=inspect", f"--data={tmp_path}/yolo", overrides=[flag])
    assert status == 1
    assert f"{flag}: the train split would be read from data.folder" in err
