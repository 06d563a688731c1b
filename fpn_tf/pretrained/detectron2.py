"""Detectors of Detectron2's model zoo, and others made of the same parts."""

import re

import numpy as np
from absl import logging

from fpn_tf import coco_classes
from fpn_tf import config as config_lib
from fpn_tf.errors import WeightsError
from fpn_tf.pretrained.architecture import architecture_of
from fpn_tf.pretrained.pixel_convention import TORCHVISION, as_overrides, convention_of

SETTINGS = {
    "model.pixel_order": "bgr",
    "model.pixel_mean": (103.53, 116.28, 123.675),
    "model.pixel_std": (1.0, 1.0, 1.0),
    "model.stride_in_1x1": True,
    "model.roi.sampling_ratio": 0,
    "model.roi.aligned": True,
    "data.resize": "detectron2",
    "train.decay_biases": True,
}
RESNEXT_SETTINGS = {  # Facebook's ResNeXt was trained in Caffe2, on other pixels
    "model.pixel_std": (57.375, 57.12, 58.395),
    "model.stride_in_1x1": False,
}
RENAMES = (
    (r"^backbone\.bottom_up\.stem\.conv1\.norm\.", "backbone.body.bn1."),
    (r"^backbone\.bottom_up\.stem\.", "backbone.body."),
    (r"^backbone\.bottom_up\.", "backbone.body."),
    (r"^backbone\.body\.res([2-5])\.", lambda m: f"backbone.body.layer{int(m[1]) - 1}."),
    (r"\.conv(\d)\.norm\.(?=[^.]*$)", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
    (r"^backbone\.fpn_(lateral|output)([2-5])\.norm\.", lambda m: f"{_blocks(m)}.1."),
    (r"^backbone\.fpn_(lateral|output)([2-5])\.", lambda m: f"{_blocks(m)}.0."),
    (r"^proposal_generator\.rpn_head\.conv\.conv(\d)\.", r"rpn.head.conv.\1.0."),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
)
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
SCORES = "roi_heads.box_predictor.cls_score."
BOXES = "roi_heads.box_predictor.bbox_pred."


def is_source(arrays):
    """Whether {name: array} looks like one of Detectron2's detectors."""
    return any(name.startswith("backbone.bottom_up.") for name in arrays)


def convert(arrays, source):
    """A checkpoint's `model` as a Config and {torchvision's name: array}.

    Detectron2's background is the last class and has no deltas; it becomes the first.

    Raises:
        WeightsError: it is no Faster R-CNN on a ResNet with a feature pyramid.
    """
    pixels, renamed, cells = {}, {}, {}
    for name, array in arrays.items():
        if name in ("pixel_mean", "pixel_std"):
            pixels[f"model.{name}"] = tuple(np.ravel(array).astype(float).tolist())
        elif name.startswith(CELL_ANCHORS):
            cells[int(name.removeprefix(CELL_ANCHORS))] = np.asarray(array)
        else:
            renamed[_rename(name)] = array
    _rename_head(renamed)
    if f"{SCORES}weight" in renamed and f"{BOXES}weight" in renamed:
        scores, boxes = renamed[f"{SCORES}weight"], renamed[f"{BOXES}weight"]
        if len(boxes) == 4 and len(scores) != 2:
            raise WeightsError(f"{source}: its boxes are class-agnostic; expected 4 deltas for each class")
        for part in ("weight", "bias"):
            renamed[SCORES + part] = np.roll(renamed[SCORES + part], 1, axis=0)
            background = np.zeros((4, *boxes.shape[1:])[: renamed[BOXES + part].ndim], boxes.dtype)
            renamed[BOXES + part] = np.concatenate([background, renamed[BOXES + part]])
    architecture = architecture_of(renamed, source)
    settings = SETTINGS | architecture
    if cells:
        settings |= _anchors(cells, source)
    if "resnext" in architecture["model.backbone"]:
        settings |= RESNEXT_SETTINGS
    mean = pixels.get("model.pixel_mean", SETTINGS["model.pixel_mean"])
    if mean[0] > mean[-1]:  # red first, as only runs from torchvision's ImageNet weights have it
        settings |= {"model.pixel_order": "rgb", "model.stride_in_1x1": False}
    settings |= pixels
    if "model.pixel_mean" not in pixels:
        _warn_of_pixels(renamed, source)
    classes = architecture["model.num_classes"]
    if classes == coco_classes.WITHOUT_GAPS:
        settings |= coco_classes.settings(classes)
    return config_lib.replace(config_lib.Config(), **settings), renamed


def _warn_of_pixels(arrays, source):
    """Says so where a file without its pixels was, as it seems, trained from torchvision's weights."""
    prefix = "backbone.body."
    body = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    convention = convention_of(body)
    if convention is not None and convention.settings is TORCHVISION:
        logging.warning(
            "%s: has no pixel_mean, and %s; if it began with torchvision's weights, override %s",
            source,
            convention.reason,
            as_overrides(convention.settings),
        )


def _rename(name):
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _blocks(match):
    kind = {"lateral": "inner", "output": "layer"}[match[1]]
    return f"backbone.fpn.{kind}_blocks.{int(match[2]) - 2}"


def _rename_head(arrays):
    """Numbers the box head's layers as torchvision does: fc6, fc7, or places in a sequence."""
    head = "roi_heads.box_head."
    convs = sum(f"{head}conv{i}.weight" in arrays for i in range(1, 9))
    for name in [n for n in arrays if n.startswith(head)]:
        kind, number, rest = re.match(r"(\D+)(\d+)\.(.*)", name.removeprefix(head)).groups()
        place = int(number) - 1
        if kind in ("conv", "bn"):
            new = f"{place}.{('conv', 'bn').index(kind)}.{rest}"
        else:
            new = f"{convs + 1 + 2 * place}.{rest}" if convs else f"fc{6 + place}.{rest}"
        arrays[head + new] = arrays.pop(name)


def _anchors(cells, source):
    """Sizes and ratios of the anchors that a checkpoint holds."""
    areas, ratios = [], set()
    for level in sorted(cells):
        width, height = cells[level][:, 2] - cells[level][:, 0], cells[level][:, 3] - cells[level][:, 1]
        areas.append(np.sqrt(width * height))
        ratios.add(tuple(np.round(height / width, 3).tolist()))
    if len(ratios) > 1 or len(cells) != 5 or any(np.ptp(a) > 0.01 for a in areas):
        raise WeightsError(f"{source}: expected one anchor size and the same ratios on each of p2..p6")
    return {
        "model.rpn.anchor_sizes": tuple(round(float(a[0]), 3) for a in areas),
        "model.rpn.anchor_ratios": ratios.pop(),
    }
