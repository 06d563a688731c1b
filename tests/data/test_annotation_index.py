"""The index of a large annotation file: read in place of the file, as long as that is the same."""

import json
import os

import numpy as np
import pytest
from test_columns import assert_same, make

from fpn_tf.data import annotation_index, coco_folder, typed_json


@pytest.fixture
def annotations(tmp_path, monkeypatch):
    """A file that is large enough for an index, and a cache of its own."""
    monkeypatch.setattr(annotation_index, "WORTHWHILE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(make()))
    return path


@pytest.fixture
def readings(monkeypatch):
    """A list that grows with each reading of a file."""
    made, read = [], typed_json.read_columns
    monkeypatch.setattr(typed_json, "read_columns", lambda *a: made.append(a) or read(*a))
    return made


def indices(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.npz"))


def test_the_second_reading_is_that_of_the_index(annotations, readings, tmp_path):
    first = coco_folder.read_columns(annotations, ("mood", "segmentation"))
    assert len(readings) == len(indices(tmp_path)) == 1
    os.rename(annotations, tmp_path / "moved.json")
    assert_same(coco_folder.read_columns(tmp_path / "moved.json", ("mood", "segmentation")), first)
    assert len(readings) == 1
    coco_folder.read_columns(tmp_path / "moved.json")  # without the fields
    assert len(readings) == len(indices(tmp_path)) == 2


def test_a_changed_file_is_read(annotations, readings):
    coco_folder.read_columns(annotations)
    status = os.stat(annotations)
    annotations.write_text(json.dumps(make(bbox=[0.3, 0.2, 10, 20])))  # as long, and as old
    os.utime(annotations, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert coco_folder.read_columns(annotations).boxes[1, 0] == 0.3
    assert len(readings) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 and no more", None])
def test_a_damaged_index_is_made_anew(annotations, readings, tmp_path, damage):
    expected = coco_folder.read_columns(annotations)
    [index] = indices(tmp_path)
    whole = index.read_bytes()
    index.write_bytes(bytes([*whole[:900], whole[900] ^ 1, *whole[901:]]) if damage is None else damage)
    for _ in range(2):
        assert_same(coco_folder.read_columns(annotations), expected)
    assert len(readings) == 2


def test_where_none_can_be_kept_it_is_told(annotations, readings, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file is where the folder should be")
    for _ in range(2):
        coco_folder.read_columns(annotations)
    assert len(readings) == 2
    assert "no index is kept of the annotations (" in caplog.text


def test_the_last_used_ones_stay(annotations, tmp_path):
    for number in range(annotation_index.KEPT + 2):
        annotations.write_text(json.dumps(make(area=number)))
        coco_folder.read_columns(annotations)
        for age, index in enumerate(sorted(indices(tmp_path), key=os.path.getmtime, reverse=True)):
            os.utime(index, (1e9 - age, 1e9 - age))
    kept = [annotation_index.read(index).areas[1] for index in indices(tmp_path)]
    assert sorted(kept) == list(range(2, annotation_index.KEPT + 2))


def test_small_files_and_ids_beyond_64_bits_have_none(annotations, tmp_path, monkeypatch):
    annotations.write_text(json.dumps(make(id=10**30)))
    assert coco_folder.read_columns(annotations).ids[1] == 10**30
    monkeypatch.setattr(annotation_index, "WORTHWHILE", 2**30)
    annotations.write_text(json.dumps(make()))
    assert np.array_equal(coco_folder.read_columns(annotations).ids, [1, 9, 4])
    assert not indices(tmp_path)
