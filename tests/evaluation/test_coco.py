import numpy as np
import pytest

from fpn_tf import Detections
from fpn_tf.evaluation import coco


def truth(boxes, crowd=()):
    return {
        "images": [{"id": 5, "height": 100, "width": 100, "file_name": "a.jpg"}],
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": [
            {
                "id": i,
                "image_id": 5,
                "category_id": 9,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(i in crowd),
            }
            for i, box in enumerate(boxes, start=1)
        ],
    }


def result(box, score=0.9, category=9):
    return {"image_id": 5, "category_id": category, "bbox": box, "score": score}


def test_perfect_detections_score_one():
    boxes = [[10, 10, 20, 20], [50, 50, 40, 40]]
    metrics = coco.evaluate(truth(boxes), [result(b) for b in boxes])
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["AR100"] == pytest.approx(1)
    assert metrics["AP_large"] == -1  # there are no large objects
    assert metrics["per_class"] == {"cat": pytest.approx(1), "dog": -1.0}
    assert list(metrics)[:12] == list(coco.METRICS)


def test_a_shifted_box_counts_up_to_its_iou():
    # IoU of [0, 0, 10, 10] and [0, 0, 10, 8] is 0.8: seven of the ten thresholds .50 ... .95 are met.
    metrics = coco.evaluate(truth([[0, 0, 10, 10]]), [result([0, 0, 10, 8])])
    assert metrics["AP"] == pytest.approx(0.7)
    assert metrics["AP50"] == pytest.approx(1)


def test_detections_in_a_crowd_are_not_counted_against_anyone():
    boxes = [[10, 10, 20, 20], [50, 50, 40, 40]]
    inside = [result([52, 52, 10, 10], 0.95), result([70, 70, 10, 10], 0.96)]
    crowded = coco.evaluate(truth(boxes, crowd={2}), [result(boxes[0]), *inside])
    assert crowded["AP"] == pytest.approx(1)
    plain = coco.evaluate(truth(boxes[:1]), [result(boxes[0]), *inside])
    assert plain["AP"] < 0.5


def test_no_detections_at_all():
    metrics = coco.evaluate(truth([[10, 10, 20, 20]]), [])
    assert metrics["AP"] == 0


def test_results_of_a_photo():
    found = Detections(np.array([[1, 2, 4, 8]], np.float32), np.array([0.5], np.float32), np.array([9]))
    assert coco.as_results(5, found) == [
        {"image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 6], "score": 0.5}
    ]


def test_more_than_100_of_a_class_count_in_metrics_of_their_own():
    """110 objects on a photo, all found: the first 100 are recalled by COCO's rules."""
    boxes = [[float(i % 11 * 6), float(i // 11 * 6), 5.0, 5.0] for i in range(110)]
    results = [result(box, 1 - i / 1000) for i, box in enumerate(boxes)]
    usual, further = coco.evaluate(truth(boxes), results), coco.evaluate(truth(boxes), results, limit=300)
    assert usual["AR100"] == pytest.approx(100 / 110)
    assert set(further) - set(usual) == {"AP_at_300", "AR300"}
    assert {name: further[name] for name in usual} == usual
    assert further["AR300"] == further["AP_at_300"] == 1.0
    at_105 = coco.evaluate(truth(boxes), results, limit=105)
    assert at_105["AR105"] == pytest.approx(105 / 110)


def test_a_limit_below_100_adds_nothing():
    boxes = [[10, 10, 20, 20]]
    assert coco.evaluate(truth(boxes), [result(boxes[0])], limit=50) == coco.evaluate(
        truth(boxes), [result(boxes[0])]
    )


def test_the_limit_is_told_where_coco_does_not_count_as_many():
    assert coco.limit_note(100, "eval.max_detections") is None
    assert "AP_at_101 and AR101" in coco.limit_note(101, "eval.max_detections")


def test_classes_of_one_name_have_rows_of_their_own():
    annotated = truth([[10, 10, 20, 20]])
    annotated["categories"] = [{"id": 9, "name": "cat"}, {"id": 4, "name": "cat"}, {"id": 5, "name": "dog"}]
    metrics = coco.evaluate(annotated, [result([10, 10, 20, 20])])
    assert metrics["per_class"] == {"cat (id 9)": pytest.approx(1), "cat (id 4)": -1.0, "dog": -1.0}
