"""What every public layer does in a Keras user's hands: functional models, misuse, channels_first, seeds."""

import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf import BoxHead, FeaturePyramid, ResNet, ROIAlign, RPNHead
from fpn_tf.geometry.max_pooling import ROIPool
from fpn_tf.models.conv_norm import Conv3x3, ConvNorm
from fpn_tf.models.heads.segment import SegmentHead
from fpn_tf.models.heads.unshared_rpn import UnsharedRPNHead
from fpn_tf.models.necks.baselines import BottomUpPyramid, FinestLevel, SingleMap, TopDownPyramid

under_xla = pytest.mark.skipif(keras.config.backend() == "torch", reason="PyTorch does without XLA")
LEVELS = (2, 3, 4, 5)
MAPS = {f"c{k}": (64 // 2**k, 96 // 2**k, 8) for k in LEVELS}
PYRAMID = {f"p{k}": (64 // 2**k, 96 // 2**k, 8) for k in LEVELS}
UNKNOWN = {f"c{k}": (None, None, 8) for k in LEVELS}

LAYERS = {
    "feature_pyramid": (lambda: FeaturePyramid(4), MAPS),
    "bottom_up": (lambda: BottomUpPyramid(4), MAPS),
    "top_down": (lambda: TopDownPyramid(4), MAPS),
    "finest": (lambda: FinestLevel(4), MAPS),
    "single": (lambda: SingleMap(4), MAPS),
    "rpn_head": (RPNHead, PYRAMID),
    "unshared": (UnsharedRPNHead, PYRAMID),
    "segment_head": (lambda: SegmentHead(3, 8, 4), PYRAMID),
    "box_head": (lambda: BoxHead(3, 16), (6, 7, 7, 8)),
    "resnet": (lambda: ResNet("tiny"), (64, 96, 3)),
    "conv": (lambda: Conv3x3(4), (8, 8, 8)),
}


def inputs_of(shapes):
    return keras.tree.map_shape_structure(keras.Input, shapes)


def arrays_of(shapes, batch=2):
    random = np.random.default_rng(0)
    return keras.tree.map_shape_structure(lambda s: random.normal(size=(batch, *s)).astype("float32"), shapes)


def assert_equal(a, b):
    np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def means(outputs):
    return sum(
        ops.mean(ops.cast(x, "float32"), axis=tuple(range(1, len(x.shape))))
        for x in keras.tree.flatten(outputs)
    )


@pytest.mark.parametrize("name", list(LAYERS))
def test_shapes_are_told_without_running(name):
    make, shapes = LAYERS[name]
    outputs = make()(inputs_of(shapes))
    keras.tree.map_structure(
        lambda symbol, value: np.testing.assert_array_equal(symbol.shape[1:], value.shape[1:]),
        outputs,
        make()(arrays_of(shapes)),
    )


def test_unknown_sizes_stay_unknown():
    pyramid = FeaturePyramid(4)(inputs_of(UNKNOWN))
    assert {name: x.shape for name, x in pyramid.items()} == {
        f"p{k}": (None, None, None, 4) for k in range(2, 7)
    }
    logits, deltas = RPNHead()(pyramid)
    assert logits["p2"].shape == (None, None)
    assert deltas["p2"].shape == (None, None, 4)
    assert ResNet("tiny")(keras.Input((None, None, 3)))["c5"].shape == (None, None, None, 256)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("got maps stage2; call it with", lambda: FeaturePyramid()({"stage2": np.zeros((1, 8, 8, 4))})),
        ("got maps P3; call it with", lambda: FeaturePyramid()({"P3": np.zeros((1, 8, 8, 4))})),
        ("got a list instead of maps by name", lambda: FeaturePyramid()([np.zeros((1, 8, 8, 4))])),
        ("got one map of shape", lambda: ROIAlign()(np.zeros((1, 8, 8, 4)), np.zeros((1, 2, 4)))),
        ("expected \\[B, R, 4\\]", lambda: ROIAlign()({"p2": np.zeros((1, 8, 8, 4))}, np.zeros((1, 2, 5)))),
        ("add the batch axis", lambda: ROIAlign()({"p2": np.zeros((1, 8, 8, 4))}, np.zeros((2, 4)))),
        ("expected one int", lambda: ROIAlign(output_size=(7, 7))),
        (
            "expected c3 half as large, \\(4, 4\\)",
            lambda: FeaturePyramid()({"c2": np.zeros((1, 8, 8, 4)), "c3": np.zeros((1, 3, 3, 4))}),
        ),
        ("add the batch axis", lambda: ResNet("tiny")(np.zeros((64, 64, 3)))),
    ],
)
def test_misuse_is_answered_in_one_line(message, call):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("name", list(LAYERS))
def test_a_users_channels_first_changes_nothing(name):
    make, shapes = LAYERS[name]
    keras.utils.set_random_seed(0)
    expected = make()(arrays_of(shapes))
    keras.config.set_image_data_format("channels_first")
    try:
        keras.utils.set_random_seed(0)
        results = make()(arrays_of(shapes))
    finally:
        keras.config.set_image_data_format("channels_last")
    keras.tree.map_structure(assert_equal, results, expected)


@pytest.mark.parametrize(
    "name", ["feature_pyramid", "rpn_head", "unshared", "segment_head", "box_head", "resnet"]
)
def test_every_layer_is_drawn_for_itself_and_follows_the_seed(name):
    make, shapes = LAYERS[name]

    def kernels(seed):
        keras.utils.set_random_seed(seed)
        layer = make()
        layer(arrays_of(shapes, batch=1))
        return [ops.convert_to_numpy(w) for w in layer.weights if w.name == "kernel"]

    first, again, other = kernels(1), kernels(1), kernels(2)
    for i, kernel in enumerate(first):
        np.testing.assert_array_equal(kernel, again[i])
        assert np.abs(kernel - other[i]).max() > 0
        assert not any(np.array_equal(kernel, later) for later in first[i + 1 :])


@pytest.mark.parametrize("options", [{"strides": 2}, {"use_bias": False}, {"activation": "relu"}, {}])
def test_conv3x3_is_keras_conv2d(options, tmp_path):
    x = arrays_of((9, 7, 4))
    layer = Conv3x3(6, **options)
    reference = keras.layers.Conv2D(6, 3, padding="same", data_format="channels_last", **options)
    result = layer(x)
    reference.build(x.shape)
    reference.set_weights(layer.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(result), ops.convert_to_numpy(reference(x)), atol=1e-5)
    model = keras.Sequential([keras.Input((9, 7, 4)), layer])
    model.save(tmp_path / "m.keras")
    assert_equal(keras.saving.load_model(tmp_path / "m.keras")(x), model(x))


def test_batch_norm_forgets_a_tenth_and_group_norm_has_32_groups():
    layer = ConvNorm(64, 1, norm="sync_bn")
    layer.build((None, None, None, 2))
    layer.norm.moving_mean.assign(np.ones(64))
    layer(np.zeros((1, 2, 2, 2), "float32"), training=True)  # a batch of mean 0
    np.testing.assert_allclose(ops.convert_to_numpy(layer.norm.moving_mean), 0.9, rtol=1e-6)
    assert ConvNorm(64, 1, norm="group_norm").norm.groups == 32


def test_the_predictors_start_as_small_as_fast_r_cnns():
    keras.utils.set_random_seed(0)
    head = BoxHead(80, 256)
    head.build((None, None, 7, 7, 8))
    assert np.std(head.classifier.kernel) == pytest.approx(0.01, rel=0.05)
    assert np.std(head.regressor.kernel) == pytest.approx(0.001, rel=0.05)


@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`")  # so it goes on without
@pytest.mark.parametrize("layer", [ROIAlign, ROIPool])
@pytest.mark.parametrize("jit_compile", ["auto", pytest.param(True, marks=under_xla)])
def test_poolers_are_trained_in_a_functional_model(layer, jit_compile):
    inputs = {"c2": keras.Input((16, 24, 8), name="c2"), "c3": keras.Input((8, 12, 8), name="c3")}
    boxes = keras.Input((3, 4), name="boxes")
    pooled = layer(2)(FeaturePyramid(4)(inputs), boxes)
    model = keras.Model([inputs, boxes], keras.layers.Dense(1)(keras.layers.Flatten()(pooled)))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    if keras.config.backend() == "tensorflow":
        assert not model.jit_compile
    x = [arrays_of({"c2": (16, 24, 8), "c3": (8, 12, 8)}), np.array([[[0, 0, 30, 30]] * 3] * 2, "float32")]
    history = model.fit(x, np.ones((2, 1)), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(*(ops.convert_to_numpy(one(x)) for one in (clone, model)), rtol=1e-5)
    lines = []
    model.summary(line_length=200, print_fn=lines.append)
    assert "(None, 3, 2, 2, 4)" in "\n".join(lines)


@pytest.mark.slow
@under_xla
@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_are_trained_under_xla(name):
    make, shapes = LAYERS[name]
    inputs = inputs_of(shapes)
    model = keras.Model(inputs, keras.layers.Lambda(means, output_shape=())(make()(inputs)))
    model.compile("sgd", "mse", jit_compile=True)
    history = model.fit(arrays_of(shapes), np.ones(2), verbose=0)
    assert np.isfinite(history.history["loss"][0])
