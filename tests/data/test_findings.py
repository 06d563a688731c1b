"""Doubtful annotations: what is said of them, and that nothing is said of sound ones."""

import copy

import numpy as np
import pytest

from fpn_tf.data import coco_folder
from fpn_tf.data import findings as module
from fpn_tf.data.dataset import from_coco_dict
from fpn_tf.data.findings import SHOWN, annotation_findings

NAMES = {7: "red", 3: "green", 90: "blue"}


def sound(photos=24, boxes=2, long=96, short=64):
    """A COCO dict of photos, wide and tall in turn, with boxes anywhere on them."""
    random = np.random.default_rng(3)
    coco = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
    }
    for number in range(photos):
        width, height = (long, short) if number % 2 else (short, long)
        image = {"id": 100 + number, "file_name": f"p{number}.png", "width": width, "height": height}
        coco["images"].append(image)
        for _ in range(boxes):
            w, h = random.integers(short // 4, short // 2, 2).tolist()
            x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
            category = (7, 3, 90)[len(coco["annotations"]) % 3]
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, w, h],
                }
            )
    return coco


def findings(coco):
    """The texts of all findings in the annotations, {what: count}."""
    coco = copy.deepcopy(coco)
    coco_folder.check(coco, "a.json")
    dataset = from_coco_dict(coco, None, lambda image: f"photos/{image['file_name']}", None)
    all_findings = annotation_findings(dataset)
    for finding in all_findings:
        assert len(finding.first) == min(finding.count, SHOWN)
        assert "\n" not in str(finding)
    return {finding.what: finding.count for finding in all_findings}


def with_boxes(coco, change):
    """The COCO dict with every box [x, y, w, h] of a photo of (W, H) changed."""
    coco, sizes = copy.deepcopy(coco), {i["id"]: (i["width"], i["height"]) for i in coco["images"]}
    for annotation in coco["annotations"]:
        annotation["bbox"] = change(*annotation["bbox"], *sizes[annotation["image_id"]])
    return coco


@pytest.mark.parametrize(("long", "short"), [(96, 64), (640, 480), (4000, 3000), (500, 500)])
def test_nothing_is_said_of_sound_annotations(long, short):
    assert findings(sound(long=long, short=short)) == {}


def test_nothing_is_said_of_objects_that_fill_their_photos():
    """Cut a little loosely, as annotators do: some reach two pixels outside."""

    def loose(x, y, w, h, width, height):
        return [5 + x % 7, 5 + y % 7, width - 8, height - 8]

    texts = findings(with_boxes(sound(long=640, short=480), loose))
    assert [what[:29] for what in texts] == ["boxes reach outside their pho"]


READINGS = {  # how the numbers are spoilt: what is asked
    "x2, y2 instead of width, height?": lambda x, y, w, h, *size: [x, y, x + w, y + h],
    "[y, x, height, width]: y before x?": lambda x, y, w, h, *size: [y, x, h, w],
    "[y1, x1, y2, x2]: y before x?": lambda x, y, w, h, *size: [y, x, y + h, x + w],
    "middle instead of corner?": lambda x, y, w, h, *size: [x + w / 2, y + h / 2, w, h],
}


@pytest.mark.parametrize("question", READINGS)
@pytest.mark.parametrize(("long", "short"), [(96, 64), (640, 480)])
def test_boxes_of_another_order_are_asked_about(question, long, short):
    texts = findings(with_boxes(sound(long=long, short=short), READINGS[question]))
    [asked] = [(what, count) for what, count in texts.items() if "do not fit their photo as" in what]
    assert question in asked[0]
    assert 5 <= asked[1] <= 48


def test_some_entries_with_corners_are_asked_about():
    coco, spoilt = sound(photos=40), 0
    for annotation in coco["annotations"][::4]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]
    [what] = [what for what in findings(coco) if "x2, y2 instead of width, height?" in what]
    spoilt = findings(coco)[what]
    assert 3 <= spoilt <= 20


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y, w, h, width, height: [x / width, y / height, w / width, h / height],
        lambda x, y, w, h, width, height: [v / max(width, height) for v in (x, y, w, h)],
        lambda x, y, w, h, width, height: [
            x / width,
            y / height,
            (x + w) / width,
            (y + h) / height,
        ],
        lambda x, y, w, h, width, height: [0, 0, 1, 1],
    ],
)
def test_shares_of_the_sides_are_asked_about(change):
    texts = findings(with_boxes(sound(), change))
    assert texts["boxes are below one pixel: normalised, shares of the photo instead of pixels?"] == 48
    assert not any("quarter" in what for what in texts)


