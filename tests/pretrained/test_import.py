"""Imported weights make an ordinary model_dir: evaluate, export, fine-tune."""

import json

import keras
import numpy as np
import pytest
from conftest import folder_overrides

import fpn_tf
from fpn_tf import config, modes
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints, is_import
from fpn_tf.errors import CheckpointError, DataError
from fpn_tf.pretrained import naming
from fpn_tf.pretrained.model_dir import start_from_import

SMALL = {
    "data.short_side": 64,
    "data.max_side": 96,
    "eval.score_threshold": 0.0,
    "eval.pictures": 1,
    "model.frozen_stages": 0,
    "model.rpn.pre_nms_train": 64,
    "model.rpn.post_nms_train": 40,
    "model.roi.samples": 16,
}
TRAINING = {
    "train.steps": 1,
    "train.batch_size": 2,
    "train.learning_rate": 1e-9,
    "train.warmup_steps": 0,
}


def as_texts(values):
    return [f"{key}={value}" for key, value in values.items()]


@pytest.fixture
def weights(tiny_config, tmp_path):
    """Files of tiny detectors with 3 and 2 classes: {number: (path, arrays)}."""
    files = {}
    for classes in (2, 3):
        keras.utils.set_random_seed(classes)
        changes = {"model.num_classes": classes, "model.norm": "frozen_bn"}
        arrays = naming.state_dict(build(config.replace(tiny_config, **changes)))
        files[classes] = tmp_path / f"{classes}.npz", arrays
        np.savez(files[classes][0], **arrays)
    return files


@pytest.fixture
def imported(weights, tmp_path, coco_folder):
    """A model_dir made of the weights of 3 classes, and the overrides that name a folder of photos."""
    modes.import_weights(str(weights[3][0]), tmp_path / "run", as_texts(SMALL))
    return tmp_path / "run", folder_overrides(coco_folder)


def test_an_import_is_whole_and_replaces_nothing(imported, weights, tmp_path):
    model_dir, _ = imported
    model = fpn_tf.load(model_dir)
    for name, array in naming.state_dict(model).items():
        np.testing.assert_array_equal(array, weights[3][1][name])
    before = (model_dir / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="holds a run already"):
        modes.import_weights(str(weights[2][0]), model_dir, [])
    assert (model_dir / "config.json").read_bytes() == before


@pytest.mark.usefixtures("eagerly")
def test_evaluation_takes_the_ids_of_the_data(imported):
    model_dir, folder = imported
    modes.evaluate(model_dir, folder, "newest")
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    assert set(metrics["per_class"]) == {"red", "green", "blue"}
    found = json.loads((model_dir / "eval" / "detections.json").read_text())
    assert {d["category_id"] for d in found} <= {7, 3, 90}
    assert found


