"""Weights for the backbone: torchvision's or Detectron's files, a detector's, or keras.applications."""

import json
import pathlib
import zipfile

import keras
import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.catalogue import APPLICATIONS
from fpn_tf.config import PIXELS
from fpn_tf.errors import ConfigError, WeightsError
from fpn_tf.models.backbones import applications
from fpn_tf.pretrained import detectron
from fpn_tf.pretrained.naming import NORM_NAMES, assign, backbone_weights
from fpn_tf.pretrained.pixel_convention import (
    CAFFE,
    CAFFE2_RESNEXT,
    Convention,
    check_pixels,
    convention_of,
    settings_of,
)
from fpn_tf.pretrained.unpickle import read_pkl, read_pth

KERAS_PARTS = {theirs: ours for ours, theirs in NORM_NAMES.items()}
CONFIG_ENTRY = "config.json"  # of this project's .npz, besides the weights
BODY = "backbone.body."  # before the names of a backbone that is part of a detector
SUFFIXES = (".npz", ".pth", ".pt", ".pkl")  # of the files that `read_arrays` reads
WRAPPINGS = ("model", "state_dict", "blobs")  # where training scripts put the tensors


def load_backbone_weights(backbone, model_config, head_stage=()):
    """Loads what `model.backbone_weights` names into a ResNet.

    Args:
        backbone: fpn_tf.ResNet, built; or one of keras.applications, whose weights Keras has.
        model_config: ModelConfig. Its backbone_weights: "" leaves the weights alone; "imagenet"
            downloads those of keras.applications; anything else is the path of an .npz or .pth
            with torchvision's names, of a backbone or of a detector that has it, or of one of
            Detectron's .pkl; and for a backbone of keras.applications, of a file that Keras wrote.
        head_stage: blocks of the fifth stage, where a box head has it, see
            `fpn_tf.models.heads.conv5.Conv5Head`.

    Raises:
        WeightsError: the file is absent or its tensors do not fit.
    """
    source = model_config.backbone_weights
    if not source:
        return
    if model_config.backbone.startswith(APPLICATIONS):
        pixels = dict(zip(PIXELS, applications.pixel_format(backbone)))
        check_pixels(model_config, Convention(f"those of {model_config.backbone}", pixels), source)
        _load_application_weights(backbone, model_config.backbone, source)
        return
    if source == "imagenet":
        classes = {50: keras.applications.ResNet50, 101: keras.applications.ResNet101}
        if backbone.depth not in classes or backbone.groups > 1:
            raise WeightsError(
                f"model.backbone_weights=imagenet: keras.applications has no {model_config.backbone}"
            )
        check_pixels(
            model_config, Convention("those of keras.applications", CAFFE), "model.backbone_weights=imagenet"
        )
        load_keras_application(backbone, _imagenet(classes[backbone.depth]), head_stage)
        return
    arrays = read_arrays(source)
    stored_config = arrays.pop(CONFIG_ENTRY, None)
    body = {name.removeprefix(BODY): array for name, array in arrays.items() if name.startswith(BODY)}
    if detectron.is_source(arrays):
        body = detectron.rename(arrays, prefix="")
        convention = Convention("Detectron's weights", CAFFE2_RESNEXT if backbone.groups > 1 else CAFFE)
    elif stored_config is not None:
        convention = Convention("its own config", settings_of(config_in(stored_config, source).model))
    else:
        body = body or arrays
        convention = convention_of(body)
    check_pixels(model_config, convention, source)
    load_arrays(backbone, body, source, head_stage)


def _imagenet(make):
    """A model of keras.applications with the weights that Keras downloads. Raises: WeightsError."""
    try:
        return make(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises plain Exceptions where a download fails
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"model.backbone_weights=imagenet: not to be had ({reason}); expected a network that reaches "
            "Keras' storage, or the path of a file, see docs/other_libraries.md"
        ) from None


def config_in(entry, source):
    """The Config that an `.npz` of this project holds. Raises: WeightsError, where it is damaged."""
    try:
        return config_lib.from_dict(json.loads(bytes(entry)))
    except (ValueError, ConfigError) as error:
        raise WeightsError(f"{source}: its {CONFIG_ENTRY} is damaged ({error})") from None


