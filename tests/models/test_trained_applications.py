"""Models of keras.applications as backbones pass through every mode of the command, each of them."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest
from nets import net

import fpn_tf
from fpn_tf.checkpoint import Checkpoints
from fpn_tf.data import shapes
from fpn_tf.models.backbones import applications

pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="main.py trains on TensorFlow")
TRIED = ("MobileNetV3Large", "EfficientNetV2B0", "ConvNeXtTiny", "DenseNet121", "ResNet50V2")
STEPS, CHECKPOINT = 24, 20
SETTINGS = f"""
model.norm=sync_bn model.frozen_stages=0 train.steps={STEPS} train.warmup_steps=5 train.log_every=1
train.checkpoint_every={CHECKPOINT} train.learning_rate=0.0005 eval.score_threshold=0 eval.batch_size=2
eval.pictures=1
""".split()


@pytest.fixture(scope="module")
def shapes_dir(tmp_path_factory):
    """Where TFDS makes a small `shapes`."""
    folder = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", {"train": 48, "validation": 4})
        yield folder


def losses_of(model_dir):
    """The total loss of every step in train.jsonl."""
    lines = (model_dir / "train.jsonl").read_text().splitlines()
    return [values["total_loss"] for values in map(json.loads, lines) if "total_loss" in values]


def arrays_of(model_dir):
    """{name: array} of the newest checkpoint's weights and optimizer."""
    folder, arrays = Checkpoints(model_dir).find(), {}

    def keep(name, value):
        if isinstance(value, h5py.Dataset):
            arrays[name] = value[()]

    with h5py.File(folder / "model.weights.h5") as h5:
        h5.visititems(keep)
    with np.load(folder / "optimizer.npz") as optimizer:
        return arrays | dict(optimizer)


def overrides_for(name, shapes_dir, *more):
    return [f"model.backbone=keras_applications/{name}", f"data.tfds_dir={shapes_dir}", *SETTINGS, *more]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_an_application_is_trained_resumed_exported_and_given_back(name, shapes_dir, tmp_path, main_here):
    import tensorflow as tf

    model_dir = tmp_path / "run"
    status, _, errors = main_here(
        "--mode=train",
        "--experiment=shapes",
        f"--model_dir={model_dir}",
        overrides=overrides_for(name, shapes_dir),
    )
    assert status == 0, errors
    losses = losses_of(model_dir)
    assert len(losses) == STEPS
    assert np.mean(losses[CHECKPOINT - 5 : CHECKPOINT]) < np.mean(losses[:5])

    # A run that goes on from a checkpoint ends as the one that was not interrupted.
    resumed = tmp_path / "resumed"
    shutil.copytree(model_dir, resumed)
    shutil.rmtree(resumed / "checkpoints" / f"step_{STEPS:08d}")
    status, output, errors = main_here("--mode=train", f"--model_dir={resumed}")
    assert status == 0, errors
    assert f"step {CHECKPOINT} of {STEPS}" in output
    assert (resumed / "checkpoints" / f"step_{STEPS:08d}").exists()
    expected, arrays = arrays_of(model_dir), arrays_of(resumed)
    assert set(arrays) == set(expected)
    assert [name for name in expected if not np.array_equal(arrays[name], expected[name])] == []

    status, _, errors = main_here("--mode=export", f"--model_dir={model_dir}")
    assert status == 0, errors
    photo, _, _ = shapes.draw_example("validation", 0)
    model = fpn_tf.load(model_dir)
    [detections] = model.detect(photo)
    assert len(detections) > 0
    served = tf.saved_model.load(model_dir / "export" / "1").signatures["image_tensor"](
        image_tensor=tf.constant(photo[None])
    )
    count = int(served["num_detections"][0])
    assert count == len(detections)
    np.testing.assert_allclose(served["detection_boxes"][0, :count], detections.boxes, atol=1e-2)
    np.testing.assert_allclose(served["detection_scores"][0, :count], detections.scores, atol=1e-5)
    np.testing.assert_array_equal(served["detection_classes"][0, :count], detections.classes)

    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    expected, maps = (m.pyramid(m.preprocessor.inputs(photo), training=False) for m in (model, again))
    for name, level in expected.items():
        np.testing.assert_allclose(maps[name], level, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["train.num_replicas=2", "train.accumulation_steps=2"])
def test_dropout_resumes_alike_in_lower_precision_and_every_layout(
    layout, shapes_dir, tmp_path, main_here, monkeypatch
):
    """EfficientNetV2B0 in small: a net with dropout, as if it were a model of keras.applications."""

    def small_one(include_top, weights, input_shape):
        return net(dropout=0.2)

    small_one.__module__ = keras.applications.EfficientNetV2B0.__module__
    monkeypatch.setattr(applications, "_constructors", lambda: {"EfficientNetV2B0": small_one})
    more = [layout, "train.precision=mixed_bfloat16", "train.steps=4", "train.checkpoint_every=2"]
    overrides = overrides_for("EfficientNetV2B0", shapes_dir, *more)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    status, _, errors = main_here(
        "--mode=train", "--experiment=shapes", f"--model_dir={whole}", overrides=overrides
    )
    assert status == 0, errors
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step_00000004")
    status, output, errors = main_here("--mode=train", f"--model_dir={resumed}")
    assert status == 0, errors
    assert "step 2 of 4" in output
    expected, arrays = arrays_of(whole), arrays_of(resumed)
    assert [name for name in expected if not np.array_equal(arrays[name], expected[name])] == []
    assert {layer.compute_dtype for layer in fpn_tf.load(whole).backbone.layers[1:]} == {"bfloat16"}