def test_some_normalised_boxes_are_counted():
    coco = sound()
    for annotation in coco["annotations"][:5]:
        annotation["bbox"] = [v / 96 for v in annotation["bbox"]]
    assert findings(coco) == {
        "boxes are below one pixel: normalised, shares of the photo instead of pixels?": 5
    }


def test_per_cent_and_pixels_of_smaller_photos_are_asked_about():
    def per_cent(x, y, w, h, width, height):
        return [100 * x / width, 100 * y / height, 100 * w / width, 100 * h / height]

    quarter = "upper left quarter of their photos: pixels of smaller photos, or per cent?"
    for long, short in ((640, 480), (4000, 3000)):
        [(what, count)] = findings(with_boxes(sound(long=long, short=short), per_cent)).items()
        assert what.endswith(quarter)
        assert count == 48
    of_thumbnails = with_boxes(sound(long=640, short=480), lambda *box: [v / 4 for v in box[:4]])
    [what] = findings(of_thumbnails)
    assert what.endswith(quarter)
    small = findings(with_boxes(sound(), per_cent))  # photos of 64 x 96: they reach outside
    assert any("per cent instead of pixels?" in what for what in small)


def test_pixels_of_larger_photos_are_asked_about():
    texts = findings(with_boxes(sound(), lambda *box: [2.0 * v for v in box[:4]]))
    assert any("pixels of larger photos: were they resized?" in what for what in texts)


def test_a_single_box_outside_is_clipped_and_not_read_anew():
    coco = sound()
    coco["annotations"][0]["bbox"] = [-30.0, -30.0, 500.0, 500.0]
    assert findings(coco) == {
        "boxes reach outside their photo, clipped in training and scored as they are": 1
    }


def test_thin_boxes_are_told():
    coco = sound()
    coco["annotations"][3]["bbox"] = [5, 5, 0.3, 20]
    coco["annotations"][8]["bbox"] = [5, 5, 20, 0.99]
    assert findings(coco) == {"boxes are less than a pixel wide or high": 2}


def test_boxes_without_area_are_told_with_what_becomes_of_them():
    coco = sound()
    for annotation, box in zip(coco["annotations"], ([0, 0, 0, 0], [5, 5, -3, 4], [500, 5, 3, 4])):
        annotation["bbox"] = box
    texts = findings(coco)
    assert texts.pop("boxes have no area inside their photo, left out of training and evaluation") == 3
    assert all("photos without a box" in what for what in texts)


def test_boxes_that_are_the_whole_photo_are_told():
    texts = findings(with_boxes(sound(), lambda x, y, w, h, width, height: [0, 0, width, height]))
    assert texts.pop("boxes are their whole photo: where objects are cannot be learned of them") == 48
    assert all("repeat another" in what for what in texts)


@pytest.mark.parametrize("area", [0, 5000, 1e12, 100, None])
def test_areas_that_do_not_fit_their_box(area):
    coco = sound()
    coco["annotations"][4]["area"] = area
    what = "areas are 0 or larger than the box; AP_small, AP_medium and AP_large go by them"
    assert findings(coco) == ({} if area in (100, None) else {what: 1})


def test_a_photo_that_is_listed_twice():
    coco = sound()
    names = ["p0.png", "./p0.png", "x/../p0.png"]
    for number, name in enumerate(names):
        coco["images"].append({"id": 900 + number, "file_name": name, "width": 64, "height": 96})
    coco["annotations"][1]["image_id"] = 900
    coco_folder.check(coco, "a.json")
    dataset = from_coco_dict(coco, None, lambda image: f"photos/{image['file_name']}", None)
    [twice, _] = annotation_findings(dataset)  # and photos without a box
    assert str(twice) == (
        "1 photos are listed twice or more: the boxes of one entry are background in the other: "
        "photos/p0.png (images 100 with 1 boxes, 900 with 1 boxes, 901 with 0 boxes, ...)"
    )


