"""The architecture of a detector, read off the names and shapes of its weights."""

from fpn_tf.catalogue import BACKBONES
from fpn_tf.errors import WeightsError
from fpn_tf.pretrained.naming import COUNTER

BLOCKS = {  # blocks per stage, and whether they are bottlenecks -> depth
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
    ((1, 1, 1, 1), False): "tiny",
}


def backbone_of(arrays, prefix, source):
    """The name, among `fpn_tf.catalogue.BACKBONES`, of the ResNet in {torchvision's name: array}.

    Raises:
        WeightsError: it is none of them.
    """
    counts = tuple(_count(arrays, f"{prefix}layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4))
    bottleneck = f"{prefix}layer1.0.conv3.weight" in arrays
    middle = arrays.get(f"{prefix}layer1.0.conv2.weight")
    options = {"depth": BLOCKS.get((counts, bottleneck))}
    if bottleneck and middle is not None and middle.ndim == 4:
        width, per_group = middle.shape[:2]
        if width != per_group:
            options |= {"groups": width // per_group, "width_per_group": per_group}
    for name, known_options in BACKBONES.items():
        if options == known_options:
            return name
    kind = "bottlenecks" if bottleneck else "basic blocks"
    raise WeightsError(
        f"{source}: its backbone has {counts} {kind} a stage; expected one of {', '.join(BACKBONES)}"
    )


def norm_of(arrays, name):
    """The kind of normalisation at `name` (such as backbone.body.bn1); "" without one."""
    if f"{name}.weight" not in arrays:
        return ""
    if f"{name}.running_mean" not in arrays:
        return "group_norm"
    return "sync_bn" if f"{name}.{COUNTER}" in arrays else "frozen_bn"


def architecture_of(arrays, source):
    """Config keys and values that make a model of the shape of {torchvision's name: array}.

    Without a box head it is an RPN.

    Raises:
        WeightsError: the weights belong to another kind of network.
    """

    def shape(name):
        if name not in arrays:
            raise WeightsError(f"{source}: has no {name}; expected a Faster R-CNN on a feature pyramid")
        return arrays[name].shape

    channels = shape("backbone.fpn.inner_blocks.0.0.weight")[0]
    settings = {
        "model.kind": "faster_rcnn" if any(name.startswith("roi_heads.") for name in arrays) else "rpn",
        "model.backbone": backbone_of(arrays, "backbone.body.", source),
        "model.norm": norm_of(arrays, "backbone.body.bn1") or "frozen_bn",
        "model.neck_channels": channels,
        "model.neck_norm": norm_of(arrays, "backbone.fpn.inner_blocks.0.1"),
        "model.num_classes": 1,
        "model.rpn.conv_layers": _count(arrays, "rpn.head.conv.{}.0.weight"),
    }
    if settings["model.kind"] == "rpn":
        return settings
    head = "roi_heads.box_head"
    plain = f"{head}.fc6.weight" in arrays
    convs = 0 if plain else _count(arrays, f"{head}.{{}}.0.weight")
    first = f"{head}.fc6.weight" if plain else f"{head}.{convs + 1}.weight"
    fc_layers = _count(arrays, f"{head}.fc{{}}.weight", 6)
    if not plain:
        fc_layers = sum(f"{head}.{convs + 1 + 2 * i}.weight" in arrays for i in range(8))
    bins = shape(first)[1] / channels
    return settings | {
        "model.num_classes": shape("roi_heads.box_predictor.cls_score.weight")[0] - 1,
        "model.roi.pool_size": round(bins**0.5),
        "model.roi.conv_layers": convs,
        "model.roi.norm": norm_of(arrays, f"{head}.0.1") or "sync_bn",
        "model.roi.fc_layers": fc_layers,
        "model.roi.hidden_units": shape(first)[0],
    }


def check_anchors(arrays, config, source):
    """Raises WeightsError unless the RPN has as many anchors in a cell as the config."""
    expected = config.model.anchors_per_cell
    count = next(len(array) for name, array in arrays.items() if name.endswith("cls_logits.weight"))
    if count != expected:
        raise WeightsError(
            f"{source}: its RPN has {count} anchors in a cell, expected {expected}; name theirs: "
            "--params_override=model.rpn.anchor_ratios=..."
        )


def _count(arrays, pattern, start=0):
    """The length of the longest run pattern.format(start), pattern.format(start + 1), ... in `arrays`."""
    count = 0
    while pattern.format(start + count) in arrays:
        count += 1
    return count
