import numpy as np
import pytest

from fpn_tf.evaluation import faults
from fpn_tf.evaluation.matching import match

CAT, DOG = 4, 9
OBJECT = [20, 20, 10, 10]
BESIDE = [25, 20, 10, 10]  # IoU with OBJECT: 50 / 150
ALMOST = [20, 20, 10, 9]  # 0.9
FAR = [70, 70, 10, 10]
ELSEWHERE = [50, 50, 10, 10]


def errors_of(annotated, detected):
    """(objects, matches, kinds) of (category, box[, crowd]) and (category, box, score) in one photo."""
    truth = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": c, "bbox": box, "iscrowd": int(any(crowd))}
            for i, (c, box, *crowd) in enumerate(annotated)
        ],
    }
    results = [{"image_id": 1, "category_id": c, "bbox": box, "score": s} for c, box, s in detected]
    objects, matches = match(truth, results)
    return objects, matches, faults.kinds_of(matches)


# A cat and a dog that is found. AP of a class is 1/2 where its find comes after one false detection.
DOG_FOUND = (DOG, ELSEWHERE, 0.5)
CASES = {  # kind -> (further detections, AP of cats, AP of dogs)
    "classification": ([(DOG, OBJECT, 0.9)], 0.0, 0.5),
    "localisation": ([(CAT, BESIDE, 0.9)], 0.0, 1.0),
    "both": ([(DOG, BESIDE, 0.9), (CAT, OBJECT, 0.8)], 1.0, 0.5),
    "background": ([(CAT, OBJECT, 0.8), (CAT, FAR, 0.9)], 0.5, 1.0),
    "missed": ([], 0.0, 1.0),
}


@pytest.mark.parametrize("kind", CASES)
def test_one_kind_of_error_alone_loses(kind):
    detected, of_cats, of_dogs = CASES[kind]
    errors = errors_of([(CAT, OBJECT), (DOG, ELSEWHERE)], [DOG_FOUND, *detected])
    now = (of_cats + of_dogs) / 2
    assert faults.ap50(*errors) == pytest.approx(now)
    lost = faults.ap_lost(*errors)
    assert lost.pop(kind) == pytest.approx(1 - now)
    assert lost == {other: pytest.approx(0) for other in lost}
    counts = faults.counts(*errors)
    assert counts.pop(kind) == 1
    assert not any(counts.values())
    assert faults.ap50(*errors, mended=faults.KINDS) == 1


def test_a_duplicate_before_a_find_costs_precision():
    # Down the scores: right, duplicate, right. Precision 1 up to recall 1/2, then 2/3.
    annotated = [(CAT, OBJECT), (CAT, ELSEWHERE)]
    errors = errors_of(annotated, [(CAT, OBJECT, 0.9), (CAT, ALMOST, 0.8), (CAT, ELSEWHERE, 0.7)])
    now = (51 + 50 * 2 / 3) / 101
    assert faults.ap50(*errors) == pytest.approx(now)
    lost = faults.ap_lost(*errors)
    assert lost.pop("duplicate") == pytest.approx(1 - now)
    assert not any(lost.values())
    assert faults.ap50(*errors, mended=faults.KINDS) == 1


def test_of_two_errors_at_one_object_the_better_becomes_the_find():
    errors = errors_of([(CAT, OBJECT)], [(CAT, BESIDE, 0.9), (DOG, OBJECT, 0.8)])
    assert errors[2].tolist() == ["localisation", "classification"]
    lost = faults.ap_lost(*errors)
    assert lost["localisation"] == pytest.approx(1)
    assert lost["classification"] == 0  # the wrong name goes away; its object is that of the other error
    assert lost["missed"] == 0  # not missed: an error is at it


def test_an_error_at_a_found_object_goes_away():
    errors = errors_of([(CAT, OBJECT)], [(CAT, BESIDE, 0.9), (CAT, OBJECT, 0.8)])
    assert faults.ap50(*errors) == pytest.approx(1 / 2)
    assert faults.ap_lost(*errors)["localisation"] == pytest.approx(1 / 2)


def test_a_detection_of_a_class_without_objects_is_an_error_that_costs_no_ap():
    errors = errors_of([(CAT, OBJECT)], [(CAT, OBJECT, 0.9), (DOG, FAR, 0.95)])
    assert faults.counts(*errors)["background"] == 1
    assert faults.ap50(*errors) == pytest.approx(1)


def test_crowds_absorb_and_are_not_missed():
    errors = errors_of([(CAT, OBJECT), (CAT, [40, 40, 50, 50], True)], [(CAT, FAR, 0.9), (CAT, OBJECT, 0.8)])
    assert errors[2].tolist() == ["absorbed", "right"]
    assert faults.ap50(*errors) == pytest.approx(1)
    assert not any(faults.counts(*errors).values())


def test_a_detection_in_a_crowd_of_another_class_is_on_background():
    errors = errors_of([(DOG, [40, 40, 50, 50], True), (CAT, OBJECT)], [(CAT, FAR, 0.9)])
    assert errors[2].tolist() == ["background"]


def test_mending_all_kinds_gives_one_whatever_there_is():
    rng = np.random.default_rng(3)

    def boxes(count):
        corners, sides = rng.integers(0, 75, (count, 2)), rng.integers(8, 25, (count, 2))
        return np.concatenate([corners, sides], axis=1).tolist()

    annotated = [(int(rng.choice([CAT, DOG])), box, rng.random() < 0.1) for box in boxes(20)]
    detected = [(int(rng.choice([CAT, DOG])), box, rng.random()) for box in boxes(90)]
    errors = errors_of(annotated, detected)
    assert set(errors[2].tolist()) >= {"right", *faults.KINDS} - {"missed", "duplicate"}
    assert faults.ap50(*errors) < 0.5
    assert faults.ap50(*errors, mended=faults.KINDS) == 1
    assert all(lost >= 0 for lost in faults.ap_lost(*errors).values())
