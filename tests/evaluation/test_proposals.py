import numpy as np
import oracles
import pytest

from fpn_tf.evaluation import proposals

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
AREAS = {"": (0, 1e10), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 1e10)}


def random_case(rng, images=6):
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 7, "name": "b"}]}
    found = []
    for image in range(1, images + 1):
        coco["images"].append({"id": image, "width": 400, "height": 400})
        for _ in range(rng.integers(0, 6)):
            side = np.exp(rng.uniform(np.log(8), np.log(200), 2))
            x, y = rng.uniform(0, 200, 2)
            box = [float(v) for v in (x, y, *side)]
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice([1, 7])),
                    "bbox": box,
                    "area": float(side.prod() * rng.uniform(0.5, 1)),  # a segment's, less than the box's
                    "iscrowd": 0,
                }
            )
            for _ in range(rng.integers(0, 40)):
                moved = np.array(box) * rng.normal(1, 0.12, 4)
                found.append(
                    {"image_id": image, "category_id": 1, "bbox": moved.tolist(), "score": rng.uniform()}
                )
    return coco, found


def slow_recall(coco, found, limit, area):
    """Greedy by score: each proposal takes the free object that it covers best."""
    recalls = []
    for threshold in THRESHOLDS:
        hits = total = 0
        for image in coco["images"]:
            objects = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
            wanted = [AREAS[area][0] <= a["area"] <= AREAS[area][1] for a in objects]
            total += sum(wanted)
            taken = set()
            ranked = sorted((p for p in found if p["image_id"] == image["id"]), key=lambda p: -p["score"])
            for p in ranked[:limit]:
                corners = [[x, y, x + w, y + h] for x, y, w, h in (p["bbox"], *(a["bbox"] for a in objects))]
                overlaps = [oracles.iou(corners[0], c) for c in corners[1:]]
                # Objects of the wanted size come first, as in pycocotools.
                for group in (True, False):
                    free = [i for i in range(len(objects)) if i not in taken and wanted[i] == group]
                    best = max(free, key=lambda i: overlaps[i], default=None)
                    if best is not None and overlaps[best] >= threshold:
                        taken.add(best)
                        hits += group
                        break
        recalls.append(hits / total if total else -1)
    return float(np.mean(recalls))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_loop(seed, monkeypatch):
    monkeypatch.setattr(proposals, "LIMITS", (3, 1000))
    coco, found = random_case(np.random.default_rng(seed))
    metrics = proposals.evaluate(coco, found)
    for limit in (3, 1000):
        for area in AREAS:
            assert metrics[f"AR{limit}{area}"] == pytest.approx(
                slow_recall(coco, found, limit, area), abs=1e-9
            )


def test_perfect_none_and_crowd():
    box = [10.0, 10.0, 50.0, 40.0]
    annotation = {"id": 1, "image_id": 1, "category_id": 7, "bbox": box, "area": 2000.0, "iscrowd": 0}
    crowd = annotation | {"id": 2, "bbox": [100.0, 100.0, 90.0, 90.0], "iscrowd": 1}
    coco = {
        "images": [{"id": 1, "width": 300, "height": 300}],
        "annotations": [annotation, crowd],
        "categories": [{"id": 7, "name": "a"}],
    }
    perfect = proposals.evaluate(coco, [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.1}])
    assert perfect["AR100"] == perfect["AR1000_medium"] == 1.0
    assert perfect["AR1000_small"] == perfect["AR1000_large"] == -1.0
    assert proposals.evaluate(coco, [])["AR1000"] == 0.0
    assert set(perfect) == set(proposals.METRICS)


def test_segments_are_recalled_by_their_own_overlap():
    """An L of 3/4 of its box: the box as a segment covers it by 3/4, the L itself wholly."""
    from fpn_tf.data.segments import encode

    shape = np.zeros((100, 100), np.uint8)
    shape[10:70, 10:40] = shape[40:70, 40:70] = 1
    box = np.zeros((100, 100), np.uint8)
    box[10:70, 10:70] = 1
    annotation = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10.0, 10.0, 60.0, 60.0], "iscrowd": 0}
    annotation |= {"area": float(shape.sum()), "segmentation": encode(shape)}
    coco = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": [annotation],
        "categories": [{"id": 7, "name": "a"}],
    }

    def recall(segment):
        result = {"image_id": 1, "category_id": 1, "bbox": annotation["bbox"], "score": 0.5}
        return proposals.evaluate_segments(coco, [result | {"segmentation": encode(segment)}])

    assert recall(shape)["AR1000"] == recall(shape)["AR1000_medium"] == 1.0
    assert recall(box)["AR1000"] == pytest.approx(0.6)  # IoU .75: thresholds .5 to .75
    assert recall(box)["AR1000_small"] == -1.0
