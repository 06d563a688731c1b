import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from fpn_tf.cluster import make_cluster
from fpn_tf.config import TrainConfig
from fpn_tf.training.optimizer import ClippedAdamW, DetectronSGD, WarmupSchedule, make_optimizer

NAMES = ("kernel", "depthwise_kernel", "bias", "gamma", "beta")  # of a layer's own weights, as Keras has them
DECAYED = {False: {"kernel", "depthwise_kernel"}, True: {"kernel", "depthwise_kernel", "bias"}}


def variables(names=("kernel", "bias")):
    values = {"kernel": [1.0, -2.0]}
    return [keras.Variable(np.array(values.get(n, [0.5]), np.float32), name=n) for n in names]


def steps(optimizer, weights, count):
    """Takes `count` steps. Returns: the gradients, [step][weight]."""
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=w.shape) for w in weights] for _ in range(count)]
    for of_step in gradients:
        optimizer.apply([ops.convert_to_tensor(g, "float32") for g in of_step], weights)
    return gradients


@pytest.mark.parametrize("decay_biases", [False, True])
def test_sgd_by_hand_through_a_drop(decay_biases):
    """g += decay * w; v = momentum * v + g; w -= rate * v, at the rate of the step."""
    train = TrainConfig(
        steps=4,
        learning_rate=0.1,
        momentum=0.75,
        weight_decay=0.25,
        decay_biases=decay_biases,
        decay_at=(0.5,),
        decay_factor=0.2,
        warmup_steps=0,
    )
    weights = variables(NAMES)
    gradients = steps(make_optimizer(train), weights, 4)
    for i, (name, weight) in enumerate(zip(NAMES, weights)):
        value, velocity = np.array(variables(NAMES)[i]), 0.0
        for step, rate in enumerate((0.1, 0.1, 0.02, 0.02)):
            decay = 0.25 * value if name in DECAYED[decay_biases] else 0.0
            velocity = 0.75 * velocity + gradients[step][i] + decay
            value = value - rate * velocity
        np.testing.assert_allclose(ops.convert_to_numpy(weight), value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("decay_biases", [False, True])
def test_adamw_by_hand(decay_biases):
    """w -= rate * decay * w, then Adam's step (Loshchilov and Hutter, algorithm 2)."""
    train = TrainConfig(
        optimizer="adamw", learning_rate=0.1, weight_decay=0.25, decay_biases=decay_biases, warmup_steps=0
    )
    weights = variables(NAMES)
    gradients = steps(make_optimizer(train), weights, 3)
    for i, (name, weight) in enumerate(zip(NAMES, weights)):
        value, first, second = np.array(variables(NAMES)[i]), 0.0, 0.0
        for step in (1, 2, 3):
            gradient = gradients[step - 1][i]
            if name in DECAYED[decay_biases]:
                value = value - 0.1 * 0.25 * value
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            value = value - 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-7)
        np.testing.assert_allclose(ops.convert_to_numpy(weight), value, rtol=1e-4, err_msg=name)


def test_moving_averages_by_hand():
    train = TrainConfig(learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_steps=0, ema_decay=0.75)
    weights, optimizer = variables(), make_optimizer(train)
    gradients = steps(optimizer, weights, 3)
    average = value = np.array([1.0, -2.0]) - gradients[0][0]
    for gradient, _ in gradients[1:]:
        value = value - gradient
        average = 0.75 * average + 0.25 * value
    np.testing.assert_allclose(ops.convert_to_numpy(weights[0]), value, rtol=1e-5)
    optimizer.finalize_variable_values(weights)
    np.testing.assert_allclose(ops.convert_to_numpy(weights[0]), average, rtol=1e-5)


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


def rates(schedule, *numbers):
    return [float(schedule(number)) for number in numbers]


