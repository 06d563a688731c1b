"""hotcoco's numbers are pycocotools', to the last digit; which one scores is asked for by name."""

import importlib.util
import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks

import fpn_tf
from fpn_tf.errors import ConfigError
from fpn_tf.evaluation import coco, proposals, scorers
from fpn_tf.evaluation.result_file import score_files

IMAGES, CLASSES, EMPTY_CLASS = (930, 7, 12, 400, 5), (90, 3, 7, 41), 41

needs_hotcoco = pytest.mark.skipif(
    importlib.util.find_spec("hotcoco") is None, reason="hotcoco is not installed"
)


def generated_set(seed, digits=1):
    """Ground truth and results with what makes scorers differ.

    Among it are crowd regions, areas that are null, absent or another than the box's, objects of every
    size, boxes without area, a class and a photo without an object, photos without sizes, objects that
    are annotated twice, equal scores, and detections that lie outside.
    """
    rng = np.random.default_rng(seed)
    sizes = {"width": 400, "height": 300, "license": None}
    truth = {
        "images": [{"id": i, "file_name": "a.png"} | sizes for i in IMAGES],
        "categories": [{"id": i, "name": f"class {i}"} for i in CLASSES],
        "annotations": [{"image_id": 930, "category_id": 3, "bbox": [5, 5, 0, 9], "area": 0}],
    }
    truth["images"][1] |= {"width": None, "height": None}
    for image in IMAGES[1:]:
        for _ in range(rng.integers(1, 12)):
            sides = np.exp(rng.uniform(np.log(6), np.log(180), 2)).round(1)
            box = [*rng.uniform(0, 200, 2).round(1).tolist(), *sides.tolist()]
            area = rng.choice([None, float(sides.prod()), float(sides.prod() / 3)])
            crowd = rng.choice([0, 1, None], p=[0.8, 0.1, 0.1])
            annotation = {"image_id": image, "category_id": int(rng.choice(CLASSES[:3])), "bbox": box}
            annotation |= {"area": area, "iscrowd": crowd} if rng.random() < 0.9 else {}
            truth["annotations"] += [annotation] * (2 if rng.random() < 0.1 else 1)
    truth["annotations"] = [a | {"id": number} for number, a in enumerate(truth["annotations"])]
    results = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"] if rng.random() < 0.85 else int(rng.choice(CLASSES)),
            "bbox": (np.array(a["bbox"]) * rng.choice([1, rng.normal(1, 0.08)], 4)).tolist(),
            "score": float(np.round(rng.random(), digits)),
        }
        for a in truth["annotations"]
        for _ in range(rng.integers(0, 5))
    ]
    outside = {"category_id": 3, "bbox": [900.0, -50.0, 20.0, 20.0], "score": 0.5}
    return truth, results + [outside | {"image_id": image} for image in IMAGES]


def with_segments(truth, results):
    """Both with segmentations: polygons, run lengths of crowds; those of results are run lengths."""
    images = [image | {"width": 400, "height": 300} for image in truth["images"]]

    def polygon(box):
        x, y, w, h = box
        return [x, y, x + w, y + h / 3, x + w / 2, y + h]

    def run_lengths(box):
        [encoded] = coco_masks.frPyObjects([polygon(box)], 300, 400)
        return encoded | {"counts": encoded["counts"].decode()}

    annotations = [
        a | {"segmentation": run_lengths(a["bbox"]) if a.get("iscrowd") else [polygon(a["bbox"])]}
        for a in truth["annotations"]
        if a["bbox"][2]
    ]
    results = [r | {"segmentation": run_lengths(r["bbox"])} for r in results]
    return truth | {"images": images, "annotations": annotations}, results


@needs_hotcoco
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [100, 300])
@pytest.mark.parametrize("image_ids", [None, (930, 12, 5)])
def test_every_digit_of_boxes(seed, limit, image_ids):
    truth, results = generated_set(seed)
    expected, actual = (
        coco.evaluate(truth, results, image_ids, limit, scorer) for scorer in ("pycocotools", "hotcoco")
    )
    assert 0.05 < expected["AP"] < 0.9
    assert expected["per_class"][f"class {EMPTY_CLASS}"] == -1
    assert list(actual.items()) == list(expected.items())


