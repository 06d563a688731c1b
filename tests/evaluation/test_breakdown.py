import numpy as np
import pytest

from fpn_tf.evaluation import breakdown
from fpn_tf.evaluation.analysis import analyse

CAT, DOG = 4, 9
BOXES = [[20, 20, 10, 10], [50, 50, 10, 10], [20, 60, 10, 10]]
FAR = [80, 80, 10, 10]


def analysis_of(photos):
    """Of photos, each (annotated [(category, box[, area])], detected [(category, box, score)])."""
    annotations, results = [], []
    for image_id, (annotated, detected) in enumerate(photos):
        for category, box, *area in annotated:
            annotations.append(
                {"id": len(annotations), "image_id": image_id, "category_id": category, "bbox": box}
                | ({"area": area[0]} if area else {})
            )
        results += [
            {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
            for category, box, score in detected
        ]
    images = [{"id": i, "height": 100, "width": 100} for i in range(len(photos))]
    categories = [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}]
    return analyse({"images": images, "categories": categories, "annotations": annotations}, results)


def confusion_of(analysis):
    return breakdown.confusion(
        analysis.objects, analysis.matches, analysis.kinds, analysis.are_shown, 2
    ).tolist()


def test_confusion_counts_every_object_once():
    annotated = [(CAT, BOXES[0]), (CAT, BOXES[1]), (DOG, BOXES[2])]
    detected = [
        (CAT, BOXES[0], 0.9),
        (DOG, BOXES[0], 0.9),  # on a cat that is found: nothing else is there
        (DOG, BOXES[1], 0.8),  # a cat that is taken for a dog
        (DOG, BOXES[1], 0.7),  # once more
        (DOG, BOXES[2], 0.6),
        (DOG, FAR, 0.9),
        (DOG, FAR, 0.1),  # below the threshold
    ]
    assert confusion_of(analysis_of([(annotated, detected)])) == [[1, 1, 0], [0, 1, 0], [0, 3, 0]]


@pytest.mark.parametrize(
    ("annotated", "detected", "expected"),
    [
        ([], [], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        ([(CAT, FAR)], [], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
        ([], [(DOG, FAR, 0.9)], [[0, 0, 0], [0, 0, 0], [0, 1, 0]]),
        ([(CAT, FAR)], [(DOG, FAR, 0.9)], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),  # no class has a threshold
    ],
)
def test_confusion_of_little(annotated, detected, expected):
    assert confusion_of(analysis_of([(annotated, detected)])) == expected


def test_recall_by_size_and_crowding():
    first = [(CAT, BOXES[0], 32**2 - 1), (CAT, BOXES[1], 32**2), (CAT, BOXES[2], 96**2)]
    # The last detection is below the best threshold: two false ones stand before it.
    detected = [(CAT, BOXES[0], 0.9), (CAT, FAR, 0.5), (CAT, [0, 0, 5, 5], 0.5), (CAT, BOXES[2], 0.4)]
    analysis = analysis_of([(first, detected), ([(DOG, FAR, 10)], [(DOG, FAR, 0.9)])])
    objects, matches, are_shown = analysis.objects, analysis.matches, analysis.are_shown
    thresholds = [round(each.score, 6) for each in analysis.thresholds]
    assert thresholds == [0.4, 0.9]  # F1 1/2 at 0.9 (1 of 3), 4/7 at 0.4 (2 of 4)
    are_shown = are_shown & (matches.scores > 0.45)
    by_size = breakdown.recall_by(objects.areas, breakdown.SIZES, objects, matches, are_shown)
    assert list(by_size.values()) == [(2, 1.0, 1.0), (1, 0.0, 0.0), (1, 1.0, 0.0)]
    crowding = breakdown.crowding_of(objects)
    assert crowding.tolist() == [3, 3, 3, 1]
    by_crowding = breakdown.recall_by(crowding, breakdown.CROWDING, objects, matches, are_shown)
    assert by_crowding == {"1": (1, 1.0, 1.0), "2 to 4": (3, pytest.approx(2 / 3), pytest.approx(1 / 3))}


def test_photos_by_errors():
    found = [(CAT, box, 0.9) for box in BOXES]
    there = [(CAT, box) for box in BOXES]
    photos = [
        (there[:1], found[:1]),
        (there, found),
        (there, [*found[:1], (CAT, FAR, 0.95)]),  # a false one, two missed
        ([], []),
        (there[:2], found[:1]),  # one missed
    ]
    analysis = analysis_of(photos)
    worst, best = breakdown.ranked_photos(analysis.objects, analysis.matches, analysis.are_shown, 5)
    assert worst.tolist() == [2, 4]
    assert best.tolist() == [1, 0, 4, 2]


def test_nothing_at_all():
    analysis = analysis_of([([], [])])
    assert breakdown.crowding_of(analysis.objects).tolist() == []
    worst, best = breakdown.ranked_photos(analysis.objects, analysis.matches, np.zeros(0, bool), 1)
    assert not len(worst)
    assert not len(best)
