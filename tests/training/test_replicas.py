"""Batch norm over replicas: each layout in a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from fpn_tf import config as config_lib

HERE = pathlib.Path(__file__).parent.parent
SCRIPT = """
import sys, numpy as np
from fpn_tf import config as config_lib
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.training import loop
from fpn_tf.cluster import make_cluster
folder, out = sys.argv[1:3]
config = config_lib.override(config_lib.load(folder), sys.argv[3:])
cluster = make_cluster(config.train.num_replicas)
dataset = open_dataset(config.data, "train")
import pathlib; pathlib.Path(out).mkdir()
model, _ = loop.train(config, dataset, out, cluster)
np.savez(out + "/w.npz", *[np.asarray(w) for w in model.get_weights()])
"""


def train(config, tmp_path, name, *overrides):
    config_lib.save(config, tmp_path / "config.json")
    arguments = [
        sys.executable,
        "-c",
        SCRIPT,
        str(tmp_path / "config.json"),
        str(tmp_path / name),
        *overrides,
    ]
    done = subprocess.run(
        arguments,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / name / "w.npz") as arrays:
        weights = [arrays[key] for key in arrays.files]
    return weights, (tmp_path / name / "train.jsonl").read_text().splitlines()


@pytest.mark.slow
def test_synchronized_norms_of_two_replicas_learn_as_one(folder_config, tmp_path):
    changes = ["steps=10", "learning_rate=0.003", "batch_size=4", "clip_norm=0.5"]
    changes = [*(f"train.{change}" for change in changes), "model.norm=sync_bn", "data.keep_empty=true"]
    config = config_lib.override(folder_config, changes)
    one, log_one = train(config, tmp_path, "one")
    two, log_two = train(config, tmp_path, "two", "train.num_replicas=2")
    assert len(one) == len(two)
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for a, b in zip(log_one, log_two, strict=True):
        assert json.loads(a)["total_loss"] == pytest.approx(json.loads(b)["total_loss"], rel=1e-3)