@needs_hotcoco
def test_every_digit_with_more_detections_than_count():
    truth, results = generated_set(20, digits=2)
    results *= 25
    expected, actual = (coco.evaluate(truth, results, None, 200, s) for s in ("pycocotools", "hotcoco"))
    assert expected["AR200"] >= expected["AR100"] > 0
    assert actual == expected


@needs_hotcoco
@pytest.mark.parametrize("spoil", [lambda t: t.update(annotations=[]), lambda t: t.update(images=[])])
def test_nothing_to_score_by(spoil):
    truth, results = generated_set(0)
    spoil(truth)
    truth["annotations"] = [a for a in truth["annotations"] if truth["images"]]
    assert coco.evaluate(truth, results, scorer="hotcoco")["AP"] == -1
    assert coco.evaluate(truth, results, scorer="hotcoco") == coco.evaluate(truth, results)


@needs_hotcoco
def test_nothing_detected():
    truth, _ = generated_set(0)
    assert coco.evaluate(truth, [], scorer="hotcoco") == coco.evaluate(truth, [])


@needs_hotcoco
@pytest.mark.parametrize("seed", range(4))
def test_every_digit_of_the_recall_of_boxes_and_segments(seed):
    truth, results = with_segments(*generated_set(seed))
    for evaluate in (proposals.evaluate, proposals.evaluate_segments):
        expected, actual = (evaluate(truth, results, None, s) for s in ("pycocotools", "hotcoco"))
        assert 0.1 < expected["AR1000"] < 0.9
        assert actual == expected


@needs_hotcoco
@pytest.mark.parametrize("seed", range(4))
def test_every_digit_of_precision_by_segments(seed):
    truth, results = with_segments(*generated_set(seed))
    pairs = [scorers.accumulated(s, truth, results, None, "segm") for s in ("pycocotools", "hotcoco")]
    for expected, actual in zip(*pairs):
        assert 0 < expected.max() <= 1
        np.testing.assert_array_equal(actual, expected)


@needs_hotcoco
def test_it_says_nothing_of_its_own(capfd):
    coco.evaluate(*generated_set(0), limit=300, scorer="hotcoco")
    assert capfd.readouterr() == ("", "")


def test_the_files_of_a_result_are_scored_by_what_is_asked_for(tmp_path, monkeypatch):
    truth, results = generated_set(1)
    paths = [tmp_path / name for name in ("results.json", "truth.json")]
    for path, values in zip(paths, (results, truth)):
        path.write_text(json.dumps(values))
    asked = []
    accumulated = scorers.accumulated
    monkeypatch.setattr(coco, "accumulated", lambda s, *a, **k: asked.append(s) or accumulated(s, *a, **k))
    assert score_files(*paths).metrics["AP"] > 0
    assert asked == ["pycocotools"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pycocotool", "eval.scorer=pycocotool: expected pycocotools or hotcoco"),
        (
            "hotcoco",
            "eval.scorer=hotcoco: is not installed; expected `pip install hotcoco` (the extra `fast`), or "
            "eval.scorer=pycocotools",
        ),
    ],
)
def test_a_scorer_that_cannot_be_had_is_told_in_one_line(name, told, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        score_files(tmp_path / "none.json", tmp_path / "none.json", name)
    assert str(error.value) == told
    with pytest.raises(ConfigError, match=f"^scorer={name}: "):
        fpn_tf.evaluate(None, "none.json", tmp_path, scorer=name)
    with pytest.raises(ConfigError, match=f"^scorer={name}: "):
        fpn_tf.CocoMetrics("none.json", tmp_path, scorer=name)


def test_a_run_asks_for_it_before_its_first_step(monkeypatch, tiny_config):
    from fpn_tf.config import override
    from fpn_tf.evaluation.held_out import as_scored

    with pytest.raises(ConfigError, match=r"^eval\.scorer=fast: expected pycocotools or hotcoco$"):
        override(tiny_config, ["eval.scorer=fast"])
    config = override(tiny_config, ["eval.scorer=hotcoco"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^eval\.scorer=hotcoco: is not installed"):
        as_scored(None, config)