def _load_application_weights(backbone, name, source):
    """Loads a backbone of keras.applications: "imagenet", or a file that Keras wrote of such a model.

    A `.weights.h5` or `.keras` may have the classifier's top, which is passed over; an `.h5` may not.

    Raises:
        WeightsError: they cannot be had, or do not fit.
    """
    expected = (
        "expected imagenet, or the path of a .weights.h5, .keras or .h5 (without the top) of that model"
    )
    if source != "imagenet" and not pathlib.Path(source).is_file():
        raise WeightsError(f"model.backbone_weights={source}: no such file; {expected}")
    try:
        weighted = applications.backbone(applications.application(name, weights=source))
    except Exception as error:  # Keras raises plain Exceptions where a download fails
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"model.backbone_weights={source}: not to be had for {name} ({reason}); {expected}"
        ) from None
    backbone.set_weights(weighted.get_weights())


def read_arrays(path):
    """The tensors of a weights file as {name: array}, by its suffix: `.npz`, `.pth`/`.pt` or `.pkl`.

    What wraps them (`model`, `state_dict`, `blobs`, `module.`) is taken off; what else lies
    beside them in the wrapping is passed over.

    Raises:
        WeightsError: the file is absent, damaged or of another kind.
    """
    suffix = pathlib.Path(path).suffix
    if suffix not in SUFFIXES:
        absence = "" if pathlib.Path(path).exists() else "no such file; "
        raise WeightsError(f"{path}: {absence}expected a file ending in {', '.join(SUFFIXES)}")
    readers = {".npz": _read_npz, ".pkl": read_pkl}
    value = readers.get(suffix, read_pth)(path)
    for key in WRAPPINGS:
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not value:
        raise WeightsError(f"{path}: holds a {type(value).__name__}; expected names and tensors")
    for name, array in value.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray | np.generic):
            raise WeightsError(f"{path}: {name!r} is no tensor; expected names and tensors alone")
    if all(name.startswith("module.") for name in value):  # saved from several GPUs
        value = {name.removeprefix("module."): array for name, array in value.items()}
    return {name: np.asarray(array) for name, array in value.items()}


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; expected an .npz of weights") from None
    except (ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise WeightsError(f"{path}: not an .npz of plain arrays ({error})") from None


def load_arrays(backbone, arrays, source, head_stage=()):
    """Loads {torchvision's or Detectron's name: array} into a ResNet; all or nothing.

    A classifier (`fc.*`) and batch counters are passed over; anything else that is missing,
    left over or of another shape is an error.

    Args:
        backbone: fpn_tf.ResNet, built.
        arrays: dict.
        source: file name, for messages.
        head_stage: see `load_backbone_weights`.

    Raises:
        WeightsError: lists what does not fit.
    """
    unused = ("fc.",)
    if backbone.last_level == 4 and not head_stage:
        unused += ("layer4.",)
    kept = {name: array for name, array in arrays.items() if not name.startswith(unused)}
    weights = backbone_weights(backbone, head_stage=head_stage)
    assign(weights, kept, f"{source} and ResNet-{backbone.depth}")


def load_keras_application(backbone, application, head_stage=()):
    """Loads a `keras.applications.ResNet50` or `ResNet101` into a ResNet.

    Its convolutions have biases and its epsilon is 1.001e-5: the bias joins the moving mean, the
    difference in epsilon the moving variance, so that both networks are the same function.

    Args:
        backbone: fpn_tf.ResNet(50 or 101, stride_in_1x1=True), built.
        application: keras.Model.
        head_stage: see `load_backbone_weights`.
    """
    for weight in backbone_weights(backbone, head_stage=head_stage):
        name, _, part = weight.name.rpartition(".")
        layer = application.get_layer(_keras_name(name))
        value = getattr(layer, KERAS_PARTS[part] if "bn" in layer.name else "kernel")
        if part == "running_mean":
            value = value - application.get_layer(layer.name.replace("_bn", "_conv")).bias
        elif part == "running_var":
            value = value + (layer.epsilon - backbone.epsilon)
        weight.variable.assign(value)


def _keras_name(name):
    """torchvision's name of a convolution or norm -> that of the layer in keras.applications."""
    kind = "bn" if "bn" in name or name.endswith("downsample.1") else "conv"
    if name in ("conv1", "bn1"):
        return f"conv1_{kind}"
    layer, block, part = name.split(".")[:3]
    number = 0 if part == "downsample" else int(part[-1])
    return f"conv{int(layer[-1]) + 1}_block{int(block) + 1}_{number}_{kind}"
