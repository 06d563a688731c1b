"""Detections on a user's photos: what is written, and what is not."""

import io
import json
import os
import pathlib
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from fpn_tf import predict
from fpn_tf.data.records import Record
from fpn_tf.errors import DataError, InterruptedRunError
from fpn_tf.modes import predicting
from fpn_tf.modes.pictures import draw_pictures
from fpn_tf.structures import Detections

BOXES = np.array([[2, 3, 30, 20], [40, 10, 60, 50]], np.float32)


class Model:
    """A stand-in for a detector: two boxes on every photo, the scores that it is given."""

    kind = "faster_rcnn"
    class_names = {7: "red", 3: "[/b] green"}  # noqa: RUF012

    def __init__(self, *scores):
        self.scores = np.array(scores, np.float32)

    def detect(self, images):
        assert all(photo.dtype == np.uint8 for photo in images)
        count = len(self.scores)
        return [Detections(BOXES[:count], self.scores, np.array([7, 3])[:count], self.class_names)] * len(
            images
        )


@pytest.fixture
def mine(tmp_path):
    """A user's folder of photos."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.PNG"):
        Image.new("RGB", (96, 64), (90, 99, 110)).save(folder / name)
    (folder / "detections.json").write_text("[]")
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def predicted(paths, output, *scores, **how):
    return predict.predict_files(Model(*scores), paths, predict.outputs_for(paths, output), **how)


def link(tmp_path, mine):
    (tmp_path / "link").symlink_to(mine)
    return tmp_path / "link"


def link_to_each(tmp_path, mine):
    """Photos by links in another folder; the output is where they really lie."""
    (tmp_path / "links").mkdir()
    for path in mine.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    return mine


SPELLINGS = {  # how the output, which is the folder of the photos, may be spelt
    "same": lambda tmp_path, mine: mine,
    "text": lambda tmp_path, mine: f"{mine}/",
    "relative": lambda tmp_path, mine: os.path.relpath(mine),
    "dots": lambda tmp_path, mine: mine / ".." / "mine" / ".",
    "link": link,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_folder_of_the_photos_is_refused_before_anything_is_written(spelling, tmp_path, mine):
    before = contents(tmp_path)
    output = SPELLINGS[spelling](tmp_path, mine)
    for paths in (sorted(mine.iterdir()), [mine / "b.jpg"], [pathlib.Path(os.path.relpath(mine / "a.png"))]):
        with pytest.raises(DataError, match="--output=.*: is the folder of the photos; expected another"):
            predict.outputs_for(paths, output)
    assert contents(tmp_path) == before


def test_neither_is_the_folder_that_links_to_photos_lead_to(tmp_path, mine):
    link_to_each(tmp_path, mine)
    before = contents(tmp_path)
    for output in (tmp_path / "links", mine):
        with pytest.raises(DataError, match="is the folder of the photos"):
            predict.outputs_for([tmp_path / "links" / "a.png"], output)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["a.png", "detections.json", "b.png"])
@pytest.mark.parametrize("kind", ["photo", "text", "link", "link to nothing", "folder"])
def test_a_file_of_the_users_is_not_replaced(kind, name, tmp_path, mine):
    output = tmp_path / "output"
    output.mkdir()
    target = output / name
    if kind == "photo":
        shutil.copy(mine / "a.png", target)
    elif kind == "text":
        target.write_text('{"images": []}')
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(mine / ("a.png" if kind == "link" else "nothing"))
    before = contents(tmp_path)
    with pytest.raises(
        DataError, match=f"--output=.*output: has a {name} of another origin; expected another"
    ):
        predict.outputs_for([mine / "a.png", mine / "b.jpg"], output)
    assert contents(tmp_path) == before


def test_files_of_an_earlier_prediction_are_replaced_unless_they_are_the_photos(tmp_path, mine):
    photos, output = [mine / "a.png", mine / "b.jpg"], tmp_path / "new" / "output"
    predicted(photos, output, 0.9, 0.8)
    first = contents(output)
    assert predicted(photos, output, 0.9, 0.2).drawn == 2
    assert contents(output).keys() == first.keys()
    assert all(contents(output)[path] != first[path] for path in first)

    links = tmp_path / "links"
    links.mkdir()
    (links / "a.png").symlink_to(output / "a.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.link(output / "a.png", elsewhere / "a.png")
    for path in (output / "a.png", links / "a.png"):
        with pytest.raises(DataError, match="is the folder of the photos"):
            predict.outputs_for([path], output)
    with pytest.raises(DataError, match="has a a.png of another origin"):
        predict.outputs_for([elsewhere / "a.png"], output)


def test_an_output_inside_the_folder_of_the_photos_is_one_folder_more(mine):
    before = contents(mine)
    predicted([mine / "a.png"], mine / "output", 0.9)
    after = contents(mine)
    assert {path: after[path] for path in before} == before
    assert {path.name for path in after.keys() - before.keys()} == {"a.png", "detections.json"}


@pytest.mark.parametrize(
    ("output", "reason"),
    [("mine/a.png", "File exists"), ("mine/a.png/below", "Not a directory"), ("x" * 300, "name too long")],
)
def test_an_output_that_cannot_be_a_folder(output, reason, tmp_path, mine):
    with pytest.raises(DataError, match=f"--output=.*: cannot be made .*{reason}.*; expected a folder"):
        predict.outputs_for([mine / "b.jpg"], tmp_path / output)


@pytest.mark.parametrize(
    ("photos", "names"),
    [
        ("a.jpg b.png", "a.png b.png"),
        ("a.jpg a.png", "a.jpg.png a.png.png"),
        ("a.jpg A.png", "a.jpg.png A.png.png"),  # the same name on some disks
        ("x/a.jpg y/a.jpg", "1_a.jpg.png 2_a.jpg.png"),
        ("a.jpg a.png a.jpg.png", "1_a.jpg.png a.png.png 3_a.jpg.png.png"),
        ("x/a.jpg y/a.jpg 1_a.jpg.gif", "1.png 2_a.jpg.png 3.png"),
        (f"{'x' * 251}.jpg", f"{'x' * 251}.png"),
        (f"{'x' * 251}.jpg {'x' * 251}.gif", "1.png 2.png"),
        (f"{'赤' * 84}.j", "1.png"),
        ("größe.jpg gro\u0308ße.gif", "größe.jpg.png gro\u0308ße.gif.png"),
    ],
)
def test_every_photo_has_a_picture_of_its_own(photos, names):
    made = predict.picture_names([pathlib.Path(name) for name in photos.split()])
    assert made == names.split()


def test_names_are_different_in_any_case():
    rng = np.random.default_rng(0)
    for _ in range(200):
        parts = rng.choice(["a", "A", "1", "2_a", "1_a.png", "3"], 6)
        paths = [pathlib.Path(f"{i % 3}/{part}.{rng.choice(['png', 'jpg'])}") for i, part in enumerate(parts)]
        names = predict.picture_names(paths)
        assert len({name.casefold() for name in names}) == len(paths)
        assert all(name.endswith(".png") for name in names)


def test_photos_of_the_longest_names(tmp_path):
    paths = [tmp_path / f"{'x' * 251}.png", tmp_path / f"{'赤' * 83}y.png"]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    assert predicted(paths, tmp_path / "output", 0.9).photos_read == 2
    assert len(list((tmp_path / "output").iterdir())) == 3


def test_the_json_and_the_numbers(tmp_path, mine):
    photos = [mine / "a.png", mine / "b.jpg", mine / "c.PNG"]
    (mine / "b.jpg").write_bytes(b"no photo")
    done = []
    summary = predicted(photos, tmp_path / "output", 0.9, 0.3, on_photo=done.append)
    assert summary == predict.Summary(photos_read=2, detections=4, drawn=2, best_undrawn={})
    assert done == [1, 2, 3]
    value = json.loads((tmp_path / "output" / "detections.json").read_text())
    assert [image["id"] for image in value["images"]] == [1, 3]
    assert value["images"][1] == {"id": 3, "file_name": str(mine / "c.PNG"), "height": 64, "width": 96}
    assert [a["id"] for a in value["annotations"]] == [1, 2, 3, 4]
    assert value["annotations"][3] == {
        "id": 4, "image_id": 3, "category_id": 3, "iscrowd": 0,
        "bbox": [40, 10, 20, 40], "area": 800, "score": pytest.approx(0.3),
    }  # fmt: skip
    assert value["categories"] == [{"id": 7, "name": "red"}, {"id": 3, "name": "[/b] green"}]
    with Image.open(tmp_path / "output" / "a.png") as picture:
        assert picture.size == (96, 64)  # the photo's, to which the JSON belongs


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (KeyboardInterrupt(), InterruptedRunError, "after 1 of 3 photos; their detections: "),
        (OSError("disk full"), OSError, "disk full"),
    ],
)
def test_what_was_detected_before_the_end_is_written(error, raised, message, tmp_path, mine, monkeypatch):
    photos, output = [mine / "a.png", mine / "b.jpg", mine / "c.PNG"], tmp_path / "output"
    read = predict.photos.read_rgb

    def interrupted(path):
        if path == photos[1]:
            raise error
        return read(path)

    monkeypatch.setattr(predict.photos, "read_rgb", interrupted)
    with pytest.raises(raised, match=message):
        predicted(photos, output, 0.9, 0.8)
    value = json.loads((output / "detections.json").read_text())
    assert (len(value["images"]), len(value["annotations"])) == (1, 2)


def test_a_dark_photo_of_16_bits_is_noted(tmp_path, caplog):
    for name, value in (("dark", 4095), ("bright", 65535)):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / f"{name}.png")
    predicted([tmp_path / "dark.png", tmp_path / "bright.png"], tmp_path / "output", 0.9)
    assert "note: " in caplog.text
    assert "dark.png: values up to 4095 of 65535, shown dark" in caplog.text
    assert "bright.png" not in caplog.text


def test_without_a_readable_photo_there_is_no_json(tmp_path, mine):
    for path in (mine / "a.png", mine / "b.jpg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="a.png: none of the 2 file.s. is a readable photo"):
        predicted([mine / "a.png", mine / "b.jpg"], tmp_path / "output", 0.9)
    assert not list((tmp_path / "output").iterdir())


def run(monkeypatch, capsys, images, output, *scores):
    """What `--mode=predict` prints, with a stand-in for the model."""

    class Config:
        class model:  # noqa: N801
            kind = "faster_rcnn"

    monkeypatch.setattr(predicting, "load_model_dir", lambda *arguments: (Config, Model(*scores), 1))
    predicting.predict_photos("runs/x", [], "newest", str(images), output, 0.5)
    return capsys.readouterr().out


def test_both_numbers_are_said_and_what_was_left_out(tmp_path, mine, monkeypatch, capsys):
    (mine / "d.heic").write_bytes(b"")
    said = run(monkeypatch, capsys, mine, tmp_path / "[/b]", 0.9, 0.3)
    assert said.splitlines() == [
        "note: left out: 1 of a format that Pillow does not read (d.heic)",
        f"6 detections on 3 of 3 photos, 3 of them drawn (score >= 0.5): {tmp_path}/[/b]",
    ]


@pytest.mark.parametrize(("scores", "best"), [((0.4, 0.3), "0.400"), ((), "none")])
def test_where_nothing_is_drawn_the_best_score_is_said(scores, best, tmp_path, mine, monkeypatch, capsys):
    Image.new("RGB", (9, 9)).save(mine / "d.png")
    said = run(monkeypatch, capsys, mine, tmp_path / "output", *scores).splitlines()
    assert said[0].startswith(
        f"{4 * len(scores)} detections on 4 of 4 photos, 0 of them drawn (score >= 0.5): "
    )
    paths = [mine / name for name in ("a.png", "b.jpg", "c.PNG")]
    scores = ", ".join(f"{path} {best}" for path in paths)
    assert said[1:] == [f"note: nothing is drawn on 4 photos; their best scores: {scores}, ..."]


def test_pictures_of_an_evaluation_replace_no_other_ones(tmp_path, caplog):
    """A model_dir may be a folder of the user's, whose photos lie in its `pictures`."""
    record = Record(100, "photo", (64, 96), BOXES, np.array([1, 2]))
    data = io.BytesIO()
    Image.new("RGB", (96, 64)).save(data, "PNG")
    records = [record, record._replace(image_id=110)]
    dataset = types.SimpleNamespace(records=records, read_bytes=lambda index: data.getvalue())
    photo = tmp_path / "pictures" / "100.png"
    photo.parent.mkdir()
    photo.write_bytes(data.getvalue())
    for _ in range(2):
        draw_pictures(Model(0.9), dataset, tmp_path, 2)
        assert "100.png: exists and bears no mark of this program; it is kept" in caplog.text
        assert "110.png" not in caplog.text
    assert photo.read_bytes() == data.getvalue()
    assert (tmp_path / "pictures" / "110.png").is_file()


def test_a_mistake_is_said_before_the_model_is_read(mine, monkeypatch):
    monkeypatch.setattr(predicting, "load_model_dir", None)
    with pytest.raises(DataError, match="is the folder of the photos"):
        predicting.predict_photos("runs/x", [], "newest", str(mine), mine, 0.5)