def test_schedules_by_hand():
    step = WarmupSchedule(1.0, 90, decay_at=(2 / 3, 8 / 9), warmup_steps=10, warmup_factor=0.1)
    np.testing.assert_allclose(rates(step, 0, 5, 10, 59, 60, 80), [0.1, 0.55, 1, 1, 0.1, 0.01], rtol=1e-6)
    cosine = WarmupSchedule(2.0, 100, kind="cosine")
    np.testing.assert_allclose(rates(cosine, 0, 25, 50, 100), [2, 1 + math.cos(math.pi / 4), 1, 0], atol=1e-6)
    again = WarmupSchedule.from_config(step.get_config())
    assert rates(again, 3, 70) == rates(step, 3, 70)


@pytest.mark.parametrize(
    ("length", "decay_at", "drops"),
    [
        (90000, TrainConfig.decay_at, (60000, 80000)),  # Detectron's 1x schedule
        (9, (2 / 3, 8 / 9), (6, 8)),
        (100, (0.29, 0.57), (29, 57)),  # 0.29 * 100 and 0.57 * 100 lie below 29 and 57 in floating point
        (10, (0.0, 1.0), (0, 10)),
    ],
)
def test_a_drop_takes_effect_at_its_step(length, decay_at, drops):
    schedule = WarmupSchedule(2.0, length, decay_at=decay_at, decay_factor=0.5)
    first, second = drops
    found = rates(schedule, first - 1, first, first + 1, second - 1, second, second + 1)
    np.testing.assert_allclose(found, [2, 1, 1, 1, 0.5, 0.5], rtol=1e-6)


def test_the_warm_up_multiplies_the_schedule():
    """Detectron2's older rule: a drop inside the warm-up, and the cosine, scale each step's own rate."""
    schedule = WarmupSchedule(1.0, 10, decay_at=(0.2,), warmup_steps=4, warmup_factor=0.2)
    np.testing.assert_allclose(rates(schedule, 0, 1, 2, 3, 4), [0.2, 0.4, 0.06, 0.08, 0.1], rtol=1e-6)
    schedule = WarmupSchedule(1.0, 8, kind="cosine", warmup_steps=4, warmup_factor=0.2)
    expected = [factor * (1 + math.cos(math.pi * t / 8)) / 2 for t, factor in enumerate((0.2, 0.4, 0.6, 0.8))]
    np.testing.assert_allclose(rates(schedule, 0, 1, 2, 3), expected, rtol=1e-6)


def test_how_far_todays_detectron2_is_from_that():
    """The figures of WarmupSchedule's docstring: its rate goes straight to that of the warm-up's end."""
    for length, warmup, bound in ((90000, 1000, 1.3e-4), (1800, 50, 7.5e-4)):
        steps = np.arange(warmup)
        schedule = WarmupSchedule(1.0, length, kind="cosine", warmup_steps=warmup)
        end = (1 + math.cos(math.pi * warmup / length)) / 2
        line = 0.001 + (end - 0.001) * steps / warmup
        excess = np.asarray(schedule(steps)) - line
        assert excess.min() > -1e-6
        assert excess.max() < bound
        assert excess.max() == pytest.approx(0.385 * (math.pi * warmup / length / 2) ** 2, rel=0.02)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DetectronSGD(0.3, momentum=0.8, coupled_decay=0.02, decay_biases=True, global_clipnorm=5.0),
        lambda: ClippedAdamW(
            WarmupSchedule(0.3, 9), weight_decay=0.02, decay_biases=True, global_clipnorm=5.0
        ),
        lambda: ClippedAdamW(0.3, weight_decay=0.02),
    ],
)
def test_it_is_saved_with_its_settings(make):
    optimizer = make()
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    trained = [variables(NAMES), variables(NAMES)]
    for one, weights in zip((optimizer, again), trained):
        steps(one, weights, 2)
    for one, two in zip(*trained):
        np.testing.assert_array_equal(one, two)


