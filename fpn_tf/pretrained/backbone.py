"""ImageNet weights for the backbone: an .npz with torchvision's names, or keras.applications."""

import zipfile

import keras
import numpy as np

from fpn_tf.errors import WeightsError

NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_backbone_weights(backbone, model_config):
    """Loads what `model.backbone_weights` names into a ResNet.

    Args:
        backbone: fpn_tf.ResNet, built.
        model_config: ModelConfig. Its backbone_weights: "" leaves the weights alone; "imagenet"
            downloads those of keras.applications; anything else is the path of an .npz.

    Raises:
        WeightsError: the file is absent or its tensors do not fit.
    """
    source = model_config.backbone_weights
    if not source:
        return
    if source == "imagenet":
        classes = {50: keras.applications.ResNet50, 101: keras.applications.ResNet101}
        if backbone.depth not in classes:
            raise WeightsError(
                f"model.backbone_weights=imagenet: keras.applications has no {model_config.backbone}"
            )
        if not model_config.stride_in_1x1 or model_config.pixel_order != "bgr":
            raise WeightsError(
                "model.backbone_weights=imagenet: these weights need model.stride_in_1x1=true, "
                "model.pixel_order=bgr, model.pixel_mean=103.939,116.779,123.68 and model.pixel_std=1,1,1"
            )
        load_keras_application(backbone, classes[backbone.depth](include_top=False, weights="imagenet"))
    else:
        load_torchvision_names(backbone, read_npz(source), source)


def read_npz(path):
    """{name: array} of an .npz. Raises: WeightsError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror or error}; expected an .npz of backbone weights"
        ) from None
    except (ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise WeightsError(f"{path}: not an .npz of plain arrays ({error})") from None


def conv_norms(backbone):
    """Yields (name of the convolution, name of its norm, ConvNorm), names as torchvision's."""
    yield "conv1", "bn1", backbone.stem
    for stage, blocks in enumerate(backbone.stages, start=1):
        for i, block in enumerate(blocks):
            prefix = f"layer{stage}.{i}"
            for j, conv in enumerate(block.convs, start=1):
                yield f"{prefix}.conv{j}", f"{prefix}.bn{j}", conv
            if block.projection is not None:
                yield f"{prefix}.downsample.0", f"{prefix}.downsample.1", block.projection


def load_torchvision_names(backbone, arrays, name):
    """Loads {torchvision's name: array}, kernels OIHW, into a ResNet; all or nothing.

    A classifier (`fc.*`) and batch counters are passed over; anything else that is missing,
    left over or of another shape is an error.

    Args:
        backbone: fpn_tf.ResNet, built.
        arrays: dict.
        name: of the source, for messages.

    Raises:
        WeightsError: lists what does not fit.
    """
    left = {k for k in arrays if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
    assignments, wrong = [], []
    for conv_name, norm_name, layer in conv_norms(backbone):
        wanted = {f"{conv_name}.weight": layer.kernel}
        wanted |= {f"{norm_name}.{NORM_NAMES[key]}": weight for key, weight in layer.norm_weights.items()}
        for key, weight in wanted.items():
            left.discard(key)
            if key not in arrays:
                wrong.append(f"{key} is missing")
                continue
            value = arrays[key]
            if value.ndim == 4:
                value = value.transpose(2, 3, 1, 0)  # OIHW -> HWIO
            if value.shape != tuple(weight.shape):
                wrong.append(
                    f"{key} is {value.shape}, expected {tuple(weight.shape)} (height, width, in, out)"
                )
            assignments.append((weight, value))
    wrong += [f"{key} is left over" for key in sorted(left)]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WeightsError(f"{name}: does not fit resnet{backbone.depth}: {'; '.join(wrong[:5])}{more}")
    for weight, value in assignments:
        weight.assign(value)


def load_keras_application(backbone, application):
    """Loads a `keras.applications.ResNet50` or `ResNet101` into a ResNet.

    Its convolutions have biases and its epsilon is 1.001e-5: the bias joins the moving mean, the
    difference in epsilon the moving variance, so that both networks are the same function.

    Args:
        backbone: fpn_tf.ResNet(50 or 101, stride_in_1x1=True), built.
        application: keras.Model.
    """
    for conv_name, _, layer in conv_norms(backbone):
        prefix = _keras_name(conv_name)
        conv, norm = application.get_layer(f"{prefix}_conv"), application.get_layer(f"{prefix}_bn")
        weights = layer.norm_weights
        layer.kernel.assign(conv.kernel)
        weights["gamma"].assign(norm.gamma)
        weights["beta"].assign(norm.beta)
        weights["moving_mean"].assign(norm.moving_mean - conv.bias)
        weights["moving_variance"].assign(norm.moving_variance + (norm.epsilon - layer.epsilon))


def _keras_name(conv_name):
    """torchvision's name of a convolution -> the prefix of keras.applications' layer names."""
    if conv_name == "conv1":
        return "conv1"
    layer, block, kind = conv_name.split(".")[:3]
    number = 0 if kind == "downsample" else int(kind[-1])
    return f"conv{int(layer[-1]) + 1}_block{int(block) + 1}_{number}"
