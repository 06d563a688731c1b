"""Ten steps of training compute what torchvision and torch.optim compute: recorded losses and weights."""

import json
import pathlib

import keras
import numpy as np
import pytest
import seeded

import fpn_tf
from fpn_tf import photos
from fpn_tf.pretrained import naming

GOLDEN = pathlib.Path(__file__).parent / "goldens" / "torchvision_training.npz"


def batch(number, data):
    """The photo of that number as the model wants it, with all its boxes."""
    photo = seeded.photo(number)
    size = photos.resized_size(photo.shape[:2], data.short_side, data.max_side, data.resize)
    image = photos.on_canvas(photos.resize(photo, size, data.resize), photos.canvas_size(size))
    boxes, classes = (np.array([value]) for value in seeded.TARGETS[number])
    scale = np.array([size[1] / photo.shape[1], size[0] / photo.shape[0]] * 2, np.float32)
    x = {"images": image[None], "image_sizes": np.array([size], np.int32)}
    y = {"boxes": boxes.astype(np.float32) * scale, "classes": classes.astype(np.int32)}
    return x, y | {"valid": np.ones(classes.shape, bool), "sample_seeds": np.array([number], np.int32)}


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's training step")
@pytest.mark.parametrize("steps", [3, pytest.param(seeded.TRAINING["steps"], marks=pytest.mark.slow)])
def test_losses_and_weights_after_steps(tmp_path, steps):
    """Of the first steps the losses alone, which follow from the weights; after all, every weight."""
    import tensorflow as tf

    from fpn_tf.training.optimizer import DetectronSGD

    golden = np.load(GOLDEN)
    settings = seeded.TRAINING
    arrays = seeded.weights(json.loads(str(golden["shapes"])), json.loads(str(golden["scales"])))
    np.savez(tmp_path / "w.npz", **arrays)
    overrides = {
        "data.short_side": settings["short_side"],
        "data.max_side": settings["max_side"],
        "model.frozen_stages": 2,
        "model.rpn.pre_nms_train": 300,
        "model.rpn.post_nms_train": settings["proposals"],
        "model.rpn.samples": settings["quota"],
        "model.rpn.foreground_fraction": 0.5,
        "model.roi.samples": 2 * (settings["proposals"] + 3),  # with the objects: all of either kind
        "model.roi.foreground_fraction": 0.5,
    }
    model = fpn_tf.load(tmp_path / "w.npz", [f"{k}={v}" for k, v in overrides.items()])
    optimizer = DetectronSGD(1.0, momentum=0.9, coupled_decay=settings["weight_decay"])
    optimizer.build(model.trainable_variables)

    x, y = batch(0, model.config.data)
    signature = [  # every size may differ from photo to photo
        {k: tf.TensorSpec([1, *[None] * (v.ndim - 1)], v.dtype) for k, v in part.items()} for part in (x, y)
    ]
    signature[0]["images"] = tf.TensorSpec([1, None, None, 3], tf.float32)
    for key, size in (("image_sizes", 2), ("boxes", 4)):
        part = signature[key == "boxes"]
        part[key] = tf.TensorSpec([*part[key].shape[:-1], size], part[key].dtype)

    @tf.function(input_signature=signature, autograph=False)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            losses = model.compute_losses(y, model(x, training=True))
            total = sum(losses.values())
        optimizer.apply(tape.gradient(total, [v.value for v in model.trainable_variables]))
        return losses

    for step in range(steps):
        optimizer.learning_rate.assign(seeded.learning_rate(step))
        losses = train_step(*batch(step % 2, model.config.data))
        np.testing.assert_allclose(np.array(list(losses.values())), golden["losses"][step], rtol=1e-5)
    if steps < settings["steps"]:
        return
    trained = 0
    for name, array in naming.state_dict(model).items():
        if f"after {name}" in golden and "box_predictor.bbox_pred" not in name:  # background is dropped
            before, found = (seeded.sample(a, 20)[:-1] for a in (arrays[name], array))
            expected = golden[f"after {name}"][:-1]
            largest = np.abs(expected).max()
            assert np.abs(found - expected).max() <= 1e-4 * largest, name
            # The updates agree too, as far as the weights' own rounding lets one see.
            update = np.abs(expected - before).max()
            assert np.abs(found - expected).max() <= 1e-3 * update + 1e-6 * largest, name
            trained += update > 0
    assert trained == sum(key.startswith("after") for key in golden.files) - 2
