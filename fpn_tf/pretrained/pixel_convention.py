"""The pixels that a file's ResNet was trained on, told by the file, and whether a config shows it those.

A backbone gives plausible and wrong features on pixels of another scale or order, or with its stride in
another convolution, and no shape tells. The statistics of its first batch norm do: Caffe's networks saw
values of 0..255, with variances of thousands after the first convolution; those of PyTorch saw values
divided by their deviation, with variances around 1.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fpn_tf.catalogue import APPLICATIONS, BACKBONES
from fpn_tf.config import PIXELS
from fpn_tf.errors import WeightsError

VARIANCE_BORDER = 60.0  # between about 1 and about 3500: the middle of their logarithms
RESPONSE_BORDER = 0.08  # likewise, of `_response`: between 0.2 and more, and 0.03 and less
SPREAD_BORDER = 8.0  # likewise, of pixel_std: between 1 and 58
NEIGHBOURS = 0.95  # correlation of neighbouring pixels in photos
COLOURS = 0.9  # ... and of a pixel's colours


class Convention(NamedTuple):
    """What a family of weights expects, and how that is known."""

    reason: str  # for messages: after the file's name
    settings: dict[str, Any]  # keys of `model` -> values


CAFFE = {
    "pixel_order": "bgr",
    "pixel_mean": (103.939, 116.779, 123.68),
    "pixel_std": (1.0, 1.0, 1.0),
    "stride_in_1x1": True,
}
CAFFE2_RESNEXT = CAFFE | {"pixel_std": (57.375, 57.12, 58.395), "stride_in_1x1": False}
TORCHVISION = PIXELS | {"stride_in_1x1": False}


def convention_of(arrays):
    """The Convention that the tensors of a ResNet tell of; None where they tell of none.

    Args:
        arrays: {torchvision's name: array} of a backbone. Without a batch norm, or with one that was
            never trained, nothing is known.
    """
    names = ("conv1.weight", "bn1.weight", "bn1.running_var")
    if not all(name in arrays for name in names):
        return None
    kernel, gamma, variance = (np.asarray(arrays[name], np.float64) for name in names)
    if kernel.ndim != 4 or not len(kernel) == gamma.size == variance.size:
        return None
    if np.ptp(variance) > 0:
        median = float(np.median(variance))
        is_caffe, evidence = median > VARIANCE_BORDER, f"bn1.running_var has a median of {median:.3g}"
    elif np.ptp(gamma) > 0:  # its moments were folded into the factors, as in files made of Caffe2's
        response = _response(kernel, gamma, variance)
        is_caffe, evidence = response < RESPONSE_BORDER, f"conv1 and bn1 answer pixels by {response:.2g}"
    else:
        return None
    pixels = "0..255" if is_caffe else "/ std"
    return Convention(f"{evidence}: it was trained on pixels of {pixels}", CAFFE if is_caffe else TORCHVISION)


def _response(kernel, gamma, variance):
    """The deviation of a typical channel after conv1 and bn1, on photos whose pixels deviate by 1.

    Args:
        kernel: [O, I, K, K], as PyTorch has it.
        gamma: [O].
        variance: [O].
    """
    places, colours = np.arange(kernel.shape[-1]), np.arange(kernel.shape[1])
    near = NEIGHBOURS ** np.abs(places[:, None] - places)
    alike = np.where(colours[:, None] == colours, 1.0, COLOURS)
    mixed = np.einsum("ocyx,cd,yv,xu->odvu", kernel, alike, near, near)
    deviation = np.sqrt(np.einsum("odvu,odvu->o", mixed, kernel))
    return float(np.median(np.abs(gamma) * deviation / np.sqrt(variance)))


def check_pixels(model_config, convention, source):
    """Refuses a config that shows a backbone other pixels than it was trained on, or strides elsewhere.

    The mean is not compared: a user may have that of their own photos.

    Args:
        model_config: ModelConfig.
        convention: Convention of the weights, or None: nothing is known of them.
        source: file name, for messages.

    Raises:
        WeightsError: names what differs, and the overrides that fit.
    """
    if convention is None:
        return
    expected, given = convention.settings, settings_of(model_config)
    compared = [
        key for key in ("pixel_order", "pixel_std", "stride_in_1x1") if key in given.keys() & expected.keys()
    ]
    different = {key: given[key] for key in compared if not _fits(key, given[key], expected[key])}
    if different:
        raise WeightsError(
            f"{source}: {convention.reason}; this run has {as_overrides(different)}; "
            f"these weights need {as_overrides(expected)}"
        )


def settings_of(model_config):
    """{key of `model`: value} of what the weights of a config's backbone depend on.

    Where a config leaves pixels open they are a ResNet's own; those that a model of keras.applications
    then has are left out, and so is the stride of a ResNet that has no 1x1 to stride in.
    """
    pixels = {key: getattr(model_config, key) for key in PIXELS}
    if model_config.backbone.startswith(APPLICATIONS):
        return {key: value for key, value in pixels.items() if value is not None}
    pixels = {key: PIXELS[key] if value is None else value for key, value in pixels.items()}
    depth = BACKBONES[model_config.backbone]["depth"]
    has_bottlenecks = depth != "tiny" and depth >= 50
    return pixels | ({"stride_in_1x1": model_config.stride_in_1x1} if has_bottlenecks else {})


def as_overrides(settings):
    """{key of `model`: value} as the texts of overrides."""
    return ", ".join(f"model.{key}={_as_text(value)}" for key, value in settings.items())


def _fits(key, given, expected):
    """Whether a setting is the expected one; a deviation need only be of its size."""
    if key != "pixel_std":
        return given == expected
    given, expected = (math.prod(values) ** (1 / len(values)) for values in (given, expected))
    return (given > SPREAD_BORDER) == (expected > SPREAD_BORDER)


def _as_text(value):
    if isinstance(value, tuple):
        return ",".join(f"{number:g}" for number in value)
    return str(value).lower() if isinstance(value, bool) else value
