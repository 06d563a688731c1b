"""Backbones from elsewhere: models of keras.applications, KerasHub's, and anybody's own."""

import contextlib
import importlib
import inspect
import re

import keras
import numpy as np

from fpn_tf.catalogue import APPLICATIONS, BACKBONES
from fpn_tf.models.backbones.resnet import ResNet
from fpn_tf.preprocessing import IMAGENET, PixelFormat

LEVELS = (2, 3, 4, 5)
PROBE = 256  # pixels, a multiple of the largest stride: the side of the image that tells the strides
NORMALIZERS = (keras.layers.Rescaling, keras.layers.Normalization)
RAW = PixelFormat("rgb", (0.0,) * 3, (1.0,) * 3)  # 0..255 as they are
UNNAMED = {
    "conv_pw_1": "MobileNet",
    "block_1_expand": "MobileNetV2",
}  # a layer of models that Keras does not name


def backbone(model: keras.Model) -> keras.Model:
    """A backbone made of a classifier without its top: the last map of each stride from 4 to 32.

    Args:
        model: one of `keras.applications` with `include_top=False`, any other functional Keras model of
            images [B, H, W, 3] of any size, or one with `pyramid_outputs` {"P2": ...} (KerasHub).

    Returns:
        keras.Model: images -> {"c2": [B, H/4, W/4, C], ..., "c5"}. It shares the layers, and their
        weights, with `model`. Its attribute `pixel_format` says which pixels it expects.

    Raises:
        ValueError: the model has a fixed size, or no map of one of the strides.

    Example:

    >>> classifier = keras.applications.MobileNetV3Large(include_top=False, weights=None)
    >>> sorted(fpn_tf.backbone(classifier).output)
    ['c2', 'c3', 'c4', 'c5']
    """
    if hasattr(model, "pyramid_outputs"):
        outputs = {name.lower().replace("p", "c"): maps for name, maps in model.pyramid_outputs.items()}
        maps = {f"c{level}": outputs[f"c{level}"] for level in LEVELS if f"c{level}" in outputs}
    else:
        maps = _last_of_strides(model)
    built = keras.Model(model.input, maps, name="backbone")
    built.pixel_format = pixel_format(model)
    return built


def _last_of_strides(model):
    """{"c2": the last map of stride 4, ...} of a functional model."""
    if not _is_functional(model):
        raise ValueError(f"{type(model).__name__}: expected a functional Keras model, such as a classifier's")
    shape = model.input.shape
    if tuple(shape[1:]) != (None, None, 3):
        raise ValueError(
            f"{model.name}: its input is {tuple(shape[1:])}; expected (None, None, 3): make it with "
            "input_shape=(None, None, 3)"
        )
    outputs = [layer.output for layer in model.layers if isinstance(layer.output, keras.KerasTensor)]
    maps = {}
    for output, spec in zip(outputs, _specs(model, outputs), strict=True):
        for level in LEVELS:
            if spec.shape[1:3] == (PROBE >> level, PROBE >> level):
                maps[f"c{level}"] = output
    missing = [2**level for level in LEVELS if f"c{level}" not in maps]
    if missing:
        raise ValueError(f"{model.name}: has no map of stride {missing[0]}; expected 4, 8, 16 and 32")
    return maps


def as_backbone(given, dtype=None):
    """The layer or model that `FasterRCNN(backbone=...)` means: a name, a KerasHub model, or itself.

    Raises:
        ValueError: an unknown name, or a model that gives no maps by name.
    """
    if isinstance(given, str):
        if given.startswith(APPLICATIONS):
            return backbone(application(given, dtype=dtype))
        if given not in BACKBONES:
            raise ValueError(
                f"backbone={given!r}: expected one of {', '.join(BACKBONES)} or {APPLICATIONS}NAME"
            )
        return ResNet(**BACKBONES[given], name="backbone", dtype=dtype)
    if hasattr(given, "pyramid_outputs"):
        return backbone(given)
    if not isinstance(given, keras.layers.Layer):
        raise ValueError(
            f"backbone={given!r}: expected a name, or a Keras model or layer that gives maps by name"
        )
    if _is_functional(given) and not isinstance(given.output, dict):
        raise ValueError(
            f"backbone={given.name}: gives {len(given.outputs)} map(s) without names; expected maps named "
            "c2, c3, c4, c5: fpn_tf.backbone(model) makes such a backbone of a classifier"
        )
    return given


