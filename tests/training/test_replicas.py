"""Several devices of one process train and evaluate as one does."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import folder_overrides

from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints, read_weights
from fpn_tf.cluster import make_cluster
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.evaluation.evaluator import make_detector
from fpn_tf.training import loop


@pytest.fixture
def config(quick_config, coco_folder):
    changes = ["steps=5", "learning_rate=0.003", "batch_size=4", "clip_norm=0.5", "log_every=1"]
    changes = [*(f"train.{change}" for change in changes), "data.keep_empty=true", "eval.batch_size=1"]
    return config_lib.override(quick_config, [*folder_overrides(coco_folder), *changes])


def train(config, model_dir, replicas, parts):
    model_dir.mkdir()
    config = config_lib.replace(config, **{"train.accumulation_steps": parts})
    tf.config.run_functions_eagerly(replicas == 1)  # faster, where it is possible
    try:
        model, _ = loop.train(config, open_dataset(config.data, "train"), model_dir, make_cluster(replicas))
    finally:
        tf.config.run_functions_eagerly(False)
    lines = [json.loads(line) for line in (model_dir / "train.jsonl").read_text().splitlines()]
    return model.get_weights(), [[v for k, v in line.items() if k.endswith("_loss")] for line in lines]


@pytest.mark.parametrize(
    ("norm", "parts"),
    [
        ("frozen_bn", 1),
        pytest.param("group_norm", 1, marks=pytest.mark.slow),
        pytest.param("group_norm", 2, marks=pytest.mark.slow),
        pytest.param("sync_bn", 1, marks=pytest.mark.slow),
    ],
)
def test_two_replicas_train_as_one(config, tmp_path, norm, parts):
    config = config_lib.replace(config, **{"model.norm": norm})
    one, losses = train(config, tmp_path / "one", 1, 1)
    two, same_losses = train(config, tmp_path / "two", 2, parts)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(losses, same_losses, rtol=1e-4)


def test_two_replicas_evaluate_as_one(config, tmp_path):
    """Exactly: a photo's detections do not depend on where they are made.

    At a size that no other test detects at. oneDNN remembers, per thread, one algorithm for each
    shape of convolution; a detector whose kernels are constants (`backend.frozen`) that ran
    before in this process would leave some threads another one, and the last bits would differ.
    """
    config = config_lib.override(config, ["data.short_side=160", "data.max_side=224"])
    dataset, found = open_dataset(config.data, "eval"), []
    first = build(config)
    Checkpoints(tmp_path).save(1, lambda folder: first.save_weights(folder / "model.weights.h5"))
    for replicas in (1, 2):
        cluster = make_cluster(replicas)
        with cluster.strategy.scope():
            model = build(config)
            read_weights(model, Checkpoints(tmp_path).find())
        counts = []
        found.append(make_detector(model, dataset, config, cluster)(counts.append))
        assert counts[-1] == len(dataset.records)
    assert found[0].keys() == found[1].keys() == set(range(len(dataset.records)))
    for index, detections in found[0].items():
        assert len(detections.scores)
        for a, b in zip(detections, found[1][index]):
            np.testing.assert_array_equal(a, b)
