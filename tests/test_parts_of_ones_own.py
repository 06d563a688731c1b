"""Backbones, necks and heads from elsewhere: handed in, trained, saved, exported and given back."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from commands import SMALL
from conftest import folder_overrides, make_coco_folder
from keras.src.saving import saving_lib

import fpn_tf
from fpn_tf import config as config_lib
from fpn_tf import files
from fpn_tf.checkpoint import Checkpoints, write_model
from fpn_tf.errors import CheckpointError, WeightsError
from fpn_tf.pretrained.custom_parts import model_of
from fpn_tf.pretrained.loading import save_npz

MINE = '''
"""Parts that this project has never heard of."""

import keras

import fpn_tf
from experiments import coco_r50_fpn_1x
from fpn_tf.losses import mean_per_image


@keras.saving.register_keras_serializable("mine")
class PathAggregation(fpn_tf.FeaturePyramid):
    """A bottom-up path after the top-down one: p3 gets p2 at half the size added, and so on."""

    def build(self, input_shape):
        super().build(input_shape)
        self.downs = [
            keras.layers.Conv2D(self.channels, 3, 2, "same", data_format="channels_last", name=f"down{k}")
            for k in (3, 4, 5)
        ]
        for down in self.downs:
            down.build((None, None, None, self.channels))

    def call(self, maps, training=False):
        pyramid = super().call(maps, training=training)
        for k, down in zip((3, 4, 5), self.downs):
            pyramid[f"p{k}"] = pyramid[f"p{k}"] + down(pyramid[f"p{k - 1}"])
        return pyramid


@keras.saving.register_keras_serializable("mine")
class TintHead(fpn_tf.Head):
    """Tells which of three tints a box has."""

    loss_names = ("tint_loss",)
    truth_fields = {"tint": fpn_tf.TruthField()}

    def __init__(self, tints=3, **kwargs):
        super().__init__(**kwargs)
        self.tints, self.pool = tints, fpn_tf.ROIAlign(3, canonical_size=56)
        self.classifier = keras.layers.Dense(tints)

    def predict(self, pyramid, boxes, training=False):
        features = self.pool({k: v for k, v in pyramid.items() if k != "p6"}, boxes)  # [B, R, 3, 3, C]
        return {"tint": self.classifier(keras.ops.mean(features, axis=(2, 3)))}

    def losses(self, pyramid, rois, training=True):
        logits = self.predict(pyramid, rois.rois, training)["tint"]
        loss = keras.losses.sparse_categorical_crossentropy(rois.fields["tint"], logits, from_logits=True)
        return {"tint_loss": mean_per_image(loss, rois.valid & (rois.classes > 0))}

    def get_config(self):
        return super().get_config() | {"tints": self.tints}


def get_config():
    return coco_r50_fpn_1x.get_config()


def get_model(config):
    from fpn_tf.assemble import parts_of

    parts = parts_of(config) | {"neck": PathAggregation(16, name="neck"), "heads": [TintHead(name="tint")]}
    return fpn_tf.FasterRCNN(**parts)
'''
OVERRIDES = [o for o in SMALL if not o.startswith(("model.neck=", "model.backbone_weights"))]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The experiment `mine` in the current directory, as a module that can be imported."""
    folder = tmp_path / "project"
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "mine.py").write_text(MINE)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tinted(tmp_path):
    """A COCO-format folder whose annotations have a field `tint`."""
    root = make_coco_folder(tmp_path / "data")
    path = root / "annotations.json"
    coco = json.loads(path.read_text())
    for annotation in coco["annotations"]:
        annotation["tint"] = annotation["category_id"] % 3
    path.write_text(json.dumps(coco))
    return root


def trained(main_here, mine, tinted, model_dir, *overrides, mode="train_and_eval"):
    """A run of the experiment: (losses of its last step, standard output)."""
    status, out, err = main_here(
        f"--mode={mode}",
        "--experiment=mine",
        f"--model_dir={model_dir}",
        overrides=[*OVERRIDES, *folder_overrides(tinted), *overrides],
    )
    assert status == 0, err
    last = (model_dir / "train.jsonl").read_text().splitlines()[-1]
    return json.loads(last), out


@pytest.mark.usefixtures("eagerly")
def test_a_neck_and_a_head_of_ones_own_are_trained_and_given_back(mine, tinted, tmp_path, main_here):
    model_dir = tmp_path / "run"
    losses, out = trained(main_here, mine, tinted, model_dir, "train.steps=2", mode="train")
    assert losses["step"] == 2
    assert 0 < losses["tint_loss"] < 3
    terms = [value for name, value in losses.items() if name.endswith("_loss") and name != "total_loss"]
    assert losses["total_loss"] == pytest.approx(sum(terms), rel=1e-5)
    assert "tint_loss" in out

    model = fpn_tf.load(model_dir)
    assert type(model.neck).__name__ == "PathAggregation"
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    [detections] = model.detect(photo, score_threshold=0)
    assert len(detections) > 0
    assert detections.extra["tint"].shape == (len(detections), 3)
    assert detections[:2].extra["tint"].shape == (2, 3)
    # Every weight came back, those of the parts too.
    newest = Checkpoints(model_dir).find()
    again = fpn_tf.load(newest / "model.weights.h5")
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    names = {v.path for v in model.weights}
    assert any("down3" in name for name in names)
    assert any("tint" in name for name in names)
    with pytest.raises(WeightsError, match=r"parts of its own"):
        save_npz(model, tmp_path / "detector.npz")

    # Without the experiment, the run goes on with the parts that its checkpoint tells of.
    status, _, err = main_here("--mode=train", f"--model_dir={model_dir}", overrides=["train.steps=3"])
    assert status == 0, err
    assert json.loads((model_dir / "train.jsonl").read_text().splitlines()[-1])["step"] == 3


