"""An optimizer's variables are stored and found by name, whatever else the process made."""

import keras
import numpy as np
import pytest

from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.checkpoint import read_optimizer, write_optimizer
from fpn_tf.config import TrainConfig
from fpn_tf.errors import CheckpointError
from fpn_tf.training.optimizer import make_optimizer
from fpn_tf.variable_names import optimizer_names, renamed, stable_paths

KINDS = (
    TrainConfig(),
    TrainConfig(optimizer="adamw"),
    TrainConfig(ema_decay=0.5),
    TrainConfig(ema_decay=0.5, optimizer="adamw", precision="mixed_float16"),
)


class Net(keras.Model):
    """Two parts, one of layers that Keras names and counts itself."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.trunk = keras.Sequential([keras.layers.Dense(width), keras.layers.Dense(width)], name="trunk")
        self.head = keras.layers.Dense(2, name="head")
        self(np.zeros((1, 4)))

    def call(self, x):
        return self.head(self.trunk(x))


def built(train, width=3, weights=list):
    """An optimizer on a new Net, each of its variables filled with its own number."""
    optimizer = make_optimizer(train)
    optimizer.build(weights(Net(width).trainable_variables))
    for number, variable in enumerate(optimizer.variables):
        variable.assign(np.full(variable.shape, number))
    return optimizer


def values(optimizer):
    return {n: np.asarray(v) for n, v in zip(optimizer_names(optimizer), optimizer.variables, strict=True)}


def assert_equal_values(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_names_by_hand():
    weights = ("trunk/dense/kernel", "trunk/dense/bias", "trunk/dense#2/kernel", "trunk/dense#2/bias")
    weights += ("head/kernel", "head/bias")
    expected = ["iteration", *(f"{w}/average" for w in weights), *(f"{w}/velocity" for w in weights)]
    assert optimizer_names(built(TrainConfig(ema_decay=0.5))) == expected
    adamw = optimizer_names(built(TrainConfig(optimizer="adamw", precision="mixed_float16")))
    expected = [f"loss_scale/{n}" for n in ("iteration", "learning_rate", "step_counter", "dynamic_scale")]
    moments = [f"{w}/{slot}" for w in weights for slot in ("momentum", "velocity")]
    assert sorted(adamw) == sorted([*expected, "iteration", *moments])


@pytest.mark.parametrize("train", KINDS)
def test_a_detectors_names_do_not_depend_on_what_was_made_before(tiny_config, train):
    names = []
    for _ in range(2):
        model = build(tiny_config)
        optimizer = make_optimizer(train)
        optimizer.build(model.trainable_variables)
        names.append(optimizer_names(optimizer))
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0]) == len(optimizer.variables)
    slot = "momentum" if train.optimizer == "adamw" else "velocity"
    assert {
        f"backbone/c2_block0/conv2/group_normalization/gamma/{slot}",
        f"neck/lateral2/kernel/{slot}",
        f"rpn/head/objectness/bias/{slot}",
        "iteration",
    } <= set(names[0])


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ("net_3/a/kernel net_3/b/kernel", "a/kernel b/kernel"),
        ("conv2d_7/kernel conv2d_9/kernel conv2d_7/bias", "conv2d/kernel conv2d#2/kernel conv2d/bias"),
        ("net/a/norm_4/beta net/b/norm_5/beta", "a/norm/beta b/norm/beta"),  # counted for each parent
        ("a/kernel a/kernel", "kernel kernel@2"),  # two layers of one name
        ("a_b/c a/b_c", "a_b/c a/b_c"),  # one text with all slashes replaced
        ("x/a_1_2/k x/a/k x/a_5/k x/a_0/k", "a_1/k a/k a#3/k a#2/k"),
        ("x/a_01/k x/a_1/k", "a_01/k a/k"),
        ("x/d_12/k x/d_9/k", "d#2/k d/k"),  # in the order in which they were made
        ("kernel", "kernel"),
    ],
)
def test_stable_paths_by_hand(paths, expected):
    assert stable_paths(paths.split()) == expected.split()


def test_weights_whose_paths_differ_by_little_are_told_apart():
    def make_weights():
        weights = []
        for scope, name in (("a", "b"), ("a", "b_c"), ("a_b", "c")):
            with keras.name_scope(scope):
                weights.append(keras.Variable(np.zeros(2, np.float32), name=name))
        return weights

    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    optimizer.build(make_weights())
    slots = ["a/b/momentum", "a/b_c/momentum", "a_b/c/momentum"]
    assert optimizer_names(optimizer) == ["iteration", "learning_rate", *slots]


@pytest.mark.parametrize("train", KINDS)
def test_values_come_back_by_name(tmp_path, train):
    source = built(train)
    write_optimizer(source, tmp_path)
    with np.load(tmp_path / "optimizer.npz") as arrays:
        assert not any("net" in name or "sgd" in name or "adamw" in name for name in arrays.files)
    Net()  # Keras counts on
    target = built(train, weights=lambda weights: weights[::-1])
    assert [v.shape for v in target.variables] != [v.shape for v in source.variables]
    read_optimizer(target, tmp_path)
    assert_equal_values(values(target), values(source))


@pytest.mark.parametrize(
    ("stored", "wanted", "message"),
    [
        (
            TrainConfig(),
            TrainConfig(ema_decay=0.5),
            r"lacks trunk/dense/kernel/average, trunk/dense/bias/average, "
            r"trunk/dense#2/kernel/average and 3 more\)",
        ),
        (
            TrainConfig(precision="mixed_float16"),
            TrainConfig(),
            r"has besides loss_scale/iteration, loss_scale/learning_rate, loss_scale/step_counter and 1 more",
        ),
        (TrainConfig(), TrainConfig(optimizer="adamw"), r"lacks trunk/dense/kernel/momentum"),
    ],
)
def test_another_optimizers_are_refused_whole(tmp_path, stored, wanted, message):
    write_optimizer(built(stored), tmp_path)
    target = built(wanted)
    before = values(target)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_optimizer(target, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert_equal_values(values(target), before)


def test_other_shapes_are_refused_whole(tmp_path):
    write_optimizer(built(TrainConfig(), width=5), tmp_path)
    target = built(TrainConfig(), width=3)
    before = values(target)
    shapes = r"another shape of trunk/dense/kernel/velocity \[4, 5\] for \[4, 3\], .* and 2 more"
    with pytest.raises(CheckpointError, match=shapes):
        read_optimizer(target, tmp_path)
    assert_equal_values(values(target), before)


def test_the_version_before_stored_an_order_alone(tmp_path):
    source = built(TrainConfig(ema_decay=0.5))
    numbered = {f"{i:04d}": np.asarray(v) for i, v in enumerate(source.variables)}
    np.savez(tmp_path / "optimizer.npz", **numbered)
    target = make_optimizer(TrainConfig(ema_decay=0.5))
    target.build(Net().trainable_variables)
    read_optimizer(target, tmp_path)
    assert_equal_values(values(target), values(source))
    for width, train, message in (
        (3, TrainConfig(), "has 13 variables, not 7"),
        (5, TrainConfig(ema_decay=0.5), r"another shape of trunk/dense/kernel/average \[4, 3\] for \[4, 5\]"),
    ):
        target = built(train, width)
        before = values(target)
        with pytest.raises(CheckpointError, match=message):
            read_optimizer(target, tmp_path)
        assert_equal_values(values(target), before)


def test_parts_that_were_renamed_since(tmp_path):
    source = built(TrainConfig())
    before = {"trunk": "body/old", "head": "predictor"}
    np.savez(tmp_path / "optimizer.npz", **{renamed(n, before): v for n, v in values(source).items()})
    target = make_optimizer(TrainConfig())
    target.build(Net().trainable_variables)
    with pytest.raises(CheckpointError, match="has besides body/old/dense/kernel/velocity"):
        read_optimizer(target, tmp_path)
    read_optimizer(target, tmp_path, {"body": "elsewhere", "body/old": "trunk", "predictor": "head"})
    assert_equal_values(values(target), values(source))
    assert renamed("trunks/kernel/velocity", before) == "trunks/kernel/velocity"  # whole parts alone


def test_a_run_goes_on_with_its_velocities(tiny_config, tmp_path):
    """The trip through a file changes no bit of the next step."""
    config = config_lib.replace(tiny_config, **{"train.warmup_steps": 0})
    net, optimizer = Net(), make_optimizer(config.train)
    optimizer.build(net.trainable_variables)
    gradients = [np.full(v.shape, 0.5, np.float32) for v in net.trainable_variables]
    optimizer.apply(gradients)
    write_optimizer(optimizer, tmp_path)
    other, resumed = Net(), make_optimizer(config.train)
    resumed.build(other.trainable_variables)
    other.set_weights(net.get_weights())
    read_optimizer(resumed, tmp_path)
    optimizer.apply(gradients)
    resumed.apply(gradients)
    for one, two in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
