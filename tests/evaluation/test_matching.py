import numpy as np
import pytest

from fpn_tf.evaluation import coco, faults
from fpn_tf.evaluation.analysis import analyse
from fpn_tf.evaluation.curves import interpolated
from fpn_tf.evaluation.matching import match
from fpn_tf.evaluation.scorers import accumulated

IDS = [7, 3, 12]  # of categories, in no order


def random_set(seed, photos=12):
    """Ground truth with crowd regions, boxes without area and empty photos, and detections near it.

    Scores have one digit, so that many are equal; the first photo has more than 100 detections of a class.
    """
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(photos):
        for _ in range(rng.integers(0, 9)):
            box = [*rng.integers(0, 60, 2).tolist(), *rng.integers(5, 40, 2).tolist()]
            if rng.random() < 0.05:
                box[2] = 0
            entry = {"image_id": image_id, "category_id": int(rng.choice(IDS)), "bbox": box}
            crowd = int(rng.random() < 0.15)
            annotations.append({"id": len(annotations), "area": box[2] * box[3], "iscrowd": crowd, **entry})
            for _ in range(rng.integers(0, 4)):
                shift = np.round(rng.normal(0, 4, 4))
                near = [*(np.add(box, shift)[:2]), *np.maximum(np.add(box, shift)[2:], 1)]
                category = entry["category_id"] if rng.random() < 0.8 else int(rng.choice(IDS))
                results.append(_result(image_id, near, category, round(rng.random(), 1)))
    for _ in range(130):
        box = [*rng.uniform(0, 60, 2), *rng.uniform(5, 40, 2)]
        results.append(_result(0, box, IDS[0], round(rng.random(), 1)))
    return {
        "images": [{"id": i, "height": 100, "width": 100} for i in reversed(range(photos))],
        "categories": [{"id": i, "name": f"class {i}"} for i in IDS],
        "annotations": annotations,
    }, results


def _result(image_id, box, category, score):
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [float(v) for v in box],
        "score": float(score),
    }


def ap50_of_classes(truth, results, image_ids):
    """pycocotools' AP at IoU 0.5 of each class."""
    precision, _ = accumulated("pycocotools", truth, results, image_ids)
    return precision[0, :, :, 0, 2].mean(axis=0)  # [K], -1 without an object


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("image_ids", [None, [0, 3, 4, 5, 11]])
def test_ap50_is_that_of_pycocotools(seed, image_ids):
    truth, results = random_set(seed)
    analysis = analyse(truth, results, image_ids)
    whole = faults.ap50(analysis.objects, analysis.matches, analysis.kinds)
    assert whole == pytest.approx(coco.evaluate(truth, results, image_ids)["AP50"], abs=1e-6)
    of_classes = [-1 if each is None else interpolated(each).mean() for each in analysis.curves]
    np.testing.assert_allclose(of_classes, ap50_of_classes(truth, results, image_ids), atol=1e-6)


def test_every_object_is_found_by_at_most_one_detection_of_its_class():
    objects, matches = match(*random_set(9))
    finds = matches.objects[matches.objects >= 0]
    assert len(finds) == len(set(finds.tolist())) > 10
    np.testing.assert_array_equal(objects.classes[finds], matches.classes[matches.objects >= 0])
    assert not objects.are_crowds[finds].any()
    assert matches.are_absorbed.any()
    assert not (matches.are_absorbed & (matches.objects >= 0)).any()


@pytest.mark.parametrize("part", ["no detections", "no objects", "neither"])
def test_nothing_to_match(part):
    truth, results = random_set(1)
    if part != "no detections":
        truth["annotations"] = []
    if part != "no objects":
        results = []
    analysis = analyse(truth, results)
    whole = faults.ap50(analysis.objects, analysis.matches, analysis.kinds)
    assert whole == {"no detections": 0.0}.get(part, -1.0)
    assert set(analysis.kinds.tolist()) <= {"background"}
    assert analysis.thresholds == [None] * 3


# AP50, and the AP lost to each kind of error, in per cent; recorded from tidecv 1.0.1, the authors' code.
TIDE = {
    0: [13.48775, 0.06901, 28.24478, 1.28556, 1.58228, 0.22484, 8.16966],
    1: [17.37862, 0.75844, 25.19629, 1.21642, 0.97428, 1.73469, 9.59619],
}


@pytest.mark.parametrize("seed", TIDE)
def test_ap_lost_is_what_the_authors_code_says(seed):
    truth, results = random_set(seed)
    # Without what that code does otherwise: crowds, more than 100 detections in a photo, equal scores.
    results = [result for result in results if result["image_id"] != 0]
    for place, result in enumerate(results):
        result["score"] = (place * 7919 % len(results) + 1) / (len(results) + 1)
    truth["annotations"] = [a for a in truth["annotations"] if a["bbox"][2] and not a["iscrowd"]]
    objects, matches = match(truth, results)
    kinds = faults.kinds_of(matches)
    lost = [faults.ap50(objects, matches, kinds), *faults.ap_lost(objects, matches, kinds).values()]
    np.testing.assert_allclose(np.multiply(lost, 100), TIDE[seed], atol=1e-4)
