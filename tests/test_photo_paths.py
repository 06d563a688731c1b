"""What `--images` means."""

import pytest
from PIL import Image

from fpn_tf.errors import DataError
from fpn_tf.photo_paths import find_photos, left_out

NAMES = (
    "photo[1].png",
    "photo1.png",
    "with space.png",
    "größe 赤.png",
    "#a%20.png",
    "-dash.png",
    "UPPER.PNG",
)


@pytest.fixture
def folder(tmp_path):
    """A folder named like a pattern, with photos of troublesome names."""
    folder = tmp_path / "photos [2]"
    folder.mkdir()
    for name in NAMES:
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    return folder


def names(pattern):
    return {path.name for path in find_photos(str(pattern))}


def test_a_path_that_exists_is_a_path(folder):
    assert names(folder) == set(NAMES)
    for name in NAMES:
        assert names(folder / name) == {name}


def test_brackets_of_folders_that_exist_are_letters(folder, monkeypatch):
    assert names(folder / "*.png") == {name for name in NAMES if name.endswith(".png")}
    assert names(folder / "photo[0-9].png") == {"photo1.png"}
    assert names(folder / "photo?1*.png") == {"photo[1].png"}
    assert names(folder / "photo[1]*") == {"photo1.png"}
    (folder / "photo1.png").unlink()
    assert names(folder / "photo[1]*") == {"photo[1].png"}  # nothing else matches
    assert names(folder.parent / "photos*" / "-*") == {"-dash.png"}
    monkeypatch.chdir(folder.parent)
    for pattern in ("photos [2]/-*", "./photos [2]/../photos [2]/-dash.png", "**/-dash.png"):
        assert names(pattern) == {"-dash.png"}


def test_what_pillow_reads_is_taken_whatever_its_suffix(tmp_path):
    taken = "a.jfif b.MPO c.jpe d.jp2 e.ppm f.tga g.webp h.apng i.ico j.qoi k.dib l.jpeg m.TIFF n.gif".split()
    for name in (*taken, "notes.txt", "weights.h5", "video.mpg", "page.pdf", "noextension", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert names(tmp_path) == set(taken)
    assert left_out(str(tmp_path)) == ""


def test_what_looks_like_a_picture_and_is_left_out_is_named(tmp_path):
    for name in ("a.HEIC", "b.jxl", "c.dng", "d.svg"):
        (tmp_path / name).write_bytes(b"")
    told = "4 of a format that Pillow does not read (a.HEIC, b.jxl, c.dng, ...)"
    with pytest.raises(DataError) as caught:
        find_photos(str(tmp_path))
    assert str(caught.value).endswith(
        f"no photos there; expected a folder, a file or a glob pattern; left out: {told}"
    )
    (tmp_path / "photo.png").write_bytes(b"")
    assert names(tmp_path) == {"photo.png"}
    assert left_out(str(tmp_path)) == told
    assert names(tmp_path / "*.HEIC") == {"a.HEIC"}  # asked for; the reading will name it


@pytest.mark.parametrize("pattern", ["/none/*.jpg", "", "x" * 300 + "/*", "a" * 5000, "[", "**/nothing[.jpg"])
def test_nothing(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no photos there; expected a folder"):
        find_photos(pattern)
