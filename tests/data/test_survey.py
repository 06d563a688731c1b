import dataclasses
import json

import pytest
from conftest import make_coco_folder
from PIL import Image

from fpn_tf import config as config_lib
from fpn_tf import modes
from fpn_tf.data import survey
from fpn_tf.data.findings import annotation_findings
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.survey import check_files, findings_before_training, survey_of
from fpn_tf.errors import DataError
from fpn_tf.training.preparation import open_held_out


@pytest.fixture
def doubtful(folder_config, coco_folder):
    """The drawn folder with one of everything that may be wrong but stops no run."""
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][0]["bbox"] = [3.0, 4.0, 5.0, 0.0]
    coco["annotations"][1]["bbox"] = [-9.0, 2.0, 40.0, 20.0]
    coco["categories"].append({"id": 4, "name": "none of these"})
    path.write_text(json.dumps(coco))
    (coco_folder / "images" / "photo_1.png").write_bytes(b"")
    Image.new("RGB", (9, 8)).save(coco_folder / "images" / "photo_2.png")
    return config_lib.replace(folder_config, **{"model.num_classes": 4})


def test_findings(doubtful, coco_folder):
    dataset = open_dataset(doubtful.data, "train")
    told = [str(f) for f in annotation_findings(dataset)]
    assert told == [
        "1 boxes have no area inside their photo, left out of training and evaluation: "
        "annotation 1 of image 100 (3, 4, 5, 0)",
        "1 boxes reach outside their photo, clipped in training and scored as they are: "
        "annotation 2 of image 100 (-9, 2, 40, 20)",
        "1 classes without a box: none of these",
        "1 photos without a box: image 130",
    ]
    found = check_files(dataset, doubtful.data)
    assert [f.what for f in found] == ["photos cannot be read", "photos are not of the annotated size"]
    assert "photo_1.png" in str(found[0])
    assert str(found[1]).endswith("photo_2.png (9x8, the annotations say 96x64)")
    strict = config_lib.replace(doubtful, **{"data.max_bad_fraction": 0.2})
    with pytest.raises(DataError, match="2 of 6 photos cannot be used, more than data.max_bad_fraction=0.2"):
        check_files(dataset, strict.data)


def test_only_the_first_of_many_are_named(folder_config, tmp_path):
    root = make_coco_folder(tmp_path / "many", sizes=[(64, 96)] * 8)
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    config = config_lib.replace(folder_config, **{"data.root": str(root), "data.max_bad_fraction": 1.0})
    [found] = check_files(open_dataset(config.data, "train"), config.data)
    assert found.count == 8
    assert len(found.first) == 3
    assert str(found).endswith(", ...")


def test_counts(folder_config):
    dataset = open_dataset(folder_config.data, "train")
    found = survey_of(dataset, folder_config)
    assert (found.photos, found.boxes, found.crowd_regions) == (6, 10, 1)
    assert sum(found.class_counts.values()) == 10
    assert found.class_counts["red"] == sum(int((r.classes == 1).sum()) for r in dataset.records)
    assert dict(zip(*found.photo_aspects))["1.333 .. 2"] == 4  # 96 x 64
    assert dict(zip(*found.photo_aspects))["0.5 .. 0.75"] == 2
    assert sum(found.box_sides.counts) == 10


def test_classes_of_one_name_are_counted_apart(folder_config, coco_folder):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    coco["categories"][2]["name"] = "red"
    path.write_text(json.dumps(coco))
    dataset = open_dataset(folder_config.data, "train")
    counts = [sum(int((r.classes == number).sum()) for r in dataset.records) for number in (1, 2, 3)]
    labels = ("red (id 7)", "green", "red (id 90)")
    assert survey_of(dataset, folder_config).class_counts == dict(zip(labels, counts))


def test_the_held_out_set_is_looked_at_too(doubtful, capsys):
    assert len(open_held_out(doubtful).records) == 6
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["note, held-out set"] * 4
    assert lines[0].endswith("left out of training and evaluation: annotation 1 of image 100 (3, 4, 5, 0)")


def test_inspect_prints_and_writes(doubtful, tmp_path, capsys):
    modes.inspect(doubtful, tmp_path / "run")
    told = capsys.readouterr().out
    for word in (
        "crowd regions",
        "none of these",
        "best anchor",
        "note: 1 classes without a box",
        "train.png",
    ):
        assert word in told
    for split in ("train", "eval"):
        written = json.loads((tmp_path / "run" / "inspect" / f"{split}.json").read_text())
        assert written["photos"] == 6
        assert set(written["coverage"]) == {"all", "small", "medium", "large"}
        assert len(written["findings"]) == 7  # with the boxes that no anchor reaches
        with Image.open(tmp_path / "run" / "inspect" / f"{split}.png") as sheet:
            assert sheet.width > 480


def test_of_a_large_set_a_sample_is_looked_into(folder_config, tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "ALL", 7)
    monkeypatch.setattr(survey, "SAMPLE", 3)
    root = make_coco_folder(tmp_path / "many", sizes=[(64, 96)] * 8)
    config = config_lib.replace(folder_config, **{"data.root": str(root)})
    dataset, read = open_dataset(config.data, "train"), []
    watched = dataclasses.replace(dataset, read_header=lambda i: read.append(i) or dataset.read_header(i))
    told = [str(each) for each in findings_before_training(watched, config)]
    assert len(set(read)) == len(read) == 3
    assert set(read) <= set(range(8))
    assert told[-1] == (
        "3 of 8 photos, drawn at random, are looked into before the first step, the others as they are read; "
        "--mode=inspect looks into all of them"
    )
    findings_before_training(watched, config)
    assert sorted(read[3:]) == sorted(read[:3])  # always the same ones
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 3 photos cannot be used, more than data.max_bad_fraction"):
        findings_before_training(dataset, config)
    assert survey.file_findings(dataset)[0].count == 8
    monkeypatch.setattr(survey, "ALL", 8)
    assert survey.sampling_notes(8) == []
