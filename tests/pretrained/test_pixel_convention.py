"""The pixels that a file's backbone was trained on are told by the file; a config of others is refused."""

import json

import keras
import numpy as np
import pytest
from conftest import make_tiny_config

import fpn_tf
from fpn_tf import config
from fpn_tf.assemble import build, make_backbone
from fpn_tf.config import ModelConfig
from fpn_tf.errors import WeightsError
from fpn_tf.models.backbones import applications
from fpn_tf.pretrained import detectron2, naming
from fpn_tf.pretrained.backbone_files import load_backbone_weights
from fpn_tf.pretrained.pixel_convention import (
    CAFFE,
    TORCHVISION,
    Convention,
    as_overrides,
    check_pixels,
    convention_of,
)

CAFFE_MODEL = {f"model.{key}": value for key, value in CAFFE.items()}
SPREAD = 58.0  # of pixels of 0..255 in photos


def stem(spread, size=7, channels=64, seed=0):
    """conv1 and bn1 of a network trained on photos whose pixels have this deviation.

    The filters' answers to smooth photos are worked out by drawing such photos.
    """
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(channels, 3, size, size)) * 0.05
    kernel[::2] -= kernel[::2].mean(axis=(2, 3), keepdims=True)  # half of them see edges alone
    walks = np.cumsum(np.cumsum(rng.normal(size=(400, 1, size, size)), axis=2), axis=3)
    photos = walks + 0.3 * rng.normal(size=(400, 3, size, size))
    photos *= spread / photos.std()
    variance = np.einsum("ocyx,ncyx->no", kernel, photos).var(axis=0)
    return {
        "conv1.weight": kernel.astype(np.float32),
        "bn1.weight": rng.uniform(0.2, 1.2, channels).astype(np.float32),
        "bn1.bias": np.zeros(channels, np.float32),
        "bn1.running_mean": np.zeros(channels, np.float32),
        "bn1.running_var": variance.astype(np.float32),
    }


def folded(arrays):
    """The moments multiplied into the factors, as converters of Caffe2's files leave them."""
    factor = arrays["bn1.weight"] / np.sqrt(arrays["bn1.running_var"])
    return arrays | {"bn1.weight": factor, "bn1.running_var": np.full_like(factor, 1 - 1e-5)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("spread", "expected"), [(1.0, TORCHVISION), (SPREAD, CAFFE)])
def test_the_statistics_tell(spread, expected, seed):
    arrays = stem(spread, seed=seed)
    arrays["bn1.running_var"] *= (3456 if spread == SPREAD else 1) / np.median(arrays["bn1.running_var"])
    convention = convention_of(arrays)
    assert convention.settings is expected
    median = "3.46e+03" if expected is CAFFE else "1"
    assert f"bn1.running_var has a median of {median}:" in convention.reason


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("spread", "expected"), [(1.0, TORCHVISION), (SPREAD, CAFFE)])
def test_folded_statistics_tell_by_the_answer_to_photos(spread, expected, seed):
    assert convention_of(folded(stem(spread, seed=seed))).settings is expected


def test_nothing_is_made_of_what_tells_nothing():
    plain = stem(1.0)
    ones = np.ones(64, np.float32)
    assert convention_of(plain | {"bn1.running_var": ones, "bn1.weight": ones}) is None  # never trained
    assert convention_of({k: v for k, v in plain.items() if "running" not in k}) is None  # group norm
    assert convention_of({}) is None
    assert convention_of(plain | {"conv1.weight": np.zeros((3, 3))}) is None
    check_pixels(ModelConfig(), None, "w.npz")


def model_config(**changes):
    return config.replace(config.Config(), **{f"model.{key}": value for key, value in changes.items()}).model


@pytest.mark.parametrize(
    ("spread", "changes", "told"),
    [
        (1.0, CAFFE, "model.pixel_order=bgr, model.pixel_std=1,1,1, model.stride_in_1x1=true"),
        (1.0, {"stride_in_1x1": True}, "model.stride_in_1x1=true"),
        (1.0, {"pixel_order": "bgr"}, "model.pixel_order=bgr"),
        (1.0, {"pixel_std": (1.0, 1.0, 1.0)}, "model.pixel_std=1,1,1"),
        (
            SPREAD,
            {},
            "model.pixel_order=rgb, model.pixel_std=58.395,57.12,57.375, model.stride_in_1x1=false",
        ),
        (SPREAD, CAFFE | {"pixel_order": "rgb"}, "model.pixel_order=rgb"),
        (SPREAD, CAFFE | {"pixel_std": None}, "model.pixel_std=58.395,57.12,57.375"),
        (SPREAD, CAFFE | {"stride_in_1x1": False}, "model.stride_in_1x1=false"),
    ],
)
def test_another_convention_is_refused_with_the_overrides_that_fit(spread, changes, told):
    arrays = stem(spread)
    arrays["bn1.running_var"] *= (3456 if spread == SPREAD else 1) / np.median(arrays["bn1.running_var"])
    settings = model_config(**changes)
    convention = convention_of(arrays)
    with pytest.raises(WeightsError) as caught:
        check_pixels(settings, convention, "w.pth")
    message = str(caught.value)
    assert message.startswith("w.pth: bn1.running_var has a median of ")
    assert f"; this run has {told}; these weights need " in message
    assert "\n" not in message
    # With the overrides of the message it is taken.
    needed = message.partition("these weights need ")[2].split(", ")
    check_pixels(config.override(config.replace(config.Config()), needed).model, convention, "w.pth")


