"""Every weight of a detector under the name and in the layout that torchvision gives it.

The one table that all sources share: others rename their tensors to these names first. It serves
both ways, so what is loaded can be written back.
"""

from typing import Any, NamedTuple

import numpy as np

from fpn_tf.errors import WeightsError
from fpn_tf.models.backbones.resnet import ResNet

NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
COUNTER = "num_batches_tracked"  # PyTorch's batch norm counts; nothing depends on it
SHOWN = 6  # problems that an error lists


class Weight(NamedTuple):
    """A variable, its foreign name, and how the foreign layout differs."""

    name: str
    variable: Any
    layout: str  # plain, conv, dense, pooled (a dense layer on flattened maps), boxes

    def ours(self, array, map_size=None):
        """The foreign array in our layout.

        Args:
            array: NumPy array.
            map_size: (S, S, C) of the maps that a "pooled" kernel reads.
        """
        if self.layout == "conv":
            return array.transpose(2, 3, 1, 0)  # OIHW -> HWIO
        if self.layout == "dense":
            return array.T
        if self.layout == "pooled":
            rows, columns, channels = map_size
            maps = array.reshape(-1, channels, rows, columns)  # [out, C*S*S], channels slowest
            return maps.transpose(2, 3, 1, 0).reshape(-1, len(array))
        if self.layout == "boxes":
            return array[4:].T  # background's deltas, which nothing reads, come first
        return array

    def theirs(self, map_size=None):
        """The variable's value in the foreign layout."""
        array = np.asarray(self.variable)
        if self.layout == "conv":
            return array.transpose(3, 2, 0, 1)
        if self.layout == "dense":
            return array.T
        if self.layout == "pooled":
            return array.reshape(*map_size, -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
        if self.layout == "boxes":
            array = array.T
            return np.concatenate([np.zeros((4, *array.shape[1:]), array.dtype), array])
        return array


def backbone_weights(backbone, prefix="", head_stage=()):
    """The Weights of a ResNet; `head_stage` are the blocks of the stage that a box head has, if one has."""
    yield from _conv_norm(f"{prefix}conv1", f"{prefix}bn1", backbone.stem)
    stages = [*backbone.stages, head_stage] if head_stage else backbone.stages
    for stage, blocks in enumerate(stages, start=1):
        for i, block in enumerate(blocks):
            name = f"{prefix}layer{stage}.{i}"
            for j, conv in enumerate(block.convs, start=1):
                yield from _conv_norm(f"{name}.conv{j}", f"{name}.bn{j}", conv)
            if block.projection is not None:
                yield from _conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", block.projection)


def detector_weights(model):
    """The Weights of a model, each of them once.

    Weights without a counterpart in torchvision have names that it cannot have: heads of single levels
    by their level, and parts that this table does not know `own.` and their path in the model.
    """
    known = list(_known_weights(model))
    named = {id(weight.variable) for weight in known}
    return known + [Weight(f"own.{v.path}", v, "plain") for v in model.weights if id(v) not in named]


def unknown_weights(model):
    """The names of the weights that torchvision's detectors do not have."""
    return [weight.name for weight in detector_weights(model) if weight.name.startswith("own.")]


def head_stage_of(model):
    """The blocks of the ResNet's fifth stage, where the box head has it."""
    box_head = getattr(model, "box_head", None)
    return getattr(getattr(box_head, "head", None), "stage", ())


def _known_weights(model):
    if isinstance(model.backbone, ResNet):
        yield from backbone_weights(model.backbone, "backbone.body.", head_stage_of(model))
    neck = model.neck
    for kind, convs in (("inner", getattr(neck, "laterals", ())), ("layer", getattr(neck, "smoothings", ()))):
        for i, conv in enumerate(convs):
            name = f"backbone.fpn.{kind}_blocks.{i}"
            if neck.norm:
                yield from _conv_norm(f"{name}.0", f"{name}.1", conv)
            else:
                yield from _with_bias(f"{name}.0", conv, "conv")
    if hasattr(model, "rpn"):
        yield from _rpn_weights(model.rpn.head)
    if hasattr(model, "box_head"):
        yield from _box_head_weights(model.box_head.head)


def _rpn_weights(rpn_head):
    of_levels = getattr(rpn_head, "heads", None)
    heads = {f"rpn.head.{k}": h for k, h in of_levels.items()} if of_levels else {"rpn.head": rpn_head}
    for name, head in heads.items():
        for i, conv in enumerate(head.convs):
            yield from _with_bias(f"{name}.conv.{i}.0", conv, "conv")
        yield from _with_bias(f"{name}.cls_logits", head.objectness, "conv")
        yield from _with_bias(f"{name}.bbox_pred", head.deltas, "conv")


def _box_head_weights(head):
    name = "roi_heads.box_head"
    for i, conv in enumerate(head.convs):
        yield from _conv_norm(f"{name}.{i}.0", f"{name}.{i}.1", conv)
    for i, dense in enumerate(head.dense):
        # A sequence counts its flattening and every ReLU; the plain head has two names.
        number = f"fc{6 + i}" if not head.convs else len(head.convs) + 1 + 2 * i
        yield from _with_bias(f"{name}.{number}", dense, "dense" if i else "pooled")
    yield from _with_bias("roi_heads.box_predictor.cls_score", head.classifier, "dense")
    regressor = "roi_heads.box_predictor.bbox_pred"
    yield Weight(f"{regressor}.weight", head.regressor.kernel, "boxes")
    yield Weight(f"{regressor}.bias", head.regressor.bias, "boxes")


def _conv_norm(conv_name, norm_name, layer):
    yield Weight(f"{conv_name}.weight", layer.kernel, "conv")
    for key, variable in layer.norm_weights.items():
        yield Weight(f"{norm_name}.{NORM_NAMES[key]}", variable, "plain")


def _with_bias(name, layer, layout):
    yield Weight(f"{name}.weight", layer.kernel, layout)
    yield Weight(f"{name}.bias", layer.bias, "plain")


def map_size(model):
    """(S, S, C) of the maps that a model's box head flattens; None without such a head."""
    if not hasattr(model, "box_head") or not model.box_head.head.dense:
        return None
    size = model.box_head.pooler.output_size
    return size, size, model.box_head.head.dense[0].kernel.shape[0] // size**2


def assign(weights, arrays, source, maps=None):
    """Sets variables from foreign arrays; all of them or none.

    Args:
        weights: iterable of Weights.
        arrays: {foreign name: array}; counters of batches are passed over.
        source: file name, for messages.
        maps: (S, S, C), see `Weight.ours`.

    Raises:
        WeightsError: lists what is missing, left over or misshaped.
    """
    weights = list(weights)
    unused = {name for name in arrays if not name.endswith(COUNTER)} - {w.name for w in weights}
    problems = []
    for weight in weights:
        expected = weight.theirs(maps).shape
        if weight.name not in arrays:
            problems.append(f"{weight.name} {expected} is missing")
        elif np.shape(arrays[weight.name]) != expected:
            problems.append(f"{weight.name} is {np.shape(arrays[weight.name])}, expected {expected}")
    problems += [f"{name} {np.shape(arrays[name])} is left over" for name in sorted(unused)]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise WeightsError(f"{source}: does not fit the model: {'; '.join(problems[:SHOWN])}{more}")
    for weight in weights:
        weight.variable.assign(weight.ours(np.asarray(arrays[weight.name]), maps))


def state_dict(model):
    """A FasterRCNN's weights as {torchvision's name: array}, for `load_state_dict(strict=True)`."""
    arrays = {}
    for weight in detector_weights(model):
        arrays[weight.name] = np.ascontiguousarray(weight.theirs(map_size(model)))
        variance = NORM_NAMES["moving_variance"]
        if weight.name.endswith(variance) and not _is_frozen(model, weight.name):
            arrays[weight.name.removesuffix(variance) + COUNTER] = np.zeros((), np.int64)
    return arrays


def _is_frozen(model, name):
    """Whether the batch norm of this name is torchvision's frozen kind, which does not count."""
    part = {"backbone.body": model.backbone, "backbone.fpn": model.neck}.get(".".join(name.split(".")[:2]))
    return (part or model.box_head.head).norm == "frozen_bn"
