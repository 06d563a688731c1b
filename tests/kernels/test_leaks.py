"""What is dropped is freed: TensorFlow keeps every registered gradient, and all that it refers to."""

import gc
import weakref

import keras
import numpy as np
import pytest

from fpn_tf import ROIAlign, RPNHead

if keras.config.backend() != "tensorflow":
    pytest.skip("TensorFlow's graphs", allow_module_level=True)
import tensorflow as tf


class Detector(keras.layers.Layer):
    """All kernels with a gradient of their own: Winograd, ROIAlign, and rows that are gathered."""

    def __init__(self, sampling_ratio):
        super().__init__()
        self.head, self.pooler = RPNHead(), ROIAlign(3, sampling_ratio=sampling_ratio)
        self.scale = self.add_weight(shape=(64,), initializer="ones", name="scale")

    def call(self, image, boxes):
        pyramid = {"p2": image * self.scale}
        logits, deltas = self.head(pyramid)
        sampled, _ = self.head.at_anchors(pyramid, tf.zeros([1, 2], tf.int32))
        outputs = (logits["p2"], deltas["p2"], sampled, self.pooler(pyramid, boxes))
        return tf.add_n([tf.reduce_sum(x**2 + x) for x in outputs])


def train_once(sampling_ratio):
    """Traces a step of a new detector and runs it. Returns: weak references to its variables."""
    detector = Detector(sampling_ratio)

    @tf.function
    def step(image, boxes):
        with tf.GradientTape() as tape:
            loss = detector(image, boxes)
        return tape.gradient(loss, [v.value for v in detector.trainable_variables])

    gradients = step(tf.ones([1, 8, 8, 64]), tf.constant([[[0.0, 0.0, 20.0, 20.0]]]))
    assert all(np.any(g) for g in gradients)
    return [weakref.ref(variable.value) for variable in detector.variables]


MORE = [pytest.param(ratio, models, marks=pytest.mark.slow) for ratio, models in ((2, 20), (0, 3))]


@pytest.mark.parametrize(("sampling_ratio", "models"), [(2, 3), *MORE])
def test_dropped_models_leave_no_variable(sampling_ratio, models):
    references = [reference for _ in range(models) for reference in train_once(sampling_ratio)]
    gc.collect()
    assert len(references) == models * 7
    assert not any(reference() is not None for reference in references)