@pytest.mark.slow
def test_parts_of_ones_own_are_evaluated_drawn_and_exported(mine, tinted, tmp_path, main_here):
    model_dir = tmp_path / "run"
    losses, _ = trained(main_here, mine, tinted, model_dir)
    assert losses["step"] == 4
    assert files.read_json(model_dir / "eval" / "metrics.json")["step"] == 4
    assert len(list((model_dir / "pictures").glob("*.png"))) == 2
    import tensorflow as tf

    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    serve = tf.saved_model.load(model_dir / "export" / "1").signatures["image_tensor"]
    served = serve(image_tensor=tf.constant(photo[None]))
    [detections] = fpn_tf.load(model_dir).detect(photo)
    count = int(served["num_detections"][0])
    assert count == len(detections)
    np.testing.assert_allclose(served["detection_boxes"][0, :count], detections.boxes, atol=0.05)


def test_a_module_that_cannot_be_imported_is_named_in_one_line(tiny_config, tmp_path):
    parts = keras.saving.serialize_keras_object(fpn_tf.build(tiny_config))
    parts["config"]["neck"] |= {"module": "somewhere.else", "class_name": "Mine", "registered_name": "x>Mine"}
    files.write_json(tmp_path / "model.json", parts)
    with pytest.raises(CheckpointError) as caught:
        model_of(tiny_config, tmp_path)
    assert "Mine is a part from the module somewhere.else, which cannot be imported" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_lacks_a_weight_is_not_written(tiny_config, tmp_path, monkeypatch):
    model = fpn_tf.build(tiny_config)
    other = fpn_tf.build(config_lib.replace(tiny_config, **{"model.kind": "rpn"}))
    save = saving_lib._save_state
    monkeypatch.setattr(saving_lib, "_save_state", lambda saved, *a, **stores: save(other, *a, **stores))
    with pytest.raises(CheckpointError, match="did not save every weight"):
        Checkpoints(tmp_path).save(1, lambda folder: write_model(model, folder))
    assert Checkpoints(tmp_path).find() is None


def test_an_annotation_without_the_heads_field_is_told_before_the_first_step(
    mine, tinted, tmp_path, main_here
):
    path = tinted / "annotations.json"
    coco = files.read_json(path)
    del coco["annotations"][1]["tint"]
    path.write_text(json.dumps(coco))
    status, _, err = main_here(
        "--experiment=mine", f"--model_dir={tmp_path}/run", overrides=[*OVERRIDES, *folder_overrides(tinted)]
    )
    assert status == 1
    assert "annotations[1]" in err
    assert "'tint'" in err or ".tint" in err
    assert not (tmp_path / "run" / "train.jsonl").exists()


@pytest.mark.usefixtures("eagerly")
def test_two_heads_and_plain_fit(tinted):
    namespace = {}
    exec(compile(MINE.replace("from experiments import coco_r50_fpn_1x\n", ""), "mine", "exec"), namespace)
    head = namespace["TintHead"](name="tint")
    model = fpn_tf.FasterRCNN(
        "resnet_tiny",
        3,
        neck=namespace["PathAggregation"](16),
        heads=[head],
        preprocessor=fpn_tf.Preprocessor(short_side=64, max_side=96),
    )
    model.compile(keras.optimizers.SGD(0.001))
    batches = fpn_tf.batches(
        tinted / "annotations.json",
        tinted / "images",
        batch_size=2,
        preprocessor=model.preprocessor,
        truth_fields=model.truth_fields,
    )
    history = model.fit(batches, steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["tint_loss"]).all()


@pytest.mark.slow
def test_in_another_process_the_archive_is_loaded_by_its_registered_names(tmp_path):
    model = fpn_tf.FasterRCNN(
        "resnet_tiny", 2, neck=fpn_tf.FeaturePyramid(16), preprocessor=fpn_tf.Preprocessor(64, 96)
    )
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "photo.npy", photo)
    script = textwrap.dedent(
        """
        import sys, fpn_tf, keras, numpy as np
        model = keras.saving.load_model(sys.argv[1] + "/m.keras")
        [found] = model.detect(np.load(sys.argv[1] + "/photo.npy"), score_threshold=0)
        np.savez(sys.argv[1] + "/found.npz", boxes=found.boxes, scores=found.scores)
        """
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    [detections] = model.detect(photo, score_threshold=0)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["boxes"], detections.boxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"], detections.scores, atol=1e-5)
