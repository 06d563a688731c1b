"""Evaluation after evaluation in one process takes the memory of one."""

import pathlib
import resource
import weakref

import pytest
from conftest import folder_overrides, make_coco_folder, make_quick_config

from fpn_tf import build, modes
from fpn_tf import config as config_lib
from fpn_tf.cluster import make_cluster
from fpn_tf.data import pipeline
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.evaluation import evaluator
from fpn_tf.pretrained.model_dir import load_model_dir, write_model_dir


@pytest.fixture
def model_dir(tmp_path):
    """A model_dir that no run has trained, on the drawn folder."""
    root = make_coco_folder(tmp_path / "data")
    config = config_lib.override(make_quick_config(), [*folder_overrides(root), "eval.pictures=0"])
    write_model_dir(build(config), tmp_path / "run")
    return tmp_path / "run"


def test_a_model_that_is_dropped_is_freed_before_the_next_one(model_dir):
    config, model, _ = load_model_dir(model_dir)
    model.detector()
    reference = weakref.ref(model)
    del model
    _, model, _ = load_model_dir(model_dir)
    assert reference() is None
    assert model.config.model == config.model


@pytest.mark.usefixtures("eagerly")
def test_a_detector_makes_one_pipeline_for_all_its_evaluations(model_dir, monkeypatch):
    config, model, _ = load_model_dir(model_dir)
    made, read = [], pipeline._read
    monkeypatch.setattr(pipeline, "_read", lambda *arguments: made.append(1) or read(*arguments))
    detect = evaluator.make_detector(model, open_dataset(config.data, "eval"), config, make_cluster())
    first, second = detect(), detect()
    assert len(made) == 1
    assert first.keys() == second.keys() == set(range(6))
    for one, other in zip(first.values(), second.values()):
        assert (one.boxes == other.boxes).all()


@pytest.mark.slow
def test_host_memory_is_flat_over_20_evaluations(model_dir):
    resident = []
    for _ in range(20):
        modes.evaluate(model_dir, [], "newest")
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        resident.append(pages * resource.getpagesize() / 1e6)
    assert max(resident[5:]) < resident[4] + 20, resident  # MB
