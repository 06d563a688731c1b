"""Detectors of Detectron (Caffe2): a pickle of blobs."""

import re

import numpy as np

from fpn_tf import coco_classes
from fpn_tf import config as config_lib
from fpn_tf.pretrained.architecture import architecture_of
from fpn_tf.pretrained.detectron2 import RESNEXT_SETTINGS

SETTINGS = {
    "model.pixel_order": "bgr",
    "model.pixel_mean": (102.9801, 115.9465, 122.7717),
    "model.pixel_std": (1.0, 1.0, 1.0),
    "model.stride_in_1x1": True,
    "model.norm_epsilon": 0.0,  # its norms are a factor and an offset
    "model.rpn.anchor_rounding": "detectron",
    "model.rpn.smooth_l1_beta": 1 / 9,
    "model.roi.aligned": False,
    "model.roi.inclusive": True,
    "model.roi.smooth_l1_beta": 1.0,
    "data.resize": "detectron",
    "train.decay_biases": False,  # they learn at twice the rate instead: not imitated
}
UNUSED = re.compile(r"_momentum$|^lr$|^model_iter$|^weight_order$|^fc1000_|^pred_")
BRANCHES = {"branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3", "branch1": "downsample.0"}
HEADS = {
    "conv_rpn_fpn2": "rpn.head.conv.0.0",
    "rpn_cls_logits_fpn2": "rpn.head.cls_logits",
    "rpn_bbox_pred_fpn2": "rpn.head.bbox_pred",
    "fc6": "roi_heads.box_head.fc6",
    "fc7": "roi_heads.box_head.fc7",
    "cls_score": "roi_heads.box_predictor.cls_score",
    "bbox_pred": "roi_heads.box_predictor.bbox_pred",
}
PARTS = {"w": "weight", "b": "bias"}


def is_source(arrays):
    """Whether {name: array} looks like Detectron's blobs."""
    return "conv1_w" in arrays


def convert(arrays, source):
    """Blobs as a Config and {torchvision's name: array}.

    Raises:
        WeightsError: it is no Faster R-CNN on a ResNet with a feature pyramid.
    """
    renamed = rename(arrays)
    architecture = architecture_of(renamed, source)
    settings = SETTINGS | architecture
    if "resnext" in architecture["model.backbone"]:
        settings |= RESNEXT_SETTINGS
    classes = architecture["model.num_classes"]
    if classes == coco_classes.WITHOUT_GAPS:
        settings |= coco_classes.settings(classes)
    return config_lib.replace(config_lib.Config(), **settings), renamed


def rename(arrays, prefix="backbone.body."):
    """Blobs under torchvision's names; momenta and a classifier are left out.

    A norm's factor and offset become a batch norm of mean 0 (or minus the convolution's bias, if
    it has one) and variance 1.
    """
    renamed = {}
    for name, array in arrays.items():
        if not UNUSED.search(name):
            renamed[_rename(name, prefix)] = np.asarray(array)
    norms = [n for n in renamed if re.search(r"(bn\d|downsample\.1)\.weight$", n)]
    for name in norms:
        norm, scale = name.removesuffix(".weight"), renamed[name]
        conv = re.sub(r"bn(.)$", r"conv\1", norm).replace("downsample.1", "downsample.0")
        renamed[f"{norm}.running_mean"] = -renamed.pop(f"{conv}.bias", np.zeros_like(scale))
        renamed[f"{norm}.running_var"] = np.ones_like(scale)
    return renamed


def _rename(name, prefix):
    stem = re.fullmatch(r"conv1_([wb])", name)
    if stem:
        return f"{prefix}conv1.{PARTS[stem[1]]}"
    norm = re.fullmatch(r"res_conv1_bn_([sb])", name)
    if norm:
        return f"{prefix}bn1.{'weight' if norm[1] == 's' else 'bias'}"
    block = re.fullmatch(r"res([2-5])_(\d+)_(branch\w+?)(_bn)?_([wsb])", name)
    if block and block[3] in BRANCHES:
        conv, part = BRANCHES[block[3]], "bias" if block[5] == "b" else "weight"
        if block[4]:
            conv = "downsample.1" if block[3] == "branch1" else conv.replace("conv", "bn")
        return f"{prefix}layer{int(block[1]) - 1}.{block[2]}.{conv}.{part}"
    neck = re.fullmatch(r"fpn(_inner)?_res([2-5])_\d+_sum(?:_lateral)?_([wb])", name)
    if neck:
        kind = "inner" if neck[1] else "layer"
        return f"backbone.fpn.{kind}_blocks.{int(neck[2]) - 2}.0.{PARTS[neck[3]]}"
    base, _, part = name.rpartition("_")
    return f"{HEADS[base]}.{PARTS[part]}" if base in HEADS and part in PARTS else name