def application(name, weights=None, dtype=None):
    """A model of keras.applications without its top, for images of any size.

    Args:
        name: such as "keras_applications/ConvNeXtTiny".
        weights: None, "imagenet" (downloaded by Keras) or the path of a file of them.
        dtype: a dtype policy; None: Keras' own.

    Returns:
        keras.Model; its attribute `pixel_format` says which pixels it expects.

    Raises:
        ValueError: there is no such model.
    """
    make = _constructors().get(name.removeprefix(APPLICATIONS))
    if make is None:
        known = ", ".join(sorted(_constructors())[:6])
        raise ValueError(f"{name}: keras.applications has no such model; expected one of {known}, ...")
    with _channels_last(dtype or keras.config.dtype_policy()):
        model = make(include_top=False, weights=weights, input_shape=(None, None, 3))
    model.pixel_format = pixel_format(name)
    return model


@contextlib.contextmanager
def _channels_last(policy):
    """While it lasts, Keras makes layers of a dtype policy and for maps [B, H, W, C]."""
    usual_policy, usual_format = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual_policy)
        keras.config.set_image_data_format(usual_format)


def pixel_format(given):
    """The PixelFormat that a backbone expects.

    Args:
        given: a name, or a Keras model or layer. One that was made by `backbone`, normalises its
            images itself or is known to keras.applications by its name tells it; any other is taken to
            expect ImageNet's usual mean and deviation.
    """
    if hasattr(given, "pixel_format"):
        return PixelFormat(*given.pixel_format)
    if isinstance(given, str):
        name = given.removeprefix(APPLICATIONS) if given.startswith(APPLICATIONS) else ""
    elif not _is_functional(given):
        return IMAGENET
    elif any(isinstance(layer, NORMALIZERS) for layer in given._flatten_layers()):
        return RAW
    else:
        names = [name for layer, name in UNNAMED.items() if layer in {each.name for each in given.layers}]
        name = names[0] if names else given.name
    makers = {_plain(n): maker for n, maker in _constructors().items()}
    maker = makers.get(_plain(name))
    if maker is None:
        return IMAGENET
    return _probed(importlib.import_module(maker.__module__).preprocess_input)


def _is_functional(model):
    return isinstance(model, keras.Model) and hasattr(model, "outputs")


def _constructors():
    """{name: function} of the models in keras.applications."""
    return {
        name: value
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value) and "include_top" in inspect.signature(value).parameters
    }


def _plain(name):
    """`efficientnetv2-b0`, `MobileNetV3Large`, `convnext_tiny` -> letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _probed(preprocess_input):
    """The PixelFormat of a `preprocess_input`, which is linear in each channel, read off three pixels."""

    def at(pixel):
        return preprocess_input(np.asarray(pixel, np.float64).reshape(1, 1, 1, 3), "channels_last").ravel()

    black, white, red = at([0, 0, 0]), at([255, 255, 255]), at([255, 0, 0])
    std = 255 / (white - black)
    order = "bgr" if red[2] != black[2] else "rgb"
    mean = 0.0 - black * std
    return PixelFormat(order, *(tuple(values.round(4).tolist()) for values in (mean, std)))


def freeze_norms(model):
    """Makes every batch norm of a model constant, as a detector with few images a step wants it."""
    for layer in _batch_norms(model):
        layer.trainable = False


def synchronize_norms(model):
    """Has every batch norm of a model see the whole batch, over all replicas of TensorFlow."""
    if keras.config.backend() != "tensorflow":  # other backends have no replicas
        return
    for layer in _batch_norms(model):
        layer.synchronized = True


def _batch_norms(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def freeze_stages(model, stages):
    """Freezes the first stages of what `backbone` gives: 1 what has stride 2 or less, 2 c2 as well, ... 5."""
    if not stages:
        return
    layers = list(model.layers)
    if stages > 1:
        last = layers.index(model.output[f"c{stages}"]._keras_history.operation)
    else:
        shapes = (spec.shape for spec in _specs(model, [layer.output for layer in layers]))
        # Stride 4 with a border of padding is a little larger than PROBE // 4.
        last = max(i for i, s in enumerate(shapes) if len(s) == 4 and s[1] > PROBE * 3 // 8)
    for layer in layers[: last + 1]:
        layer.trainable = False


def _specs(model, outputs):
    """What a functional model's inner `outputs` are for an image of PROBE x PROBE, as KerasTensors."""
    image = keras.KerasTensor((1, PROBE, PROBE, 3))
    return keras.tree.flatten(keras.Model(model.input, outputs).compute_output_spec(image))
