"""The benchmark of annotations makes sets that are read as they were meant, and times every stage."""

import json

import pytest

from experiments.benchmarks import annotations
from fpn_tf.data.coco_folder import load


@pytest.mark.parametrize("corners", [0, 3])
def test_a_set_is_as_large_as_asked_for_and_sound(tmp_path, monkeypatch, corners):
    monkeypatch.setattr(annotations, "BLOCK", 7)
    monkeypatch.setattr(annotations, "PER_FOLDER", 4)
    annotations.make_set(tmp_path, 10, 40, corners)
    coco = json.loads((tmp_path / "train.json").read_text())
    assert (len(coco["images"]), len(coco["annotations"])) == (10, 40)
    shapes = [len(a["segmentation"][0]) for a in coco["annotations"] if "segmentation" in a]
    assert shapes == [2 * corners] * 40 * bool(corners)
    dataset = load(tmp_path / "train.json", tmp_path / "photos")
    assert len(dataset.records) == 10
    assert len(dataset.records.boxes) == 40 - sum(a["iscrowd"] for a in coco["annotations"])
    for index, record in enumerate(dataset.records):
        assert dataset.read_header(index).size == record.size
    assert len({(tmp_path / "photos" / i["file_name"]).stat().st_ino for i in coco["images"]}) > 4


def test_every_stage_is_timed(tmp_path):
    annotations.make_set(tmp_path, 6, 12, 0)
    rows = [line.split() for line in annotations.measured(tmp_path)]
    assert [" ".join(row[:-8]) for row in rows][-1] == "the first batch is read"
    assert len(rows) == 5
    cpu = [float(row[-6]) for row in rows]
    assert cpu == sorted(cpu)
    assert all(float(row[-2]) > 10 for row in rows)
