import keras
import numpy as np
import pytest
from backends import tensors_of
from keras import ops

from fpn_tf import RPNHead
from fpn_tf.models.heads.unshared_rpn import UnsharedRPNHead

SIZES = {"p2": (5, 7), "p3": (3, 4), "p4": (1, 2), "p5": (1, 1)}


@pytest.fixture
def pyramid():
    random = np.random.default_rng(0)
    return {name: random.normal(size=(2, *size, 6)).astype("float32") for name, size in SIZES.items()}


def make_head(conv_layers):
    keras.utils.set_random_seed(0)
    head = RPNHead(num_anchors=3, conv_layers=conv_layers)
    head.build(dict.fromkeys(SIZES, (None, None, None, 6)))
    head.built = True
    for weight in head.weights:  # its own start is too small to see a mistake, and has no biases
        weight.assign(keras.random.normal(weight.shape, stddev=0.5, seed=1))
    return head


@pytest.mark.parametrize("conv_layers", [1, 2, 3])
def test_single_anchors_have_the_numbers_of_the_whole_maps(pyramid, conv_layers):
    head = make_head(conv_layers)
    logits, deltas = (
        np.concatenate([ops.convert_to_numpy(x) for x in level.values()], axis=1) for level in head(pyramid)
    )
    count = logits.shape[1]
    assert count == 3 * (35 + 12 + 2 + 1)
    order = np.random.default_rng(1).permutation(count)  # every anchor, borders included
    indices = np.stack([order, order[::-1]]).astype("int32")
    found_logits, found_deltas = head.at_anchors(*tensors_of((pyramid, indices)))
    expected = np.take_along_axis(logits, indices, axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(found_logits), expected, rtol=1e-5, atol=1e-5)
    expected = np.take_along_axis(deltas, indices[..., None], axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(found_deltas), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="uses GradientTape")
@pytest.mark.parametrize("conv_layers", [1, 2])
def test_single_anchors_have_the_gradients_of_the_whole_maps(pyramid, conv_layers):
    import tensorflow as tf

    head = make_head(conv_layers)
    indices = np.array([[0, 3, 3, 100, 149], [7, 104, 146, 144, 60]], np.int32)  # one of them twice
    maps = {name: tf.constant(feature) for name, feature in pyramid.items()}

    def whole():
        logits, deltas = (tf.concat(list(level.values()), axis=1) for level in head(maps))
        return tf.gather(logits, indices, batch_dims=1), tf.gather(deltas, indices, batch_dims=1)

    def gradients(outputs):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            logits, deltas = outputs()
            total = tf.reduce_sum(tf.sin(logits)) + tf.reduce_sum(tf.cos(deltas))
        return tape.gradient(total, [*maps.values(), *(v.value for v in head.trainable_variables)])

    expected = gradients(whole)
    found = gradients(lambda: head.at_anchors(maps, indices))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(tf.convert_to_tensor(a), b, rtol=1e-4, atol=1e-5)


def test_unshared_heads_are_one_for_each_level(pyramid):
    keras.utils.set_random_seed(0)
    head = UnsharedRPNHead(num_anchors=3)
    head.build(dict.fromkeys(SIZES, (None, None, None, 6)))
    head.built = True
    logits, deltas = head(pyramid)
    assert len(head.weights) == len(SIZES) * 6
    for name, own in head.heads.items():
        own_logits, own_deltas = own({name: pyramid[name]})
        for a, b in ((logits[name], own_logits[name]), (deltas[name], own_deltas[name])):
            np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    indices = np.stack([np.random.default_rng(1).permutation(150)] * 2).astype("int32")
    whole = np.concatenate([ops.convert_to_numpy(x) for x in logits.values()], axis=1)
    found, found_deltas = (ops.convert_to_numpy(x) for x in head.at_anchors(*tensors_of((pyramid, indices))))
    np.testing.assert_allclose(found, np.take_along_axis(whole, indices, axis=1), rtol=1e-5, atol=1e-6)
    whole = np.concatenate([ops.convert_to_numpy(x) for x in deltas.values()], axis=1)
    expected = np.take_along_axis(whole, indices[..., None], axis=1)
    np.testing.assert_allclose(found_deltas, expected, rtol=1e-5, atol=1e-6)
