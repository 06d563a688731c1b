import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf.models.heads.rpn import RPNHead
from fpn_tf.models.necks.feature_pyramid import FeaturePyramid, upsample_nearest


def test_upsampling_repeats_and_crops():
    x = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    found = ops.convert_to_numpy(upsample_nearest(x, (3, 4)))[0, :, :, 0]
    np.testing.assert_array_equal(found, [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]])


def test_merge_by_hand():
    # Identity laterals and smoothings (a 1 in the kernel's centre): p = c + upsampled p of above.
    layer = FeaturePyramid(channels=1)
    maps = {f"c{k}": np.full((1, 2 ** (5 - k), 2 ** (5 - k), 1), 10.0**k, np.float32) for k in (2, 3, 4, 5)}
    layer.build({name: value.shape for name, value in maps.items()})
    for conv in layer.laterals + layer.smoothings:
        kernel = np.zeros(conv.kernel.shape, np.float32)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        conv.kernel.assign(kernel)
    pyramid = {name: ops.convert_to_numpy(value) for name, value in layer(maps).items()}
    assert list(pyramid) == ["p2", "p3", "p4", "p5", "p6"]
    for level, total in ((5, 1e5), (4, 1.1e5), (3, 1.11e5), (2, 1.111e5)):
        np.testing.assert_allclose(pyramid[f"p{level}"], total)
    np.testing.assert_array_equal(pyramid["p6"], pyramid["p5"][:, ::2, ::2])


def test_odd_sizes_and_other_levels():
    maps = {"c3": np.zeros((1, 13, 9, 4), np.float32), "c4": np.zeros((1, 7, 5, 8), np.float32)}
    pyramid = FeaturePyramid(6)(maps)
    assert {k: v.shape for k, v in pyramid.items()} == {
        "p3": (1, 13, 9, 6),
        "p4": (1, 7, 5, 6),
        "p5": (1, 4, 3, 6),
    }
    with pytest.raises(ValueError, match="consecutive"):
        FeaturePyramid(6).build({"c2": (1, 8, 8, 4), "c4": (1, 2, 2, 4)})


def test_in_a_functional_model_that_is_saved(tmp_path):
    inputs = {f"c{k}": keras.Input((64 // 2**k, 64 // 2**k, 8), name=f"c{k}") for k in (2, 3, 4, 5)}
    model = keras.Model(inputs, FeaturePyramid(4)(inputs))
    x = {
        n: np.random.default_rng(0).normal(size=(1, *v.shape[1:])).astype(np.float32)
        for n, v in inputs.items()
    }
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    before, after = (ops.convert_to_numpy(one(x)["p3"]) for one in (model, again))
    np.testing.assert_array_equal(before, after)


def test_rpn_head_orders_as_the_anchors_do():
    head = RPNHead(num_anchors=2)
    head.build({"p2": (None, None, None, 3)})
    head.convs[0].kernel.assign(np.zeros(head.convs[0].kernel.shape))
    head.convs[0].bias.assign([1.0, 0.0, 0.0])
    head.objectness.kernel.assign(np.arange(6).reshape(1, 1, 3, 2))
    head.deltas.kernel.assign(np.arange(24).reshape(1, 1, 3, 8))
    logits, deltas = head({"p2": np.zeros((1, 2, 2, 3), np.float32)})
    np.testing.assert_array_equal(ops.convert_to_numpy(logits["p2"]), [[0, 1] * 4])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(deltas["p2"])[0, :3], [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    )
