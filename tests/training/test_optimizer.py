import math

import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf.config import TrainConfig
from fpn_tf.training.optimizer import DetectronSGD, WarmupSchedule, make_optimizer


def variables():
    kernel = keras.Variable(np.array([1.0, -2.0], np.float32), name="kernel")
    bias = keras.Variable(np.array([0.5], np.float32), name="bias")
    return [kernel, bias]


def test_steps_follow_the_formula_through_a_drop():
    found = variables()
    optimizer = DetectronSGD(WarmupSchedule(0.1, 4, decay_at=(0.5,)), momentum=0.9, coupled_decay=0.01)
    expected, velocity = [np.array([1.0, -2.0]), np.array([0.5])], [np.zeros(2), np.zeros(1)]
    rng = np.random.default_rng(0)
    for step in range(4):
        gradients = [rng.normal(size=2), rng.normal(size=1)]
        optimizer.apply([ops.convert_to_tensor(g, "float32") for g in gradients], found)
        rate = 0.1 if step < 2 else 0.01
        for i in range(2):
            velocity[i] = 0.9 * velocity[i] + gradients[i] + (0.01 * expected[i] if i == 0 else 0)
            expected[i] = expected[i] - rate * velocity[i]
    for variable, value in zip(found, expected):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), value, rtol=1e-5)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_global_norm_is_clipped(kind):
    found = variables()
    settings = TrainConfig(
        optimizer=kind, learning_rate=1.0, warmup_steps=0, momentum=0.0, weight_decay=0.0, clip_norm=1.0
    )
    optimizer = make_optimizer(settings)
    gradients = [ops.convert_to_tensor([3.0, 0.0]), ops.convert_to_tensor([4.0])]  # norm 5
    clipped = optimizer._all_reduce_sum_gradients(list(zip(gradients, [v.value for v in found])))
    np.testing.assert_allclose(
        np.concatenate([np.asarray(g) for g, _ in clipped]), [0.6, 0.0, 0.8], rtol=1e-6
    )
    optimizer.apply(gradients, found)
    if kind == "sgd":
        np.testing.assert_allclose(ops.convert_to_numpy(found[0]), [1 - 0.6, -2.0], rtol=1e-6)


def test_schedules_by_hand():
    def rates(schedule, *steps):
        return [float(schedule(s)) for s in steps]

    step = WarmupSchedule(1.0, 90, decay_at=(2 / 3, 8 / 9), warmup_steps=10, warmup_factor=0.1)
    np.testing.assert_allclose(rates(step, 0, 5, 10, 59, 60, 80), [0.1, 0.55, 1, 1, 0.1, 0.01], rtol=1e-6)
    cosine = WarmupSchedule(2.0, 100, kind="cosine")
    np.testing.assert_allclose(rates(cosine, 0, 25, 50, 100), [2, 1 + math.cos(math.pi / 4), 1, 0], atol=1e-6)
    again = WarmupSchedule.from_config(step.get_config())
    assert rates(again, 3, 70) == rates(step, 3, 70)


def test_it_is_saved_with_its_settings():
    optimizer = DetectronSGD(0.3, momentum=0.8, coupled_decay=0.02, global_clipnorm=5.0)
    again = DetectronSGD.from_config(optimizer.get_config())
    assert (again.momentum, again.coupled_decay, again.global_clipnorm) == (0.8, 0.02, 5.0)
