import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from fpn_tf import report_page
from fpn_tf.data import coco_folder
from fpn_tf.evaluation import coco
from fpn_tf.evaluation.analysis import analyse
from fpn_tf.modes.report_pictures import marks, names_below, worst_and_best
from fpn_tf.modes.reporting import write_file_report, write_run_report

MARKUP = "<script>alert(1)</script> & [/b]"
VOID = {"meta", "img"}


class Page(html.parser.HTMLParser):
    """What a page holds: its elements, texts, the texts of each table's row; every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.rows, self.sources = [], set(), [], [], []
        self.is_open = False  # something that can be folded
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.is_open = self.is_open or ("open", None) in attrs
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data)
            if self.open[-1] in ("td", "th"):
                self.rows[-1].append(data)

    def rows_of(self, name):
        """The rows that begin with a name, without it."""
        return [row[1:] for row in self.rows if row[:1] == [name]]


@pytest.fixture
def scored(tmp_path):
    """A set of three photos, one of them broken since, with two classes; and detections in it."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, size in (("a<i>.png", (90, 60)), ("b.png", (1000, 400)), ("c.png", (50, 50))):
        Image.new("RGB", size, (90, 120, 150)).save(photos / name)
    boxes = [
        (1, 5, [10, 10, 20, 20]),
        (1, 8, [50, 20, 30, 30]),
        (2, 5, [300, 100, 400, 200]),
        (3, 8, [5, 5, 20, 20]),
    ]
    truth = {
        "images": [
            {"id": i, "file_name": name, "width": size[0], "height": size[1]}
            for i, (name, size) in enumerate(
                (("a<i>.png", (90, 60)), ("b.png", (1000, 400)), ("c.png", (50, 50))), 1
            )
        ],
        "categories": [{"id": 8, "name": MARKUP}, {"id": 5, "name": "cat"}],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for i, (image, category, box) in enumerate(boxes)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    dataset = coco_folder.load(tmp_path / "truth.json", photos)
    (photos / "c.png").write_bytes(b"no picture any more")
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in (
            (1, 5, [10, 10, 20, 20], 0.9),
            (1, 5, [50, 20, 30, 30], 0.8),
            (2, 5, [300, 100, 400, 190], 0.7),
            (3, 8, [5, 5, 20, 20], 0.6),
        )
    ]
    return dataset, results


def written(scored, model_dir, log=""):
    dataset, results = scored
    model_dir.mkdir(exist_ok=True)
    (model_dir / "train.jsonl").write_text(log)
    newest = coco.evaluate(dataset.coco, results) | {"step": 40, "held_out_losses": {"total_loss": 1.5}}
    path = write_run_report(model_dir, newest, dataset, results, [1, 2, 3])
    assert path == model_dir / "eval" / "report.html"
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path


def test_the_report_of_a_run(scored, tmp_path):
    log = '{"step": 20, "total_loss": 2.0}\n{"step": 40, "total_loss": 1.0}\n{"step": 20, "AP": 0.25}\n'
    page = Page(written(scored, tmp_path / "run <3", log).read_text("utf-8"))
    assert "run <3, step 40" in page.texts
    assert [page.rows_of(name) for name in ("photos", "objects", "detections")] == [[["3"]], [["4"]], [["4"]]]
    assert {"Losses, dashed: on held-out photos", "AP75", f"AP of {MARKUP}", "AP of cat"} <= set(page.texts)
    # Of the cats, the second of three detections is on an object of the other class, the rest is right;
    # of the other class one of two is found. AP50 is the mean over 101 recalls.
    of_cats, of_others = (51 + 50 * 2 / 3) / 101, 51 / 101
    now = (of_cats + of_others) / 2
    assert [text for text in page.texts if text.startswith(f"AP at IoU 0.5 is {now:.3f}.")]
    assert page.rows_of("classification")[0][1:] == ["1", f"{1 - now:.3f}"]
    assert page.rows_of("missed")[0][1:] == ["0", "0.000"]
    # Objects, AP, AP50, threshold, precision, recall, F1; then the row of the confusion matrix.
    cats, cats_as = page.rows_of("cat")
    assert (cats[0], cats[2:]) == ("2", [f"{of_cats:.3f}", "0.700", "0.667", "1.000", "0.800"])
    assert cats_as == ["2"]
    others, others_as = page.rows_of(MARKUP)
    assert (others[0], others[2:]) == ("2", [f"{of_others:.3f}", "0.600", "1.000", "0.500", "0.667"])
    assert others_as == ["1", "1"]
    assert page.rows_of("background")[-1] == []
    assert page.rows_of("small (below 32 x 32 pixels)") == [["3", "0.667", "0.667"]]
    assert page.rows_of("2 to 4") == [["2", "0.500", "0.500"]]
    assert [source[:23] for source in page.sources] == ["data:image/jpeg;base64,"] * 2  # of what can be read