def settings_of(train):
    """What `make_optimizer` makes of a TrainConfig, as one flat dict."""
    optimizer, flat = make_optimizer(train), {}
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer, flat["scales_loss"] = optimizer.inner_optimizer, True
    values = optimizer.get_config()
    return flat | {"optimizer": type(optimizer)} | values.pop("learning_rate")["config"] | values


REACHING = {  # key of TrainConfig: (another value, what it makes of which settings)
    "steps": (77, {"steps": 77}),
    "batch_size": (8, {"peak": 0.01}),
    "learning_rate": (0.5, {"peak": 0.5}),
    "base_learning_rate": (0.04, {"peak": 0.04}),
    "momentum": (0.8, {"momentum": 0.8}),
    "weight_decay": (0.03, {"coupled_decay": 0.03}),
    "decay_biases": (True, {"decay_biases": True}),
    "clip_norm": (3.0, {"global_clipnorm": 3.0}),
    "schedule": ("cosine", {"kind": "cosine"}),
    "decay_at": ((0.5,), {"decay_at": (0.5,)}),
    "decay_factor": (0.3, {"decay_factor": 0.3}),
    "warmup_steps": (7, {"warmup_steps": 7}),
    "warmup_factor": (0.2, {"warmup_factor": 0.2}),
    "ema_decay": (0.9, {"use_ema": True, "ema_momentum": 0.9}),
    "precision": ("mixed_float16", {"scales_loss": True}),
}
NOT_REACHING = {
    *("seed", "num_replicas", "accumulation_steps", "freeze", "initial_model_dir", "remat", "deterministic"),
    *("on_nonfinite", "max_restores", "log_every", "checkpoint_every", "keep_checkpoints", "keep_every"),
    "eval_every",
    "patience",
}


def test_defaults_are_detectrons_recipe():
    settings = settings_of(TrainConfig())
    expected = {
        "optimizer": DetectronSGD,
        "peak": 0.02,
        "steps": 90000,
        "kind": "step",
        "decay_factor": 0.1,
        "warmup_steps": 1000,
        "warmup_factor": 0.001,
        "momentum": 0.9,
        "coupled_decay": 1e-4,
        "decay_biases": False,
        "global_clipnorm": None,
        "use_ema": False,
    }
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize("key", sorted(REACHING))
def test_a_key_reaches_the_optimizer_and_nothing_else_changes(key):
    value, expected = REACHING[key]
    settings = settings_of(dataclasses.replace(TrainConfig(), **{key: value}))
    assert settings == settings_of(TrainConfig()) | expected


def test_adamw_is_given_its_decay():
    settings = settings_of(TrainConfig(optimizer="adamw", weight_decay=0.03, decay_biases=True))
    expected = {"optimizer": ClippedAdamW, "weight_decay": 0.03, "decay_biases": True, "peak": 0.02}
    assert {key: settings[key] for key in expected} == expected


def test_every_key_is_known_to_reach_the_optimizer_or_not():
    keys = {field.name for field in dataclasses.fields(TrainConfig)}
    assert keys == REACHING.keys() | NOT_REACHING | {"optimizer"}


def test_every_replica_decays_its_copy():
    """The copies of a weight stay equal: TensorFlow names those of further replicas otherwise."""
    strategy = make_cluster(2).strategy
    with strategy.scope():
        layer = keras.layers.Dense(2, kernel_initializer="ones")
        layer.build((None, 2))
        optimizer = DetectronSGD(1.0, momentum=0.0, coupled_decay=0.5)
        optimizer.build(layer.trainable_variables)

    def replica_step():
        gradients = [tf.zeros_like(v.value) for v in layer.trainable_variables]
        optimizer.apply(gradients, layer.trainable_variables)

    tf.function(lambda: strategy.run(replica_step), autograph=False)()
    for copy in strategy.experimental_local_results(layer.kernel.value):
        np.testing.assert_array_equal(copy.numpy(), np.full((2, 2), 0.5))
