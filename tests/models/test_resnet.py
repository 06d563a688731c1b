import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf.errors import WeightsError
from fpn_tf.models.backbones.resnet import ConvNorm, ResNet
from fpn_tf.pretrained import backbone_files, naming


def randomized(layer, seed=0):
    """Fills every weight with numbers that keep activations of order one; returns the layer."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if "variance" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "gamma" in weight.name:
            weight.assign(rng.uniform(0.4, 0.8, weight.shape))
        elif weight.name == "kernel":
            fan_in = np.prod(weight.shape[:-1])
            weight.assign(rng.normal(0, np.sqrt(2 / fan_in), weight.shape))
        else:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return layer


def convolve(image, kernel, stride):
    """Symmetrically padded convolution of [H, W, C], a loop over places."""
    pad = kernel.shape[0] // 2
    padded = np.pad(image, [(pad, pad), (pad, pad), (0, 0)])
    size = [-(-side // stride) for side in image.shape[:2]]
    out = np.zeros((*size, kernel.shape[3]))
    for i in range(size[0]):
        for j in range(size[1]):
            patch = padded[
                i * stride : i * stride + kernel.shape[0], j * stride : j * stride + kernel.shape[1]
            ]
            out[i, j] = np.einsum("abc,abcd->d", patch, kernel)
    return out


@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_conv_norm_equals_the_loop(kernel_size, stride):
    layer = ConvNorm(4, kernel_size, stride, epsilon=1e-3)
    layer.build((None, None, None, 3))
    randomized(layer)
    image = np.random.default_rng(1).normal(size=(1, 8, 10, 3)).astype(np.float32)
    w = {name: ops.convert_to_numpy(v) for name, v in layer.norm_weights.items()}
    expected = convolve(image[0], ops.convert_to_numpy(layer.kernel), stride)
    expected = (expected - w["moving_mean"]) / np.sqrt(w["moving_variance"] + 1e-3) * w["gamma"] + w["beta"]
    np.testing.assert_allclose(ops.convert_to_numpy(layer(image))[0], expected, atol=1e-4)


@pytest.mark.parametrize("depth", ["tiny", 18, 50])
def test_strides_and_channels(depth):
    maps = ResNet(depth)(np.zeros((1, 64, 96, 3), np.float32))
    widths = {"tiny": (32, 64, 128, 256), 18: (64, 128, 256, 512), 50: (256, 512, 1024, 2048)}[depth]
    for level, width in zip((2, 3, 4, 5), widths):
        assert maps[f"c{level}"].shape == (1, 64 // 2**level, 96 // 2**level, width)


def test_parameter_counts_of_the_literature():
    # torchvision: 25,557,032 and 44,549,160 with the classifier of 2048 * 1000 + 1000.
    for depth, total in ((50, 25_557_032), (101, 44_549_160)):
        net = ResNet(depth)
        net.build((None, None, None, 3))
        trainable = sum(int(np.prod(w.shape)) for w in net.weights if "moving" not in w.name)
        assert trainable == total - 2_049_000


def test_frozen_stages_are_constant():
    net = ResNet(18, norm="group_norm", frozen_stages=2)
    net.build((None, None, None, 3))
    assert not net.stem.trainable_weights
    assert not any(block.trainable_weights for block in net.stages[0])
    assert all(block.trainable_weights for block in net.stages[1])


@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_stride_placement_changes_the_features(stride_in_1x1):
    net = ResNet(50, stride_in_1x1=stride_in_1x1)
    net.build((None, None, None, 3))
    block = net.stages[1][0]
    assert [conv.strides for conv in block.convs] == ([2, 1, 1] if stride_in_1x1 else [1, 2, 1])


def as_torchvision(net):
    """The net's weights as {torchvision's name: array}."""
    arrays = {"fc.weight": np.zeros((1000, 3)), "bn1.num_batches_tracked": np.array(1)}
    return arrays | {weight.name: weight.theirs() for weight in naming.backbone_weights(net)}


def built(depth, **options):
    net = ResNet(depth, **options)
    net.build((None, None, None, 3))
    return net


def test_npz_round_trip(tmp_path):
    source, target = randomized(built(18)), built(18)
    np.savez(tmp_path / "w.npz", **as_torchvision(source))
    backbone_files.load_arrays(target, backbone_files.read_arrays(tmp_path / "w.npz"), "w.npz")
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    before, after = (ops.convert_to_numpy(net(image)["c5"]) for net in (source, target))
    np.testing.assert_array_equal(before, after)


def test_npz_that_does_not_fit_changes_nothing(tmp_path):
    arrays = as_torchvision(randomized(built(18)))
    arrays["layer9.weight"] = np.zeros(3)
    del arrays["conv1.weight"]
    arrays["bn1.bias"] = np.zeros(5)
    net = built(18)
    before = [ops.convert_to_numpy(w) for w in net.weights]
    told = r"conv1.weight \(64, 3, 7, 7\) is missing; bn1.bias is \(5,\).*layer9.weight \(3,\) is left over"
    with pytest.raises(WeightsError, match=told):
        backbone_files.load_arrays(net, arrays, "w.npz")
    for old, new in zip(before, net.weights):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    with pytest.raises(WeightsError, match=r"bad.npz"):
        backbone_files.read_arrays(tmp_path / "bad.npz")


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="minutes elsewhere")
def test_equals_keras_applications():
    reference = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(96, 128, 3))
    randomized(reference)
    net = built(50, stride_in_1x1=True)
    backbone_files.load_keras_application(net, reference)
    names = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
    features = keras.Model(reference.input, [reference.get_layer(name).output for name in names])
    image = np.random.default_rng(0).normal(size=(1, 96, 128, 3)).astype(np.float32)
    for level, expected in zip((2, 3, 4, 5), features(image)):
        expected = ops.convert_to_numpy(expected)
        found = ops.convert_to_numpy(net(image)[f"c{level}"])
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
