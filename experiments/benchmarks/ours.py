"""The side of fpn_tf in the comparisons, on Keras' backend."""

import numpy as np

from experiments.benchmarks.turns import OBJECTS


def random_model(classes):
    """R50-FPN with random weights; the stem and c2 are frozen in training."""
    from fpn_tf import build
    from fpn_tf.config import Config, override

    training = ["train.learning_rate=1e-5", "model.frozen_stages=2"]
    model = build(override(Config(), [f"model.num_classes={classes}", *training]))
    settle(model)
    return model


def settle(model):
    """Biases and batch norms as a trained net has them: fresh ones fold away, and residuals explode."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "moving_mean" in variable.name:
            variable.assign(random.normal(0, 0.1, variable.shape))
        elif "moving_variance" in variable.name:
            variable.assign(np.full(variable.shape, 4.0))
        elif "bias" in variable.name:
            variable.assign(random.normal(0, 0.01, variable.shape))


def detection(model, images):
    """A function that detects in images [N, H, W, 3] uint8: () -> arrays (boxes, scores, classes, valid)."""
    threshold = np.asarray(model.score_threshold, np.float32)
    detector, x = model.detector(), _on_device(_inputs(model, images) | {"score_threshold": threshold})

    def detect():
        detections = detector(x)
        parts = (detections.boxes, detections.scores, detections.classes, detections.valid)
        return [np.asarray(part) for part in parts]  # waits for them

    return detect


def training_step(model, inputs):
    """A function that takes a step of SGD (forward, backward, update) on the `inputs` of `make_inputs`."""
    import keras

    count = len(inputs["images"])
    x = _inputs(model, inputs["images"])
    y = {
        "boxes": inputs["boxes"],
        "classes": inputs["classes"].astype(np.int32),
        "valid": np.ones((count, OBJECTS), bool),
        "sample_seeds": np.arange(count, dtype=np.int32),
    }
    x, y = _on_device(x), _on_device(y)
    if keras.config.backend() != "tensorflow":
        model.compile(keras.optimizers.SGD(1e-5, momentum=0.9))
        return lambda: model.train_on_batch(x, y)
    import tensorflow as tf

    from fpn_tf.cluster import make_cluster
    from fpn_tf.training.optimizer import make_optimizer
    from fpn_tf.training.step import make_train_step

    optimizer = make_optimizer(model.config.train)
    optimizer.build(model.trainable_variables)
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, (x, y))
    step = make_train_step(model, optimizer, make_cluster(), spec)
    return lambda: step(x, y, False)


def _on_device(arrays):
    """{name: array} as tensors of Keras' backend, in the memory of the device that computes."""
    import keras

    return {name: keras.ops.convert_to_tensor(array) for name, array in arrays.items()}


def _inputs(model, images):
    sizes = np.full((len(images), 2), images.shape[1:3], np.int32)
    return {"images": images.astype(model.preprocessor.pixel_dtype), "image_sizes": sizes}
