"""Whether names are those of files: a folder that many are in is listed, with the same answers."""

import os

import pytest

from fpn_tf.data import photo_names


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner" / "most").mkdir(parents=True)
    for name in ("a.jpg", "ü.jpg", "inner/b.jpg", "inner/most/c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "soft.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path


CASES = {
    "a.jpg": True,
    "ü.jpg": True,
    "soft.jpg": True,
    "broken.jpg": False,
    "pipe.jpg": False,
    "inner": False,
    "inner/b.jpg": True,
    "./inner//b.jpg": True,
    "inner/../a.jpg": True,
    "inner/a.jpg": False,
    "inner/most/c.jpg": True,
    "elsewhere/c.jpg": False,
    "": False,
    "inner/": False,
    "a\0b": False,
    "\ud83d.jpg": False,
    "x" * 5000: False,
}


@pytest.mark.parametrize("many", [1, 4, 1000])
def test_listed_or_looked_up(folder, monkeypatch, many):
    monkeypatch.setattr(photo_names, "MANY", many)
    assert dict(zip(CASES, photo_names.are_files(folder, list(CASES)))) == CASES


def test_the_form_under_which_most_are_there(folder):
    names = ["C:\\data\\a.jpg", "C:\\data\\b.jpg", "other/%C3%BC.jpg?x=1"]
    assert photo_names.names_on_disk(folder, names) == (["a.jpg", "b.jpg", "ü.jpg"], [True, False, True])
    assert photo_names.names_on_disk(folder, ["no", "neither"]) == (["no", "neither"], [False, False])
