"""Numbered folders: whole ones alone, each number once."""

import os
import threading

import pytest

from fpn_tf.exporting.versions import LEFT_BEHIND, next_version


def write(version, text):
    version.beside.mkdir()
    (version.beside / "saved_model.pb").write_text(text)


def test_numbers_go_up_and_what_has_no_number_stays(tmp_path):
    folder = tmp_path / "export"
    for number in ("1", "2"):
        with next_version(folder) as version:
            write(version, number)
        assert version.path == folder / number
    (folder / "7").mkdir()
    (folder / "models.config").write_text("")
    with next_version(folder) as version:
        write(version, "8")
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "7", "8", "models.config"]
    assert (folder / "1" / "saved_model.pb").read_text() == "1"


def test_versions_that_are_written_at_once_get_numbers_of_their_own(tmp_path):
    together = threading.Barrier(8)

    def export(text):
        with next_version(tmp_path) as version:
            write(version, text)
            together.wait(timeout=60)

    threads = [threading.Thread(target=export, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(i) for i in range(1, 9)]
    assert sorted(path.read_text() for path in tmp_path.glob("*/saved_model.pb")) == [
        str(i) for i in range(8)
    ]


def test_of_a_version_that_fails_nothing_is_left(tmp_path):
    def export():
        with next_version(tmp_path) as version:
            write(version, "half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        export()
    assert not list(tmp_path.iterdir())


def test_what_an_ended_process_left_is_removed_and_what_another_writes_is_not(tmp_path):
    for name, age in ((".old.part", LEFT_BEHIND + 60), (".new.part", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text("half")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    with next_version(tmp_path) as version:
        write(version, "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.part", "1"]
