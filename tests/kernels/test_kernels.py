"""Every kernel against the plain function that it replaces: values and gradients, on nasty shapes."""

import contextlib
import importlib

import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf import RPNHead, kernels
from fpn_tf.geometry.bilinear_pooling import roi_align
from fpn_tf.geometry.max_pooling import roi_pool
from fpn_tf.geometry.selection import gather_rows, nms, sizes_of
from fpn_tf.kernels import choice
from fpn_tf.models import conv_norm
from fpn_tf.models.heads.rpn import outputs_at_anchors
from fpn_tf.models.heads.segment import SegmentHead, outputs_at_cells
from fpn_tf.training import optimizer

if keras.config.backend() != "tensorflow":
    pytest.skip("compares TensorFlow's gradients", allow_module_level=True)
import tensorflow as tf

BOXES = [[4, 4, 36, 52], [0, 0, 95, 63], [-30, -20, 20, 25], [200, 200, 260, 240], [10, 10, 10, 10]]
BOXES += [[8, 3, 9, 60], [-310.7, -203.1, 507.3, 411.9]]  # far larger than the maps
PLAIN = {
    "add": conv_norm.add,
    "add_bias": conv_norm.add_bias,
    "conv3x3": conv_norm.conv3x3,
    "gather_rows": gather_rows,
    "momentum_step": optimizer.momentum_step,
    "nms": nms,
    "norm_in_groups": conv_norm.norm_in_groups,
    "outputs_at_anchors": outputs_at_anchors,
    "outputs_at_cells": outputs_at_cells,
    "roi_align": roi_align,
    "roi_pool": roi_pool,
    "scaled": conv_norm.scaled,
    "sizes_of": sizes_of,
    "with_decay": optimizer.with_decay,
}
SIZES = {"p2": (5, 7), "p3": (3, 4), "p4": (1, 2), "p5": (1, 1)}


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def pyramid_and_boxes(batch, rois):
    maps = {k: normal(batch, 64 // 2**k, 96 // 2**k, 5, seed=k) for k in (2, 3)}
    boxes = np.array([BOXES] * batch, np.float32)[:, :rois]
    levels = np.array([[2, 3, 2, 3, 2, 2, 3]] * batch, np.int32)[:, :rois]
    return maps, tf.constant(boxes), tf.constant(levels)


def values_and_gradients(function, inputs):
    """Of a function of one structure of tensors: its outputs, and the gradients of a sum of their sines."""

    def compute(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(function(inputs))
            total = tf.add_n([tf.reduce_sum(tf.sin(x)) for x in outputs])
        gradients = tape.gradient(total, tf.nest.flatten(inputs), unconnected_gradients="zero")
        return [*outputs, *(tf.convert_to_tensor(x) for x in gradients)]

    return compute(inputs)


def assert_equal_within(bound, function, inputs):
    """The function with kernels against the function without; the bound is of the largest number."""
    with kernels.plain():
        expected = values_and_gradients(function, inputs)
    for value, plain in zip(values_and_gradients(function, inputs), expected, strict=True):
        np.testing.assert_allclose(value, plain, rtol=0, atol=bound * np.abs(plain).max())


def test_every_function_with_a_kernel_is_marked_and_every_kernel_exists():
    assert set(PLAIN) == set(choice.KERNELS)
    for name, modules in choice.KERNELS.items():
        assert callable(PLAIN[name].plain)
        for module in modules.values():
            assert callable(getattr(importlib.import_module(f"fpn_tf.kernels.{module}"), name))


@pytest.mark.parametrize("sampling", [pytest.param(1, marks=pytest.mark.slow), 2, 3, 0])
@pytest.mark.parametrize("aligned", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("batch", "rois"), [(2, 7), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_roi_align(sampling, aligned, batch, rois):
    maps, boxes, levels = pyramid_and_boxes(batch, rois)
    assert_equal_within(1e-5, lambda maps: roi_align(maps, boxes, levels, 3, sampling, aligned), maps)


@pytest.mark.parametrize("use", [kernels.plain, contextlib.nullcontext])
@pytest.mark.parametrize("sampling", [2, 0, None])
def test_no_boxes(sampling, use):
    maps, boxes, levels = pyramid_and_boxes(2, 0)
    with use():
        pooled = (
            roi_pool(maps, boxes, levels, 3)
            if sampling is None
            else roi_align(maps, boxes, levels, 3, sampling)
        )
    assert tuple(pooled.shape) == (2, 0, 3, 3, 5)


@pytest.mark.parametrize("kernel", ["tf_roi_pool", pytest.param("pooling_tables", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("batch", "rois"), [(2, 7), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_roi_pool(kernel, batch, rois, monkeypatch):
    monkeypatch.setitem(choice.KERNELS, "roi_pool", {"any": kernel})
    maps, boxes, levels = pyramid_and_boxes(batch, rois)
    assert_equal_within(1e-6, lambda maps: roi_pool(maps, boxes, levels, 3), maps)


@pytest.mark.parametrize("kernel", ["tf_nms", "chunked_nms"])
@pytest.mark.parametrize(("count", "limit"), [(40, 8), (40, 60), (1, 3), (3, 1)])
def test_nms(kernel, count, limit, monkeypatch):
    monkeypatch.setitem(choice.KERNELS, "nms", {"any": kernel})
    random = np.random.default_rng(1)
    corner = random.uniform(0, 50, (3, count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 30, corner.shape)], axis=-1).astype(np.float32)
    scores = np.round(random.uniform(size=(3, count)), 1).astype(np.float32)  # with ties
    valid = random.uniform(size=(3, count)) > [[0.2], [0.5], [1.0]]
    fast = nms(boxes, scores, valid, 0.5, limit)
    for result, plain in zip(fast, nms.plain(boxes, scores, valid, 0.5, limit), strict=True):
        np.testing.assert_array_equal(result, plain)


@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 1, 2, 2), (2, 4)])
def test_gather_rows(shape):
    indices = tf.constant(np.random.default_rng(0).integers(0, shape[1], (shape[0], 6)).astype(np.int32))
    assert_equal_within(1e-6, lambda x: gather_rows(x, indices), normal(*shape))


def test_sizes_of_are_numbers_where_they_are_known_and_two_ops_where_they_are_not():
    @tf.function(input_signature=[tf.TensorSpec([None, 7, None, 3])], autograph=False)
    def sizes(x):
        images, *rest = sizes_of(x)
        assert (rest[0], rest[2]) == (7, 3)
        return images, rest[1]

    x = normal(2, 7, 5, 3)
    assert [int(size) for size in sizes(x)] == [2, 5]
    kinds = [op.type for op in sizes.get_concrete_function().graph.get_operations()]
    assert sorted(set(kinds) - {"Placeholder", "Identity"}) == ["Shape", "Unpack"]
    assert sizes_of(x) == sizes_of(x.numpy()) == (2, 7, 5, 3)
    assert sizes_of(keras.KerasTensor((None, 4))) == (None, 4)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_norm_in_groups_gives_what_keras_layer_gives(policy):
    weights = [normal(8, seed=1), normal(8, seed=2)]
    layer = keras.layers.GroupNormalization(2, epsilon=1e-5, dtype=policy)
    x = tf.cast(normal(2, 5, 3, 8) + 2, layer.compute_dtype)
    layer.build(x.shape)
    layer.set_weights(weights)
    for function in (conv_norm.norm_in_groups, conv_norm.norm_in_groups.plain):
        result = function(x, *weights, 2, 1e-5)
        assert result.dtype == layer.compute_dtype
        np.testing.assert_array_equal(*(tf.cast(values, "float32") for values in (result, layer(x))))


def test_norm_in_groups():
    inputs = (normal(2, 5, 3, 8) + 2, normal(8, seed=1), normal(8, seed=2))
    assert_equal_within(1e-5, lambda inputs: conv_norm.norm_in_groups(*inputs, 2, 1e-5), inputs)


@pytest.mark.parametrize(("size", "channels"), [((1, 1), 64), ((5, 7), 64), ((9, 4), 96), ((5, 7), 8)])
def test_conv3x3(size, channels):
    inputs = normal(2, *size, channels), normal(3, 3, channels, channels, seed=1) / 10
    assert_equal_within(3e-5, lambda x: conv_norm.conv3x3(*x), inputs)  # sines multiply the error


def test_sums_and_products():
    x, bias, kernel = normal(2, 3, 4, 5), normal(5, seed=1), normal(1, 1, 5, 5, seed=2)
    assert_equal_within(1e-6, lambda inputs: conv_norm.add_bias(*inputs), (x, bias))
    assert_equal_within(1e-6, lambda inputs: conv_norm.add(*inputs), (x, x * 2))
    assert_equal_within(1e-6, lambda inputs: conv_norm.scaled(*inputs, x), (kernel, bias))
    variable = keras.Variable(bias)
    assert_equal_within(1e-6, lambda inputs: optimizer.with_decay(inputs, variable, 0.5), bias * 3)


def test_momentum_step():
    weights, velocities = ([keras.Variable(normal(3, 2, seed=s)) for _ in "ab"] for s in (0, 1))
    gradient = normal(3, 2, seed=2)
    optimizer.momentum_step(weights[0], velocities[0], gradient, 0.9, 0.1)
    optimizer.momentum_step.plain(weights[1], velocities[1], gradient, 0.9, 0.1)
    for fast, plain in (weights, velocities):
        np.testing.assert_allclose(ops.convert_to_numpy(fast), ops.convert_to_numpy(plain), rtol=1e-6)


@pytest.fixture
def pyramid():
    return {name: normal(2, *size, 6, seed=i) for i, (name, size) in enumerate(SIZES.items())}


def with_large_weights(head, pyramid):
    head(pyramid)
    for i, weight in enumerate(head.weights):
        weight.assign(normal(*weight.shape, seed=i) / 2)
    return head


@pytest.mark.parametrize("conv_layers", [1, 3])
def test_the_rpn_head_at_anchors(pyramid, conv_layers):
    head = with_large_weights(RPNHead(conv_layers=conv_layers), pyramid)
    indices = tf.constant([[0, 3, 3, 100, 149], [7, 104, 146, 144, 60]])  # one of them twice, and borders
    assert_equal_within(1e-5, lambda pyramid: head.at_anchors(pyramid, indices), pyramid)


def test_the_segment_head_at_cells(pyramid):
    head = with_large_weights(SegmentHead(3, 4, 2), pyramid)
    cells = tf.constant([[0, 1, 1, 33, 49], [7, 34, 48, 12, 20]])
    assert_equal_within(1e-5, lambda pyramid: head.at_cells(pyramid, cells), pyramid)


def test_plain_forms_run_in_graphs_of_unknown_sizes():
    maps, boxes, levels = pyramid_and_boxes(2, 7)
    a_map = tf.TensorSpec([None, None, None, 5])
    signature = [
        dict.fromkeys(maps, a_map),
        tf.TensorSpec([None, None, 4]),
        tf.TensorSpec([None, None], tf.int32),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def pooled(maps, boxes, levels):
        aligned = (roi_align(maps, boxes, levels, 3, sampling, True) for sampling in (2, 0))
        scores = tf.reduce_sum(boxes, axis=-1)
        return *aligned, roi_pool(maps, boxes, levels, 3), *nms(boxes, scores, scores > 0, 0.5, 4)

    with kernels.plain():
        plain = pooled.get_concrete_function()
    kinds = {op.type for op in plain.graph.get_operations()}
    assert "NonMaxSuppressionV4" not in kinds
    for result, expected in zip(plain(maps, boxes, levels), pooled.python_function(maps, boxes, levels)):
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_one_switch_turns_all_of_them_off(monkeypatch):
    x, kernel = normal(1, 4, 4, 64), normal(3, 3, 64, 64)
    arguments = dict.fromkeys(choice.KERNELS, (x, kernel))
    assert all(choice.chosen(name, *both) for name, both in arguments.items())
    with kernels.plain(), kernels.plain():
        assert not any(choice.chosen(name, *both) for name, both in arguments.items())
    assert not kernels.plain_is_asked_for()
    monkeypatch.setenv(choice.ENVIRONMENT_VARIABLE, "0")
    assert choice.chosen("nms")
    monkeypatch.setenv(choice.ENVIRONMENT_VARIABLE, "1")
    assert not any(choice.chosen(name, *both) for name, both in arguments.items())


def test_winograd_is_chosen_by_device_dtype_and_channels(monkeypatch):
    x, kernel = normal(1, 4, 4, 64), normal(3, 3, 64, 64)
    assert choice.chosen("conv3x3", x, kernel)
    assert not choice.chosen("conv3x3", x[..., :63], kernel[:, :, :63])
    assert not choice.chosen("conv3x3", tf.cast(x, "bfloat16"), tf.cast(kernel, "bfloat16"))
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    assert not choice.chosen("conv3x3", x, kernel)