def test_the_charts_of_a_run_have_the_same_steps():
    losses, held_out = {"total_loss": ((10, 50), (2, 1))}, {"total_loss": ((30,), (3,))}
    text = report_page.curves_section(losses, held_out, {"AP": ((40,), (0.5,))})
    # Half and three quarters of the way across, 488 pixels from 48 on: each a dot.
    assert re.findall('<circle cx="([^"]*)"', text) == ["292.0", "414.0"]
    assert report_page.curves_section({}, held_out, {}).count("<svg") == 1
    assert report_page.curves_section({}, {}, {}) == ""


def test_the_page_stands_alone(scored, tmp_path):
    text = written(scored, tmp_path / "run").read_text("utf-8")
    page = Page(text)
    assert not page.elements & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|@import|url\(", text)
    assert MARKUP not in text
    assert "Losses" not in page.texts


def test_pictures_are_small_jpegs_with_the_errors_first(scored):
    dataset, results = scored
    analysis = analyse(dataset.coco, results)
    worst, best = worst_and_best(analysis, dataset)
    assert [picture.caption for picture in worst] == ["1 right, 1 classification, 1 missed"]
    assert [picture.caption for picture in best] == ["1 right"]
    assert [picture.name for picture in (*worst, *best)] == ["a<i>.png", "b.png"]
    sizes = [Image.open(io.BytesIO(picture.jpeg)).size for picture in (*worst, *best)]
    assert sizes == [(640, 427), (640, 256)]
    boxes, kinds, labels = marks(0, analysis)
    assert kinds == ["classification", "missed", "right"]
    np.testing.assert_array_equal(boxes, [[50, 20, 80, 50], [50, 20, 80, 50], [10, 10, 30, 30]])
    assert labels == [f"cat 0.80, is {MARKUP}", MARKUP, ""]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/home/me/a.png", "/home/me/b.png"], ["a.png", "b.png"]),
        (["/home/me/x/a.png", "/home/me/y/a.png"], ["x/a.png", "y/a.png"]),
        (["/home/me/a.png", "/home/me/y/a.png"], ["a.png", "y/a.png"]),
        (["mine/a.png"], ["a.png"]),
        (["a.png", "y/b.png"], ["a.png", "y/b.png"]),
        (["shapes 1", "shapes 2"], ["shapes 1", "shapes 2"]),
    ],
)
def test_names_of_photos_are_told_without_the_folder_that_they_share(paths, names):
    assert names_below(paths) == names


def test_the_report_of_a_file_of_detections(scored, tmp_path):
    dataset, results = scored
    metrics = coco.evaluate(dataset.coco, results)
    page = Page(
        write_file_report(tmp_path, metrics, dataset.coco, results, "found <1>.json").read_text("utf-8")
    )
    assert page.rows_of("detections of") == [["found <1>.json"]]
    assert not page.sources
    assert "Confusion matrix" in page.texts


@pytest.mark.parametrize("annotated", [True, False])
def test_nothing_detected(scored, tmp_path, annotated):
    dataset, _ = scored
    truth = dataset.coco if annotated else dataset.coco | {"annotations": []}
    metrics = coco.evaluate(truth, [])
    page = Page(write_file_report(tmp_path, metrics, truth, [], "none.json").read_text("utf-8"))
    assert page.rows_of("AP") == [["0.000" if annotated else "-"]]


@pytest.mark.parametrize(("classes", "is_folded"), [(2, False), (30, True)])
def test_a_matrix_of_many_classes_is_folded_and_numbered(classes, is_folded):
    counts = np.eye(classes + 1, dtype=int).tolist()
    page = Page(report_page.confusion_section([f"<{i}>" for i in range(classes)], counts))
    assert page.rows[0][1:] == ([*map(str, range(1, 32))] if is_folded else ["<0>", "<1>", "background"])
    assert page.rows[1] == ["1: <0>" if is_folded else "<0>", "1"]
    assert page.is_open != is_folded


@pytest.mark.parametrize("count", [3, 40])
def test_classes_of_the_lowest_ap_come_first(count):
    rows = [
        report_page.ClassRow(f"class {i}", 5 if i else 0, (i * 7 % 50) / 50 if i else None, 0.5, None, ())
        for i in range(count)
    ]
    text = report_page.classes_section(rows)
    aps = [row[2] for row in Page(text).rows[1:]]
    assert aps == [*sorted(aps[:-1]), "-"]
    assert ('class="tall"' in text) == (count == 40)  # in a frame of its own


def test_tables_show_numbers_texts_and_nothing():
    page = Page(f"{report_page.table(('name', 'value'), [('<a>', 1), ('b', 0.12345), ('c', None)])}")
    assert page.rows == [["name", "value"], ["<a>", "1"], ["b", "0.123"], ["c", "-"]]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_browser_opens_it(scored, tmp_path):
    path = written(
        scored, tmp_path / "run", '{"step": 20, "total_loss": 2.0}\n{"step": 40, "total_loss": 1.0}\n'
    )
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,3000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = ["chromium", *options, profile, f"--screenshot={picture}", path.as_uri()]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    shown = {tuple(color) for color in np.unique(pixels, axis=0).tolist()}
    assert shown >= {(225, 40, 60), (31, 95, 191)}  # the bar of wrong classes, the line of the loss
