import os
import signal
import types

import numpy as np
import oracles
import pytest
from keras import ops

from fpn_tf import build, config, interrupts
from fpn_tf.cluster import make_cluster
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.evaluation import evaluator
from fpn_tf.evaluation.evaluator import make_detector, merged
from fpn_tf.structures import BatchDetections, Detections


def random_detections(random, count):
    corner = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(10, 60, (count, 2))], axis=1).astype("f")
    scores = np.sort(random.uniform(size=count).astype("f"))[::-1]
    return Detections(boxes, scores, random.choice([3, 7], count))


@pytest.mark.parametrize("limit", [8, 100])
def test_merging_is_nms_of_each_class_over_all_scales(tiny_config, limit):
    random = np.random.default_rng(0)
    parts = [random_detections(random, count) for count in (20, 0, 15)]
    model = types.SimpleNamespace(max_detections=limit, nms_threshold=tiny_config.eval.nms_threshold)
    detections = merged(parts, model)
    boxes, scores, classes = (np.concatenate(x) for x in zip(*parts))
    kept = []
    for kind in (3, 7):
        kept += oracles.nms(boxes, scores, classes == kind, tiny_config.eval.nms_threshold, len(scores))
    kept = sorted(kept, key=lambda i: -scores[i])[:limit]
    assert len(kept) < len(scores)
    np.testing.assert_array_equal(detections.boxes, boxes[kept])
    np.testing.assert_array_equal(detections.scores, scores[kept])
    np.testing.assert_array_equal(detections.classes, classes[kept])


def test_nothing_at_any_scale_stays_nothing():
    nothing = random_detections(np.random.default_rng(0), 0)
    model = types.SimpleNamespace(max_detections=8, nms_threshold=0.5)
    assert len(merged([nothing, nothing], model)) == 0


def test_detections_of_several_scales_are_merged(folder_config, monkeypatch):
    dataset, cluster = open_dataset(folder_config.data, "eval"), make_cluster()

    def boxes_of_pixels(x, training):
        """Boxes that depend on the pixels and the size of what is shown, at no cost."""
        batch, limit = ops.shape(x["images"])[0], 10
        brightness = ops.mean(ops.cast(x["images"], "float32"), axis=(1, 2, 3)) / 255
        side = ops.cast(x["image_sizes"][:, 0], "float32")
        steps = ops.arange(limit, dtype="float32")
        low = steps * side[:, None] / 20 + brightness[:, None]
        boxes = ops.stack([low, low, low + side[:, None] / 8, low + side[:, None] / 4], axis=-1)
        scores = brightness[:, None] * (1 - steps / limit) * 64 / side[:, None]
        ones = ops.ones((batch, limit), "int32")
        return BatchDetections(boxes, scores, ones, ones > 0)

    model = build(folder_config)
    monkeypatch.setattr(model, "call", boxes_of_pixels)

    def detect(**changes):
        counts, settings = [], config.replace(folder_config, **changes)
        detections = make_detector(model, dataset, settings, cluster)(counts.append)
        assert counts == sorted(counts)
        assert counts[-1] == len(dataset.records)
        return detections

    both = detect(**{"eval.short_sides": (64, 128)})
    small = detect()
    large = detect(**{"data.short_side": 128, "data.max_side": 192})
    assert len(small) == len(large) == len(both) == 6
    for index, detections in both.items():
        expected = merged([small[index], large[index]], model)
        for a, b in zip(detections, expected):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(small[index].boxes, large[index].boxes)
        assert not np.array_equal(small[index].scores, large[index].scores)


class TwoWorkers:
    """A Cluster of two workers, as far as one of them sees it; the other one's signal comes at some batch."""

    workers = 2

    def __init__(self, other_stops_at):
        self.batches, self.other_stops_at = 0, other_stops_at

    def gathered(self, function, element_spec):
        def step(inputs):
            self.batches += 1
            results, stop = function(inputs)
            return results, np.concatenate([stop, [self.batches == self.other_stops_at]])

        return step


@pytest.mark.parametrize(("own", "other", "number"), [(2, None, "SIGHUP"), (None, 3, "SIGTERM")])
def test_workers_stop_together_after_the_batch_of_a_signal(own, other, number):
    cluster = TwoWorkers(other)

    def function(batch):
        if batch == own:
            os.kill(os.getpid(), signal.SIGHUP)
        return (batch,)

    results_of = evaluator._stopping_together(function, None, cluster)
    with pytest.raises(interrupts.Interrupt) as error, evaluator._signals_of(cluster) as caught:
        list(results_of(iter(range(1, 9)), caught))
    assert error.value.number.name == number
    assert cluster.batches == 3
