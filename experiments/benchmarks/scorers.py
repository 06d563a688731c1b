"""Seconds that COCO's evaluation takes by each library of `eval.scorer`, in turns, on a generated set.

    python -m experiments.benchmarks.scorers

The set is as large as COCO's val2017: 80 classes, objects of every size, 100 detections a photo. What is
timed is the whole of `fpn_tf.evaluation.coco.evaluate`; that both give the same numbers is checked.
"""

import argparse
import statistics
import time

import numpy as np

from fpn_tf.config import SCORERS
from fpn_tf.evaluation import coco

CLASSES = 80
OBJECTS = 7  # a photo, on average


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="a photo")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    truth, results = generated_set(arguments.photos, arguments.detections)
    print(f"{arguments.photos} photos, {len(truth['annotations'])} objects, {len(results)} detections")
    seconds: dict = {scorer: [] for scorer in SCORERS}
    for _ in range(arguments.rounds):
        numbers = []
        for scorer, of_scorer in seconds.items():
            start = time.perf_counter()
            numbers.append(coco.evaluate(truth, results, scorer=scorer))
            of_scorer.append(time.perf_counter() - start)
        assert numbers[0] == numbers[1]
    for scorer, values in seconds.items():
        print(f"{scorer:12s} {statistics.median(values):7.2f} s ({min(values):.2f}..{max(values):.2f})")
    ratios = sorted(slow / quick for slow, quick in zip(*seconds.values()))
    names = " / ".join(seconds)
    print(f"{names}: {statistics.median(ratios):.1f} ({ratios[0]:.1f}..{ratios[-1]:.1f})")


def generated_set(photos, detections):
    """Ground truth and results: moved copies of the objects, the rest of the detections at random."""
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for image in range(photos):
        count = rng.poisson(OBJECTS)
        boxes, classes = _boxes(rng, count), rng.integers(CLASSES, size=count)
        annotations += [
            {"id": len(annotations) + n, "image_id": image, "category_id": int(c), "bbox": box.tolist()}
            for n, (box, c) in enumerate(zip(boxes, classes))
        ]
        others = max(detections - count, 0)
        moved = boxes * rng.normal(1, 0.05, boxes.shape)
        results += [
            {"image_id": image, "category_id": int(c), "bbox": box.tolist(), "score": float(score)}
            for box, c, score in zip(
                np.concatenate([moved, _boxes(rng, others)])[:detections],
                np.concatenate([classes, rng.integers(CLASSES, size=others)]),
                rng.random(detections),
            )
        ]
    truth = {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(photos)],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(CLASSES)],
        "annotations": annotations,
    }
    return truth, results


def _boxes(rng, count):
    """[count, 4] (x, y, width, height)."""
    return np.concatenate([rng.uniform(0, 400, (count, 2)), np.exp(rng.uniform(2, 5.3, (count, 2)))], axis=1)


if __name__ == "__main__":
    main()
