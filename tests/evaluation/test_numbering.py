"""What is scored, and under which numbers; the AP of sound data is pycocotools' own, digit for digit."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fpn_tf.evaluation import coco, proposals
from fpn_tf.evaluation.numbering import notes_on_boxes, without_area

IMAGES, CATEGORIES = (930, 7, 12, 400), (90, 3, 7)  # in the order of a file


def random_truth(rng):
    """Ground truth of sound form, crowd regions and objects of every size among it."""
    annotations = []
    for image in IMAGES:
        for _ in range(rng.integers(1, 9)):
            sides = np.exp(rng.uniform(np.log(8), np.log(200), 2))
            box = [*rng.uniform(0, 200, 2).tolist(), *sides.tolist()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice(CATEGORIES)),
                    "bbox": box,
                    "area": float(sides.prod() * rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    return {
        "info": {},
        "images": [{"id": i, "width": 400, "height": 400} for i in IMAGES],
        "categories": [{"id": i, "name": f"class {i}"} for i in CATEGORIES],
        "annotations": annotations,
    }


def random_results(rng, truth):
    """Moved boxes, some of other classes; scores of one decimal, so that there are ties."""
    results = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            box = np.array(annotation["bbox"]) * rng.normal(1, 0.05, 4)
            is_right = rng.random() < 0.8
            category = annotation["category_id"] if is_right else int(rng.choice(CATEGORIES))
            score = float(np.round(rng.random(), 1))
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": category,
                    "bbox": box.tolist(),
                    "score": score,
                }
            )
    return results


def perfect(truth):
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
        if not a.get("iscrowd")
    ]


def original(truth, results):
    """pycocotools' own numbers and recalls."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = copy.deepcopy(truth)
        annotated.createIndex()
        scorer = COCOeval(annotated, annotated.loadRes(copy.deepcopy(results)), "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


@pytest.mark.parametrize("seed", range(5))
def test_every_digit_is_that_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    results = random_results(rng, truth)
    before = copy.deepcopy((truth, results))
    metrics, scorer = coco.evaluate(truth, results), original(truth, results)
    assert 0.05 < metrics["AP"] < 0.9
    assert [metrics[name] for name in coco.METRICS] == scorer.stats.tolist()
    for number, category in enumerate(sorted(CATEGORIES)):
        precision = scorer.eval["precision"][:, :, number, 0, -1]
        assert metrics["per_class"][f"class {category}"] == precision.mean()
    assert (truth, results) == before


def test_some_images_alone():
    rng = np.random.default_rng(5)
    truth = random_truth(rng)
    results = random_results(rng, truth)
    chosen = (930, 12)
    part = {
        key: [e for e in entries if e.get("image_id", e["id"]) in chosen]
        for key, entries in truth.items()
        if key in ("images", "annotations")
    }
    expected = original(truth | part, [r for r in results if r["image_id"] in chosen]).stats.tolist()
    metrics = coco.evaluate(truth, results, chosen)
    assert [metrics[name] for name in coco.METRICS] == expected


def ids_from(first):
    def change(truth):
        for number, annotation in enumerate(truth["annotations"], start=first):
            annotation["id"] = number

    return change


def without(*keys):
    def change(truth):
        for annotation in truth["annotations"]:
            for key in keys:
                annotation.pop(key)

    return change


def set_all(**values):
    def change(truth):
        for annotation in truth["annotations"]:
            annotation.update(values)

    return change


def shifted_image_ids(amount):
    def change(truth):
        for image in truth["images"]:
            image["id"] += amount
        for annotation in truth["annotations"]:
            annotation["image_id"] += amount

    return change


CHANGES = {
    "from 0": ids_from(0),
    "below 0": ids_from(-3),
    "beyond 64 bits": ids_from(10**19),
    "images beyond 64 bits": shifted_image_ids(10**20),
    "images around 0": shifted_image_ids(-12),
    "no info": lambda truth: truth.pop("info"),
    "null area": set_all(area=None),
    "no area": without("area"),
    "fields of the scorer's own": set_all(ignore=1, _ignore=1, score=0.1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_ids_and_fields_are_the_files_own_affair(name):
    truth = random_truth(np.random.default_rng(0))
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
    CHANGES[name](truth)
    metrics = coco.evaluate(truth, perfect(truth))
    assert metrics["AP"] == metrics["AR100"] == 1.0
    assert proposals.evaluate(truth, perfect(truth))["AR1000"] == 1.0
    missed = coco.evaluate(truth, perfect(truth)[1:])
    assert missed["AP"] < 1


def test_pycocotools_reads_no_file_of_results(monkeypatch):
    """Some of its versions want `info` for that."""
    monkeypatch.delattr(COCO, "loadRes")
    truth = random_truth(np.random.default_rng(0))
    assert coco.evaluate(truth, perfect(truth))["AP"] == 1.0
    assert coco.evaluate(truth, [])["AP"] == 0.0


NO_AREA = {
    "no size": [0, 0, 0, 0],
    "no width": [10.0, 10.0, 0.0, 30.0],
    "no height": [10.0, 10.0, 30.0, 0.0],
    "negative": [50.0, 50.0, -20.0, -20.0],
    "left of the photo": [-30.0, 10.0, 30.0, 30.0],
    "below the photo": [10.0, 400.0, 30.0, 30.0],
    "less than a float32 can tell": [300.0, 300.0, 1e-6, 1e-6],
}


@pytest.mark.parametrize("box", NO_AREA.values(), ids=NO_AREA)
@pytest.mark.parametrize("are_detected", [False, True])
def test_boxes_without_area_are_not_scored(box, are_detected):
    truth = random_truth(np.random.default_rng(1))
    sound = perfect(truth)
    count = len(truth["annotations"])
    extra = [
        {"id": count + n, "image_id": i, "category_id": 90, "bbox": box, "area": 0.0, "iscrowd": 0}
        for n, i in enumerate(IMAGES, start=1)
    ]
    truth["annotations"] += extra
    np.testing.assert_array_equal(without_area(truth), [False] * count + [True] * len(IMAGES))
    results = perfect(truth) if are_detected else sound
    assert coco.evaluate(truth, results)["AP"] == 1.0
    assert proposals.evaluate(truth, sound)["AR1000"] == 1.0
    assert notes_on_boxes(truth, "val.json") == [
        "val.json: 4 boxes without area inside their photo are not scored"
    ]


def test_a_photo_of_no_known_size_has_no_bounds():
    truth = random_truth(np.random.default_rng(1))
    truth["annotations"][0]["bbox"] = [5000.0, 5000.0, 20.0, 20.0]
    assert without_area(truth).tolist() == [True] + [False] * (len(truth["annotations"]) - 1)
    for sizes in ({"width": None, "height": None}, {}):
        truth["images"] = [{"id": i, **sizes} for i in IMAGES]
        assert not without_area(truth).any()
        assert notes_on_boxes(truth, "val.json") == []
    assert coco.evaluate(truth, perfect(truth))["AP"] == 1.0


def test_ground_truth_without_a_box_is_told():
    truth = random_truth(np.random.default_rng(1))
    set_all(iscrowd=1)(truth)
    truth["annotations"][0] |= {"iscrowd": 0, "bbox": [5.0, 5.0, 0.0, 5.0]}
    assert coco.evaluate(truth, perfect(truth))["AP"] == -1.0
    assert notes_on_boxes(truth, "val.json") == [
        "val.json: 1 boxes without area inside their photo are not scored",
        "val.json: has no box to score by, crowd regions apart; AP is -1",
    ]
