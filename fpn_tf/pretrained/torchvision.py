"""Detectors of torchvision: `fasterrcnn_resnet50_fpn`, its v2, and others made of the same parts."""

import re

from fpn_tf import coco_classes
from fpn_tf import config as config_lib
from fpn_tf.pretrained.architecture import architecture_of

SETTINGS = {
    "model.pixel_order": "rgb",
    "model.pixel_mean": (123.675, 116.28, 103.53),  # 255 * (.485, .456, .406)
    "model.pixel_std": (58.395, 57.12, 57.375),  # 255 * (.229, .224, .225)
    "model.stride_in_1x1": False,
    "model.rpn.anchor_rounding": "torchvision",
    "model.rpn.strides_from_sizes": True,
    "model.rpn.smooth_l1_beta": 1 / 9,
    "model.rpn.min_size": 1e-3,
    "model.rpn.post_nms_train": 2000,
    "model.roi.aligned": False,
    "model.roi.smooth_l1_beta": 1 / 9,
    "model.roi.min_size": 1e-2,
    "data.resize": "torchvision",
    "train.decay_biases": True,  # its norms decay as well, where they are trained: not imitated
}
FIXED = ("pixel_order", "stride_in_1x1", "rpn.anchor", "rpn.strides")
FIXED += ("roi.aligned", "roi.sampling_ratio", "roi.pooling")


def is_source(arrays):
    """Whether {name: array} looks like one of torchvision's detectors."""
    return any(name.startswith("backbone.body.") for name in arrays)


def convert(arrays, source):
    """A state dict as a Config and {name in today's torchvision: array}.

    Args:
        arrays: {name: array}.
        source: file name, for messages.

    Raises:
        WeightsError: it is no Faster R-CNN on a ResNet with a feature pyramid.
    """
    renamed = {_today(name): array for name, array in arrays.items()}
    architecture = architecture_of(renamed, source)
    classes = architecture["model.num_classes"]
    settings = SETTINGS | architecture | coco_classes.settings(classes)
    is_old = renamed.keys() != arrays.keys()
    if is_old and classes == coco_classes.WITH_GAPS:
        # The weights of 2019 were trained with epsilon 0; torchvision sets it when it loads them.
        settings["model.norm_epsilon"] = 0.0
    return config_lib.replace(config_lib.Config(), **settings), renamed


def unlike(config):
    """The settings of `config.model` that torchvision's detectors cannot have: {key: (theirs, ours)}.

    With any of it, torchvision gives other detections from the same weights.
    """
    theirs = config_lib.replace(config_lib.Config(), **SETTINGS).model
    different = config_lib.differences(theirs, config.model)
    return {key: pair for key, pair in different.items() if key.startswith(FIXED)}


def _today(name):
    """Names from before torchvision 0.13 had no list around each convolution."""
    name = re.sub(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", name)
    return re.sub(r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1", name)
