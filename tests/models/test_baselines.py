"""The paper's other pyramids against small maps worked by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf import build, config
from fpn_tf.catalogue import NECKS
from fpn_tf.models.necks.baselines import make_neck

LEVELS = (2, 3, 4, 5)


def make_maps(channels=1):
    """Maps of one number each, 10^level."""
    return {f"c{k}": np.full((1, 2 ** (5 - k), 2 ** (5 - k), channels), 10.0**k, np.float32) for k in LEVELS}


def passing(layer, maps):
    """The layer with convolutions that pass their input on: a 1 in the kernel's centre."""
    layer.build({name: value.shape for name, value in maps.items()})
    for conv in (*layer.laterals, *layer.smoothings):
        kernel = np.zeros(conv.kernel.shape, np.float32)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        conv.kernel.assign(kernel)
    return layer


@pytest.mark.parametrize(
    ("kind", "expected", "laterals", "smoothings"),
    [
        ("fpn", {2: 1.111e5, 3: 1.11e5, 4: 1.1e5, 5: 1e5, 6: 1e5}, 4, 4),
        ("bottom_up", {2: 1e2, 3: 1e3, 4: 1e4, 5: 1e5, 6: 1e5}, 4, 4),
        ("top_down", {2: 1e5, 3: 1e5, 4: 1e5, 5: 1e5, 6: 1e5}, 1, 4),
        ("finest", {2: 1.111e5}, 4, 1),
        ("c4", {4: 1e4}, 0, 0),
        ("c5", {5: 1e5}, 0, 0),
    ],
)
def test_maps_by_hand(kind, expected, laterals, smoothings):
    maps = make_maps()
    layer = passing(make_neck(kind, channels=1), maps)
    assert (len(layer.laterals), len(layer.smoothings)) == (laterals, smoothings)
    pyramid = layer(maps)
    assert [int(name[1:]) for name in pyramid] == list(NECKS[kind]) == list(expected)
    for level, value in expected.items():
        side = max(2 ** (5 - level), 1)
        assert pyramid[f"p{level}"].shape == (1, side, side, 1)
        np.testing.assert_allclose(ops.convert_to_numpy(pyramid[f"p{level}"]), value)


@pytest.mark.parametrize("kind", ["bottom_up", "top_down", "finest", "c4"])
def test_in_a_functional_model_that_is_saved(kind, tmp_path):
    inputs = {f"c{k}": keras.Input((64 // 2**k, 64 // 2**k, 8), name=f"c{k}") for k in LEVELS}
    layer = make_neck(kind, channels=4)
    model = keras.Model(inputs, layer(inputs))
    random = np.random.default_rng(0)
    x = {n: random.normal(size=(1, *v.shape[1:])).astype(np.float32) for n, v in inputs.items()}
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")(x)
    for name, value in model(x).items():
        np.testing.assert_array_equal(ops.convert_to_numpy(value), ops.convert_to_numpy(again[name]))


@pytest.mark.parametrize("kind", list(NECKS))
def test_an_rpn_has_anchors_and_gradients_on_each(tiny_config, batch, kind):
    settings = config.replace(tiny_config, **{"model.kind": "rpn", "model.neck": kind})
    model, (x, y) = build(settings), batch
    outputs = model(x, training=True)
    sizes = {2: 16 * 24, 3: 8 * 12, 4: 4 * 6, 5: 2 * 3, 6: 1 * 2}
    per_cell = 3 if len(NECKS[kind]) > 1 else 15
    assert {k: len(a) for k, a in outputs.rpn.anchors.items()} == {
        f"p{k}": per_cell * sizes[k] for k in NECKS[kind]
    }
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = sum(model.compute_losses(y, model(x, training=True)).values())
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, gradients):
            assert gradient is not None, variable.path
            assert np.all(np.isfinite(tf.convert_to_tensor(gradient))), variable.path
    found = model(x)
    assert ops.convert_to_numpy(found.valid).any()


def test_sizes_must_match_the_levels(tiny_config):
    short = {"model.rpn.anchor_sizes": (8, 16)}
    with pytest.raises(config.ConfigError, match="expected 5 sizes"):
        config.replace(tiny_config, **short).validate()
    config.replace(tiny_config, **short, **{"model.neck": "c4"}).validate()
    with pytest.raises(config.ConfigError, match="expected model.neck=c4"):
        config.replace(tiny_config, **{"model.roi.head": "conv5"}).validate()