def test_links_to_a_photo_are_the_photo(tmp_path):
    coco, folder = sound(photos=3), tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"p{number}.png").write_bytes(b"the same content is not the same photo")
    (folder / "soft.png").symlink_to(folder / "p0.png")
    (folder / "hard.png").hardlink_to(folder / "p1.png")
    for number, name in enumerate(("soft.png", "hard.png")):
        coco["images"].append({"id": 900 + number, "file_name": name, "width": 64, "height": 96})
    coco_folder.check(coco, "a.json")
    dataset = from_coco_dict(coco, None, lambda image: str(folder / image["file_name"]), None)
    [twice, bare] = annotation_findings(dataset)
    assert (twice.count, bare.count) == (2, 2)
    assert [text.rsplit("/")[-1] for text in twice.first] == [
        "p0.png (images 100 with 2 boxes, 900 with 0 boxes)",
        "p1.png (images 101 with 2 boxes, 901 with 0 boxes)",
    ]


def test_every_photo_listed_twice_is_counted():
    coco = sound()
    coco["images"] += [image | {"id": image["id"] + 1000} for image in coco["images"]]
    for annotation in coco["annotations"][::2]:
        annotation["image_id"] += 1000
    assert findings(coco) == {
        "photos are listed twice or more: the boxes of one entry are background in the other": 24
    }


def test_boxes_that_stand_twice():
    coco = sound()
    coco["annotations"] += [a | {"id": a["id"] + 500} for a in coco["annotations"][:4]]
    coco["annotations"].append(coco["annotations"][0] | {"id": 900, "category_id": 90})  # of another class
    assert findings(coco) == {"boxes repeat another of the same photo and class: one at most can be found": 4}


@pytest.mark.parametrize("name", ["red", "Red", " red ", "RED\t", "ｒｅｄ"])
def test_classes_of_one_name(name):
    coco = sound()
    coco["categories"].insert(0, {"id": 0, "name": name})
    coco["categories"][2]["name"] = "dark_green"
    coco_folder.check(coco, "a.json")
    dataset = from_coco_dict(coco, None, lambda image: image["file_name"], None)
    texts = list(map(str, annotation_findings(dataset)))
    shared = "2 classes share a name (capitals, spaces and underscores aside), and are learned apart: "
    assert texts == [
        f"{shared}{name} (id 0, 0 boxes), red (id 7, 16 boxes)",
        f"1 classes without a box: {'red (id 0)' if name == 'red' else name}",
    ]


def test_a_class_with_crowds_alone_has_no_box():
    coco = sound()
    coco["categories"].append({"id": 4, "name": "crowded"})
    coco["annotations"].append(coco["annotations"][0] | {"id": 900, "category_id": 4, "iscrowd": 1})
    assert findings(coco) == {"classes without a box": 1}
    coco["annotations"].clear()
    assert findings(coco) == {"classes without a box": 4, "photos without a box": 24}


def test_of_many_photos_those_listed_twice_are_known_by_their_names(monkeypatch):
    monkeypatch.setattr(module, "LOOKED_UP", 3)
    coco = sound()
    coco["images"].append({"id": 900, "file_name": "p0.png", "width": 64, "height": 96})
    assert findings(coco) == {
        "photos are listed twice or more: the boxes of one entry are background in the other": 1,
        "photos without a box": 1,
    }
    coco["images"][-1]["file_name"] = "./p0.png"
    assert findings(coco) == {"photos without a box": 1}


def test_rows_that_repeat_one_before_them():
    random = np.random.default_rng(0)
    keys = random.integers(-2, 2, (500, 4)).astype(float)
    keys[::50] *= -0.0  # a zero is a zero, whatever its sign
    seen, expected = set(), []
    for key in map(tuple, keys.tolist()):
        expected.append(key in seen)
        seen.add(key)
    assert module._repeats(keys).tolist() == expected
    assert not module._repeats(random.random((1000, 7))).any()
    assert module._repeats(np.zeros((0, 7))).tolist() == []