@pytest.mark.parametrize(
    ("spread", "changes"),
    [
        (1.0, {}),
        (1.0, {"pixel_mean": (127.5,) * 3, "pixel_std": (127.5,) * 3}),  # a mean of one's own
        (1.0, {"backbone": "resnet18", "stride_in_1x1": True}),  # which has no 1x1 to stride in
        (SPREAD * 10, CAFFE),
        (SPREAD * 10, CAFFE | {"pixel_mean": (102.9801, 115.9465, 122.7717)}),
    ],
)
def test_what_fits_is_taken(spread, changes):
    arrays = stem(spread)
    check_pixels(model_config(**changes), convention_of(arrays), "w.npz")


@pytest.fixture(scope="module")
def detector():
    """A tiny detector whose first batch norm varies, in torchvision's names."""
    keras.utils.set_random_seed(5)
    settings = config.replace(make_tiny_config(), **{"model.norm": "frozen_bn"})
    arrays = naming.state_dict(build(settings))
    variance = arrays["backbone.body.bn1.running_var"]
    variance[:] = np.random.default_rng(0).uniform(0.5, 2.0, variance.shape)
    return settings, arrays


def under(convention, detector):
    """(Config, arrays) of the detector as if it had been trained on the pixels of a convention."""
    settings, arrays = detector
    if convention is TORCHVISION:
        return settings, arrays
    variance = arrays["backbone.body.bn1.running_var"] * 3456
    return config.replace(settings, **CAFFE_MODEL), arrays | {"backbone.body.bn1.running_var": variance}


@pytest.mark.parametrize("file", ["backbone", "detector", "our own"])
@pytest.mark.parametrize("convention", [CAFFE, TORCHVISION])
def test_every_file_of_a_backbone_is_looked_at(detector, tmp_path, file, convention):
    settings, arrays = under(convention, detector)
    body = {k.removeprefix("backbone.body."): v for k, v in arrays.items() if "body" in k}
    if file == "our own":
        text = json.dumps(config.to_dict(settings)).encode()
        arrays = arrays | {"config.json": np.frombuffer(text, np.uint8)}
    np.savez(tmp_path / "w.npz", **(body if file == "backbone" else arrays))
    settings = config.replace(settings, **{"model.backbone_weights": str(tmp_path / "w.npz")})
    backbone = make_backbone(settings)
    backbone(keras.KerasTensor((None, None, None, 3)))
    before = backbone.get_weights()
    other = TORCHVISION if convention is CAFFE else CAFFE
    wrong = config.replace(settings, **{f"model.{key}": value for key, value in other.items()})
    with pytest.raises(WeightsError, match=r"w.npz: .*; this run has .*; these weights need model.pixel_or"):
        load_backbone_weights(backbone, wrong.model)
    for a, b in zip(before, backbone.get_weights()):
        np.testing.assert_array_equal(a, b)
    load_backbone_weights(backbone, settings.model)
    kernel = np.asarray(backbone.stem.kernel).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(kernel, body["conv1.weight"])


def test_a_detector_in_torchvisions_names_with_the_pixels_of_caffe(detector, tmp_path):
    """What --format=torchvision writes of such a run."""
    _, arrays = under(CAFFE, detector)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError, match="a median of .*these weights need model.pixel_order=bgr"):
        fpn_tf.load(tmp_path / "w.npz")
    model = fpn_tf.load(tmp_path / "w.npz", as_overrides(CAFFE).split(", "))
    assert (model.preprocessor.pixel_order, model.preprocessor.pixel_std) == ("bgr", (1, 1, 1))


@pytest.mark.parametrize("has_pixels", [True, False])
def test_detectron2_without_its_pixels(detector, caplog, has_pixels):
    arrays = dict(detector[1])
    for old, new in (("fc6", "fc1"), ("fc7", "fc2")):
        for part in ("weight", "bias"):
            name = f"roi_heads.box_head.{{}}.{part}"
            arrays[name.format(new)] = arrays.pop(name.format(old))
    pixels = {"pixel_mean": np.array([103.53, 116.28, 123.675])} if has_pixels else {}
    detectron2.convert(arrays | pixels, "model_final.pth")
    assert ("override model.pixel_order=rgb" in caplog.text) is not has_pixels


def test_models_of_keras_applications_have_pixels_of_their_own():
    """Those of an experiment that was written for Caffe's ResNet are refused beside their weights."""
    name = "keras_applications/MobileNetV3Large"
    pixels = dict(zip(config.PIXELS, applications.pixel_format(name)))
    assert pixels["pixel_order"] == "rgb"
    convention = Convention("those of it", pixels)
    check_pixels(model_config(backbone=name), convention, "imagenet")
    with pytest.raises(WeightsError, match="has model.pixel_order=bgr; these weights need model.pixel_or"):
        check_pixels(model_config(backbone=name, **CAFFE), convention, "imagenet")


def test_imagenet_of_keras_is_caffes():
    settings = model_config(backbone_weights="imagenet", pixel_order="bgr", stride_in_1x1=True)
    backbone = fpn_tf.ResNet(50)  # not built: the config is refused before
    with pytest.raises(WeightsError, match="has model.pixel_std=58.395,57.12,57.375; these weights need"):
        load_backbone_weights(backbone, settings)


def test_imagenet_that_cannot_be_had_is_one_line(monkeypatch):
    def no_network(**arguments):
        raise Exception("URL fetch failure on https://somewhere\nmore")

    monkeypatch.setattr(keras.applications, "ResNet50", no_network)
    settings = model_config(backbone_weights="imagenet", **CAFFE)
    with pytest.raises(
        WeightsError, match=r"imagenet: not to be had \(URL fetch failure.*expected a network"
    ):
        load_backbone_weights(fpn_tf.ResNet(50), settings)
