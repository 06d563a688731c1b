"""One optimisation step: the same whatever the layout, and with a gradient on every level."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_quick_config, make_tiny_config

from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.cluster import make_cluster
from fpn_tf.config import TrainConfig
from fpn_tf.training.optimizer import make_optimizer
from fpn_tf.training.step import gradients_in_parts, make_train_step

# Without momentum, decay and clipping a step is the learning rate times the gradient.
PLAIN = TrainConfig(learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_steps=0)


def distributed(cluster, batch):
    """A batch dealt to a cluster's replicas in order: (x, y) and their spec."""
    dataset = tf.data.Dataset.from_tensor_slices(batch)
    dataset = dataset.batch(len(batch[0]["images"]) // cluster.replicas, drop_remainder=True)
    batches = cluster.distribute(dataset)
    return next(iter(batches)), batches.element_spec


def step_and_losses(config, batch, replicas=1, parts=1):
    """What one step of plain SGD takes off each trainable weight, by path, and its losses."""
    cluster = make_cluster(replicas)
    keras.utils.set_random_seed(0)
    with cluster.strategy.scope():
        model = build(config)
        optimizer = make_optimizer(PLAIN)
        optimizer.build(model.trainable_variables)
    (x, y), spec = distributed(cluster, batch)
    before = [np.array(v) for v in model.trainable_variables]
    tf.config.run_functions_eagerly(replicas == 1)  # faster, where it is possible
    try:
        result = make_train_step(model, optimizer, cluster, spec, parts)(x, y, False)
    finally:
        tf.config.run_functions_eagerly(False)
    assert result.finite
    paths = [v.path.partition("/")[2] for v in model.trainable_variables]
    steps = [a - np.array(v) for a, v in zip(before, model.trainable_variables)]
    return dict(zip(paths, steps, strict=True)), np.array(list(result.losses.values()))


@pytest.fixture(scope="module")
def four_images():
    """Photos whose losses differ, so that no layout may weigh one more than another."""
    rng = np.random.default_rng(0)
    x = {
        "images": rng.integers(0, 256, (4, 64, 96, 3), dtype=np.uint8),
        "image_sizes": np.array([[64, 96], [50, 80], [64, 64], [40, 96]], np.int32),
    }
    corners = np.array([[4, 4, 30, 40], [10, 12, 60, 48], [20, 2, 62, 60], [1, 3, 90, 30]], np.float32)
    y = {
        "boxes": np.stack([corners, corners[::-1]], axis=1),
        "classes": np.array([[1, 3], [2, 1], [3, 3], [1, 2]], np.int32),
        "valid": np.array([[True, True], [True, False], [True, True], [True, False]]),
        "sample_seeds": np.array([11, 12, 13, 14], np.int32),
    }
    return x, y


@pytest.fixture(scope="module")
def whole_step(four_images):
    return step_and_losses(make_quick_config(), four_images)


@pytest.mark.parametrize(("replicas", "parts"), [(1, 2), (2, 1)])
def test_an_unclipped_step_is_the_same_in_every_layout(whole_step, four_images, replicas, parts):
    """Clipping would hide a gradient that is twice as long."""
    expected, losses = whole_step
    steps, same_losses = step_and_losses(make_quick_config(), four_images, replicas, parts)
    np.testing.assert_allclose(same_losses, losses, rtol=1e-5)
    for path, step in expected.items():
        largest = np.abs(step).max()
        assert largest > 0, path
        np.testing.assert_allclose(steps[path], step, rtol=0, atol=1e-3 * largest, err_msg=path)


@pytest.mark.parametrize("parts", [1, 2])
def test_what_layers_add_counts_once_in_every_layout(four_images, parts):
    """A regularizer's share of the gradient is that of the whole batch's losses."""
    model = build(make_quick_config())
    kernel = model.rpn.head.objectness.kernel
    kernel.regularizer = keras.regularizers.L2(100.0)
    optimizer = make_optimizer(PLAIN)
    optimizer.build(model.trainable_variables)
    x, y = tf.nest.map_structure(tf.constant, four_images)
    losses, gradients = gradients_in_parts(model, optimizer, x, y, 1, parts)
    decay = 100 * tf.reduce_sum(kernel**2)
    named = sum(loss for name, loss in losses.items() if name != "total_loss")
    np.testing.assert_allclose(losses["total_loss"] - named, decay, rtol=1e-4)
    [gradient] = [g for g, v in zip(gradients, model.trainable_variables) if v is kernel]
    slope = tf.reduce_sum(gradient * kernel) / tf.reduce_sum(kernel**2)
    np.testing.assert_allclose(slope, 200, rtol=0.05)


def octaves():
    """One photo of 512 x 640 with square boxes of 12 to 480 pixels, as (x, y).

    Each level's anchors (16, 32, ..., 256 pixels) are the best of some box, and of RoIs as large as the
    boxes some are pooled from p2 (up to 56 pixels, for a canonical size of 112), p3 (up to 112), p4 (up
    to 224) and p5; the largest would be pooled from p6, if RoIs were.
    """
    rng = np.random.default_rng(1)
    sides = np.array([12, 24, 50, 100, 200, 260, 480])
    corners = np.array([[600, 20], [560, 80], [500, 150], [500, 300], [420, 300], [140, 240], [10, 20]])
    boxes = np.concatenate([corners, corners + sides[:, None]], axis=1).astype(np.float32)
    x = {
        "images": rng.integers(0, 256, (1, 512, 640, 3), dtype=np.uint8),
        "image_sizes": np.array([[512, 640]], np.int32),
    }
    y = {
        "boxes": boxes[None],
        "classes": np.array([[1, 2, 3, 1, 2, 3, 1]], np.int32),
        "valid": np.ones((1, 7), bool),
        "sample_seeds": np.array([5], np.int32),
    }
    return x, y


@pytest.fixture(scope="module")
def gradients_of_octaves():
    """Of the RPN's losses and of the box head's: {"rpn" or "head": {path of a weight or map: gradient}}."""
    changes = {
        "model.norm": "frozen_bn",
        "model.rpn.anchor_sizes": (16, 32, 64, 128, 256),
        "model.rpn.shared_head": False,  # weights of their own, so that each level shows
        "model.rpn.samples": 256,
        "model.roi.canonical_size": 112,
        "model.roi.samples": 64,  # more than there are proposals and boxes: all are drawn
        "model.roi.foreground_fraction": 1.0,
    }
    model = build(config_lib.replace(make_tiny_config(), **changes).validate())
    x, y = (tf.nest.map_structure(tf.constant, part) for part in octaves())
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(x, training=True)
        losses = model.compute_losses(y, outputs)
        parts = {
            "rpn": losses["rpn_objectness_loss"] + losses["rpn_box_loss"],
            "head": losses["head_class_loss"] + losses["head_box_loss"],
        }
    sources = {v.path.partition("/")[2]: v.value for v in model.trainable_variables} | outputs.pyramid
    return {
        name: {
            path: 0.0 if gradient is None else np.asarray(gradient)
            for path, gradient in tape.gradient(loss, sources).items()
        }
        for name, loss in parts.items()
    }


@pytest.mark.parametrize("level", ["p2", "p3", "p4", "p5", "p6"])
def test_the_rpn_learns_on_every_level(gradients_of_octaves, level):
    weights = [f"{layer}/{w}" for layer in ("conv0", "objectness", "deltas") for w in ("kernel", "bias")]
    for path in (level, *(f"rpn/head/{level}/{weight}" for weight in weights)):
        assert np.abs(gradients_of_octaves["rpn"][path]).max() > 0, path


@pytest.mark.parametrize("level", ["p2", "p3", "p4", "p5", "p6"])
def test_the_box_head_pools_from_p2_to_p5(gradients_of_octaves, level):
    """FPN paper, sec. 4.2: p6 is the RPN's alone."""
    assert (np.abs(gradients_of_octaves["head"][level]).max() > 0) == (level != "p6")


@pytest.mark.parametrize("level", [2, 3, 4, 5])
@pytest.mark.parametrize("loss", ["rpn", "head"])
def test_either_loss_reaches_every_level_of_the_pyramid(gradients_of_octaves, loss, level):
    for path in (
        f"neck/{layer}{level}/{w}" for layer in ("lateral", "smoothing") for w in ("kernel", "bias")
    ):
        assert np.abs(gradients_of_octaves[loss][path]).max() > 0, path