def test_evaluation_on_data_of_other_classes_is_refused(weights, tmp_path, coco_folder):
    modes.import_weights(str(weights[2][0]), tmp_path / "two", as_texts(SMALL))
    truth = json.loads((coco_folder / "annotations.json").read_text())
    for category in truth["categories"] + truth["annotations"]:
        key = "category_id" if "category_id" in category else "id"
        category[key] += 100
    (coco_folder / "annotations.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"classes 107: red, 103: green, 190: blue; the model has 1, 2; exp"):
        modes.evaluate(tmp_path / "two", folder_overrides(coco_folder), "newest")


def test_weights_go_back_to_torchvision(imported, weights, monkeypatch, capsys):
    model_dir, _ = imported
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # as where it is not installed
    modes.export(model_dir, [], "newest", "torchvision")
    written = np.load(model_dir / "export" / "torchvision.npz")
    assert set(written.files) == set(weights[3][1])
    for name in written.files:
        np.testing.assert_array_equal(written[name], weights[3][1][name])
    modes.export(model_dir, [], "newest", "npz")
    again = fpn_tf.load(model_dir / "export" / "detector.npz")
    assert again.config == fpn_tf.load(model_dir).config
    assert "exported step 0" in capsys.readouterr().out


@pytest.mark.parametrize("classes", [2, 3])
def test_what_fine_tuning_starts_from(weights, tmp_path, classes):
    """For 3 classes a predictor of 2 is new, one of 3 is kept."""
    model_dir = tmp_path / "run"
    modes.import_weights(str(weights[classes][0]), model_dir, as_texts(SMALL))
    settings = config.replace(config.load(model_dir / "config.json"), **{"model.num_classes": 3})
    model = build(settings)
    new = naming.state_dict(model)
    told = start_from_import(model, Checkpoints(model_dir).find())
    assert ("the predictor is new: 3 classes, not their 2" in told) == (classes == 2)
    for name, array in naming.state_dict(model).items():
        from_file = classes == 3 or "box_predictor" not in name
        np.testing.assert_array_equal(array, (weights[classes][1] if from_file else new)[name])


@pytest.mark.usefixtures("eagerly")
def test_fine_tuning(weights, tmp_path, coco_folder, capsys):
    model_dir = tmp_path / "run"
    modes.import_weights(str(weights[2][0]), model_dir, as_texts(SMALL))
    settings = config.load(model_dir / "config.json")
    settings = config.override(settings, as_texts(TRAINING) + folder_overrides(coco_folder))
    modes.train(settings, model_dir)
    assert "the predictor is new" in capsys.readouterr().out.replace("\n", " ")
    assert Checkpoints(model_dir).find().name == "step_00000001"
    assert not is_import(Checkpoints(model_dir).find())  # from here on it is a resume
    trained = fpn_tf.load(model_dir)
    assert trained.config.model.num_classes == 3
    assert trained.config.data.class_names == ("red", "green", "blue")
    for name, array in naming.state_dict(trained).items():
        if "box_predictor" not in name:
            np.testing.assert_allclose(array, weights[2][1][name], atol=1e-6, err_msg=name)


def test_another_architecture_cannot_start_from_an_import(imported):
    model_dir, folder = imported
    settings = config.override(config.load(model_dir / "config.json"), as_texts(TRAINING) + folder)
    before = (model_dir / "config.json").read_bytes()
    for key, value, told in (("neck_channels", 24, "16"), ("pixel_order", "bgr", "rgb")):
        with pytest.raises(CheckpointError, match=f"has model.{key}={told}, this run asks for {value}"):
            modes.train(config.replace(settings, **{f"model.{key}": value}), model_dir)
    assert (model_dir / "config.json").read_bytes() == before


@pytest.mark.usefixtures("eagerly")
def test_an_rpn_alone_is_scored_by_recall(weights, tmp_path, coco_folder, capsys):
    alone = {name: array for name, array in weights[3][1].items() if "roi_heads" not in name}
    np.savez(tmp_path / "rpn.npz", **alone)
    model_dir = tmp_path / "rpn"
    modes.import_weights(str(tmp_path / "rpn.npz"), model_dir, as_texts(SMALL))
    modes.evaluate(model_dir, folder_overrides(coco_folder), "newest")
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    assert 0 < metrics["AR1000"] <= 1
    assert "AR1000_small" in capsys.readouterr().out


@pytest.mark.slow
def test_an_rpn_alone_trains(weights, tmp_path, coco_folder, capsys):
    alone = {name: array for name, array in weights[3][1].items() if "roi_heads" not in name}
    np.savez(tmp_path / "rpn.npz", **alone)
    model_dir = tmp_path / "rpn"
    modes.import_weights(str(tmp_path / "rpn.npz"), model_dir, as_texts(SMALL))
    settings = config.load(model_dir / "config.json")
    settings = config.override(settings, as_texts(TRAINING) + folder_overrides(coco_folder))
    modes.train_and_eval(settings, model_dir)
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    assert 0 < metrics["AR1000"] <= 1
    assert "AR1000_small" in capsys.readouterr().out
    assert (model_dir / "export" / "1" / "saved_model.pb").is_file()
