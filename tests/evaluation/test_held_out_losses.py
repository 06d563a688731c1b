"""Losses on held-out photos: those of each photo alone, averaged, whatever the batches and replicas."""

import dataclasses
import types

import keras
import numpy as np
import pytest
from conftest import folder_overrides, make_quick_config

from fpn_tf import build
from fpn_tf import config as config_lib
from fpn_tf.cluster import make_cluster
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import evaluation_batches, open_dataset
from fpn_tf.errors import DataError
from fpn_tf.evaluation import evaluator
from fpn_tf.evaluation.evaluator import make_detector, make_examiner
from fpn_tf.evaluation.held_out_losses import BatchLosses, losses_of, mean_losses
from fpn_tf.modes import full_run
from fpn_tf.structures import TruthField
from fpn_tf.training import loop

NAMES = ("rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss", "total_loss")


@pytest.fixture
def config(coco_folder):
    """With batch norm that learns in training, which an evaluation must not touch."""
    return config_lib.override(make_quick_config(), [*folder_overrides(coco_folder), "model.norm=sync_bn"])


@pytest.fixture
def model(config):
    keras.utils.set_random_seed(3)
    return build(config)


def opened(config, photos):
    """The first photos of the held-out set."""
    dataset = open_dataset(config.data, "eval")
    return dataclasses.replace(dataset, records=dataset.records[:photos])


def examined(model, dataset, config, replicas=1):
    return make_examiner(model, dataset, config, make_cluster(replicas))()


def test_means_are_over_photos():
    batches = [
        BatchLosses({"a": np.array([1.0, 3.0]), "b": np.array([np.inf, 1.0])}, np.array([1.0, 2.0])),
        BatchLosses({"a": np.array([5.0, np.nan]), "b": np.array([1.0, 1.0])}, np.array([1.0, 0.0])),
    ]
    assert mean_losses(batches) == {"a": (1 * 1 + 2 * 3 + 1 * 5) / 4}  # b is not finite
    assert mean_losses(batches[1:]) == {"a": 5.0, "b": 1.0}
    assert mean_losses([BatchLosses({"a": np.array([1.0])}, np.array([0.0]))]) == {}


@pytest.mark.usefixtures("eagerly")
def test_they_are_those_of_each_photo_and_change_nothing(config, model):
    dataset = opened(config, 3)
    before = [np.array(v) for v in model.variables]
    detections, losses = examined(model, dataset, config)
    plain = make_detector(model, dataset, config, make_cluster())()
    assert detections.keys() == plain.keys() == set(range(3))
    for index, of_photo in plain.items():
        assert len(of_photo)
        for a, b in zip(detections[index], of_photo):
            np.testing.assert_array_equal(a, b)
    of_photos = []
    for batch in evaluation_batches(Loader(dataset, config.data), config.data, 1):
        np.testing.assert_array_equal(batch["sample_seeds"], batch["indices"])
        x, y = ({key: batch[key] for key in keys} for keys in (("images", "image_sizes"), batch))
        of_photo = model.compute_losses(y, model.propose(x), training=False)
        of_photos.append([float(value) for value in of_photo.values()])
    means = np.mean(of_photos, axis=0)
    assert list(losses) == list(NAMES)
    np.testing.assert_allclose(list(losses.values()), [*means, means.sum()], rtol=1e-5)
    assert min(losses.values()) > 0
    for value, variable in zip(before, model.variables):
        np.testing.assert_array_equal(value, variable)


@pytest.mark.slow
def test_two_replicas_tell_those_of_one(config, tmp_path):
    config = config_lib.override(config, ["eval.batch_size=1"])
    weights, of_replicas = tmp_path / "model.weights.h5", []
    dataset = opened(config, 5)  # so that a replica has a blank image
    for replicas in (1, 2):
        cluster = make_cluster(replicas)
        with cluster.strategy.scope():
            model = build(config)
            if replicas == 1:
                model.save_weights(weights)
            model.load_weights(weights)
        of_replicas.append(make_examiner(model, dataset, config, cluster)()[1])
    one, two = of_replicas
    assert list(one) == list(two) == list(NAMES)
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)


@pytest.mark.parametrize(
    ("has_classes", "valid"), [(True, [True, False, False]), (False, [True, True, False])]
)
def test_objects_of_classes_that_the_model_lacks_are_not_learned_from(has_classes, valid):
    def compute_losses(y, outputs, training):
        assert (outputs, training) == ("outputs", False)
        assert keras.ops.convert_to_numpy(y["valid"]).tolist() == [valid]
        return {"a": keras.ops.array(2.0), "b": keras.ops.array(1.0)}

    model = types.SimpleNamespace(
        num_classes=3,
        truth_fields={},
        compute_losses=compute_losses,
        total_loss=lambda losses: sum(losses.values()) + 0.5,
    )
    batch = {"classes": np.array([[3, 4, 0]]), "valid": np.array([[True, True, False]])}
    batch |= {"indices": np.array([7, 9]), "images": None}
    losses, photos = losses_of(model, batch, "outputs", has_classes)
    values = {name: keras.ops.convert_to_numpy(value).tolist() for name, value in losses.items()}
    assert values == {"a": [2.0], "b": [1.0], "total_loss": [3.5]}
    assert keras.ops.convert_to_numpy(photos).tolist() == [2.0]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_a_run_that_asks_for_them_is_bit_equal(config, tmp_path):
    config = config_lib.override(config, ["train.steps=2", "train.eval_every=1"])
    held_out, told = opened(config, 2), []

    def quality(model, step):
        told.append(make_examiner(model, held_out, config, make_cluster())()[1])
        return 0.5

    dataset, weights = open_dataset(config.data, "train"), []
    for name, evaluate in (("with", quality), ("without", None)):
        (tmp_path / name).mkdir()
        model, _ = loop.train(config, dataset, tmp_path / name, make_cluster(), evaluate)
        weights.append(model.get_weights())
    assert len(told) == 2
    assert told[0] != told[1]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_held_out_set_without_a_heads_fields_is_scored_all_the_same(config, monkeypatch, capsys):
    model = types.SimpleNamespace(truth_fields={"mood": TruthField()})
    monkeypatch.setattr(evaluator, "make_detector", lambda *a: lambda on_batch: {0: "detections"})
    dataset = open_dataset(config.data, "eval")
    with pytest.raises(DataError):
        open_dataset(config.data, "eval", model.truth_fields)
    assert full_run._examiner(model, dataset, config, None)(None) == ({0: "detections"}, {})
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("note: no losses on the held-out set: ")
    assert "annotations[0] (id 1): no 'mood'" in line


def test_a_heads_fields_are_read_for_them(config, monkeypatch):
    fields = {"area": TruthField(dtype="float32")}
    model, asked = types.SimpleNamespace(truth_fields=fields), []
    monkeypatch.setattr(evaluator, "make_examiner", lambda model, dataset, *a: asked.append(dataset))
    held_out = open_dataset(config.data, "eval")
    held_out = dataclasses.replace(held_out, category_ids=(1, 2, 3))
    full_run._examiner(model, held_out, config, None)
    assert asked[0].category_ids == (1, 2, 3)
    assert asked[0].truth_fields == fields
    areas = {a["id"]: a["area"] for a in held_out.coco["annotations"]}
    assert sum(float(record.fields["area"].sum()) for record in asked[0].records) == pytest.approx(
        sum(areas[a["id"]] for a in held_out.coco["annotations"] if not a["iscrowd"])
    )
