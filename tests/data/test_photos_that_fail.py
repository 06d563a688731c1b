"""Photos that cannot be read for a moment, or no longer."""

import collections
import dataclasses

import numpy as np
import pytest

from fpn_tf import build
from fpn_tf.cluster import make_cluster
from fpn_tf.config import override
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.plan import evaluation_plan, training_plan
from fpn_tf.errors import DataError
from fpn_tf.evaluation import evaluator
from fpn_tf.structures import Detections


def failing(dataset, times, error=None):
    """A Dataset whose photos cannot be read the first few times: an error, or half of the file."""
    reads = collections.Counter()

    def read_bytes(index):
        reads[index] += 1
        data = dataset.read_bytes(index)
        if reads[index] > times:
            return data
        if error:
            raise error
        return data[: len(data) // 2]

    return dataclasses.replace(dataset, read_bytes=read_bytes), reads


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), TimeoutError(), None])
def test_a_photo_that_fails_once_is_read_again(error, folder_config, caplog):
    data = folder_config.data
    dataset = open_dataset(data, "train")
    shaky, reads = failing(dataset, 1, error)
    for plan, method in (
        (next(training_plan(dataset.records, data, 2, 0)), "training_batch"),
        (evaluation_plan(dataset.records, data, 2)[0], "evaluation_batch"),
    ):
        reads.clear()
        loader = Loader(shaky, data)
        batch, expected = getattr(loader, method)(plan), getattr(Loader(dataset, data), method)(plan)
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])
        assert loader.bad == {}
        assert set(reads.values()) == {2}
    assert not caplog.records


def test_a_photo_that_fails_twice_is_bad_and_read_no_more(folder_config, caplog):
    dataset, reads = failing(open_dataset(folder_config.data, "train"), 2, OSError(5, "Input/output error"))
    [plan, *_] = evaluation_plan(dataset.records[:1], folder_config.data, 1)
    loader = Loader(dataset, folder_config.data)
    for _ in range(3):
        assert loader.evaluation_batch(plan)["indices"].tolist() == [-1]
    assert loader.bad == {0: "[Errno 5] Input/output error"}
    assert reads == {0: 2}
    assert caplog.text.count("skipped: ") == 1


def test_a_set_without_a_readable_photo_is_refused(folder_config, monkeypatch):
    """Not scored as an AP of nothing."""
    config = override(folder_config, ["data.max_bad_fraction=1", "eval.short_sides=32,64"])
    dataset, _ = failing(open_dataset(config.data, "eval"), 10**6, OSError(5, "Input/output error"))
    monkeypatch.setattr(evaluator, "_by_record", lambda results, *rest: list(results) and {})
    monkeypatch.setattr(evaluator, "_detection_step", lambda model, batch: batch["indices"])
    detect = evaluator.make_detector(None, dataset, config, make_cluster())
    with pytest.raises(DataError) as caught:
        detect()
    message = "none of the 6 photos to evaluate can be read: [Errno 5] Input/output error"
    assert str(caught.value) == message


def test_a_photo_that_is_read_at_one_scale_alone_counts_with_that(tiny_config):
    one, other = (
        Detections(np.array([[0, 0, size, size]], "f"), np.array([0.5], "f"), np.array([3]))
        for size in (8, 80)
    )
    model = build(tiny_config)
    merged = evaluator._merged_by_record([{0: one}, {0: one, 1: other}, {}], model)
    assert list(merged) == [0, 1]
    np.testing.assert_array_equal(merged[1].boxes, other.boxes)
    assert len(merged[0]) == 1
