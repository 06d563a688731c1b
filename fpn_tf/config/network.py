"""The configuration of the network: every key with its default, unit and bounds."""

import os
from dataclasses import dataclass, field

from fpn_tf import files
from fpn_tf.catalogue import APPLICATIONS, BACKBONES, NECKS
from fpn_tf.errors import ConfigError

KINDS = ("faster_rcnn", "rpn", "fast_rcnn", "segment_proposals")
NORMS = ("frozen_bn", "sync_bn", "group_norm")
PIXELS = {  # what the ResNets here expect: RGB of 0..255 less ImageNet's mean, by its deviation
    "pixel_order": "rgb",
    "pixel_mean": (123.675, 116.28, 103.53),
    "pixel_std": (58.395, 57.12, 57.375),
}


def check(condition: object, message: str) -> None:
    """Raises `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def check_numbers(
    section: object, prefix: str, names: str, lowest: float, highest: float | None = None
) -> None:
    """Raises ConfigError unless the values of a section's keys lie in lowest..highest (None: no bound).

    Args:
        section: a dataclass of the config.
        prefix: the dotted key of that section, for the message.
        names: of its keys, parted by spaces.
        lowest: a number.
        highest: a number or None.
    """
    expected = f"{lowest} or more" if lowest == 0 else f"at least {lowest}"
    if highest is not None:
        expected = f"{lowest}..{highest}"
    for name in names.split():
        value = getattr(section, name)
        holds = lowest <= value and (highest is None or value <= highest)
        check(holds, f"{prefix}.{name}={value}: expected {expected}")


def expand_home(section: object, *names: str) -> None:
    """Replaces the leading `~` of paths in a section, of a flag or of a file in experiments/ alike.

    Args:
        section: a dataclass of the config that is being made.
        names: of its keys that are paths.
    """
    for name in names:
        path = getattr(section, name)
        if isinstance(path, str | os.PathLike):  # or a mistake that `validate` tells
            object.__setattr__(section, name, files.expanded(path))


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network: its anchors' labels, its sampling and its proposals.

    Args:
        anchor_sizes: pixels, positive; one for each level p2..p6, or all of them on the only level.
        anchor_ratios: height / width, positive.
        anchor_rounding: none, or corners to whole pixels as torchvision or detectron do.
        strides_from_sizes: strides are canvas // map (torchvision: p6 may get 61), not 2^level.
        conv_layers: 3x3 convolutions before the two siblings, at least 1.
        shared_head: one head for all levels, or one for each.
        foreground_iou: an anchor of this IoU with an object is foreground, 0..1.
        background_iou: one below it is background, 0..1, at most foreground_iou.
        samples: anchors per image that the losses see, at least 1.
        foreground_fraction: share of them that may be foreground, 0..1.
        box_weights: factors of the deltas (dx, dy, dw, dh), positive.
        smooth_l1_beta: of the box loss; 0 is plain L1, torchvision uses 1/9.
        pre_nms_train: boxes of a level that enter NMS in training, at least 1.
        pre_nms_test: the same at test time, at least 1.
        post_nms_train: proposals per image, all levels together, in training, at least 1.
        post_nms_test: the same at test time, at least 1.
        nms_threshold: IoU above which the worse of two boxes is dropped, 0..1.
        min_size: pixels of the resized image, a proposal's sides; one without area never counts.

    Example:

    >>> config = fpn_tf.ModelConfig(rpn=fpn_tf.RPNConfig(samples=64))
    >>> config.rpn.samples, config.rpn.anchor_sizes
    (64, (32, 64, 128, 256, 512))
    """

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_rounding: str = "none"
    strides_from_sizes: bool = False
    conv_layers: int = 1
    shared_head: bool = True
    foreground_iou: float = 0.7
    background_iou: float = 0.3
    samples: int = 256
    foreground_fraction: float = 0.5
    box_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    smooth_l1_beta: float = 0.0
    pre_nms_train: int = 2000
    pre_nms_test: int = 1000
    post_nms_train: int = 1000
    post_nms_test: int = 1000
    nms_threshold: float = 0.7
    min_size: float = 0.0

    def validate(self) -> None:
        check(
            self.anchor_sizes and min(self.anchor_sizes) > 0,
            f"model.rpn.anchor_sizes={self.anchor_sizes}: expected positive sizes",
        )
        check(
            self.anchor_ratios and min(self.anchor_ratios) > 0,
            f"model.rpn.anchor_ratios={self.anchor_ratios}: expected positive ratios",
        )
        check(
            self.anchor_rounding in ("none", "torchvision", "detectron"),
            f"model.rpn.anchor_rounding={self.anchor_rounding}: expected none, torchvision or detectron",
        )
        check(
            len(self.box_weights) == 4 and min(self.box_weights) > 0,
            f"model.rpn.box_weights={self.box_weights}: expected 4 positive numbers",
        )
        shares = "foreground_iou background_iou foreground_fraction nms_threshold"
        check_numbers(self, "model.rpn", shares, 0, 1)
        check(
            self.background_iou <= self.foreground_iou,
            f"model.rpn.background_iou={self.background_iou}: expected at most {self.foreground_iou}",
        )
        counts = "conv_layers samples pre_nms_train pre_nms_test post_nms_train post_nms_test"
        check_numbers(self, "model.rpn", counts, 1)


@dataclass(frozen=True)
class ROIConfig:
    """The box head: pooling, sampling and layers.

    Args:
        pooling: align (ROIAlign), or max: RoI pooling, as in the paper.
        pool_size: bins along each side of a RoI, at least 1.
        sampling_ratio: ROIAlign's samples along each side of a bin, 0 or more; 0: adaptive, as in
            Detectron2.
        aligned: ROIAlign with the shift by half a cell (Detectron2).
        inclusive: pool up to x2 - 1, y2 - 1 (Detectron: the last pixel inside).
        canonical_size: pixels, at least 1; a box of this side is pooled from canonical_level.
        canonical_level: of the pyramid, 2..5.
        head: fc, fully connected layers; or conv5: the ResNet's fifth stage, on maps of c4.
        conv_layers: 3x3 convolutions with `norm` before the fully connected layers, 0 or more.
        norm: of the convolutions: frozen_bn, sync_bn or group_norm.
        fc_layers: fully connected layers, at least 1.
        hidden_units: width of them, at least 1.
        foreground_iou: a RoI of this IoU with an object is foreground, 0..1.
        samples: RoIs per image that the losses see, at least 1.
        foreground_fraction: share of them that may be foreground, 0..1.
        box_weights: factors of the deltas (dx, dy, dw, dh), positive.
        smooth_l1_beta: of the box loss; 0 is plain L1.
        min_size: pixels of the resized image, sides of a detection.

    Example:

    >>> fpn_tf.ROIConfig(conv_layers=4, fc_layers=1).hidden_units  # torchvision's v2
    1024
    """

    pooling: str = "align"
    pool_size: int = 7
    sampling_ratio: int = 2
    aligned: bool = True
    inclusive: bool = False
    canonical_size: int = 224
    canonical_level: int = 4
    head: str = "fc"
    conv_layers: int = 0
    norm: str = "sync_bn"
    fc_layers: int = 2
    hidden_units: int = 1024
    foreground_iou: float = 0.5
    samples: int = 512
    foreground_fraction: float = 0.25
    box_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: float = 0.0
    min_size: float = 0.0

    def validate(self) -> None:
        check_numbers(self, "model.roi", "pool_size canonical_size fc_layers hidden_units samples", 1)
        check_numbers(self, "model.roi", "conv_layers", 0)
        check_numbers(self, "model.roi", "canonical_level", 2, 5)
        check_numbers(self, "model.roi", "foreground_iou foreground_fraction", 0, 1)
        check(self.pooling in ("align", "max"), f"model.roi.pooling={self.pooling}: expected align or max")
        check(self.head in ("fc", "conv5"), f"model.roi.head={self.head}: expected fc or conv5")
        check(self.norm in NORMS, f"model.roi.norm={self.norm}: expected one of {', '.join(NORMS)}")
        check(
            self.sampling_ratio >= 0,
            f"model.roi.sampling_ratio={self.sampling_ratio}: expected 0 (adaptive) or more",
        )
        check(
            len(self.box_weights) == 4 and min(self.box_weights) > 0,
            f"model.roi.box_weights={self.box_weights}: expected 4 positive numbers",
        )


@dataclass(frozen=True)
class SegmentConfig:
    """The head of segment proposals (FPN paper, sec. 6 and appendix).

    Args:
        windows: cells on a side that an MLP sees: 5 for octaves, 7 for half ones, or both.
        canonical_size: pixels, above 0: longer side of the object that the 5x5 MLP on p2 is for.
        padding: of that size, in the region of a segment, 0 or more.
        segment_size: cells on a side of a segment, at least 1.
        hidden_units: width of an MLP, at least 1.
        samples: windows per image that the losses see, at least 1.
        foreground_fraction: share of them that may be foreground, 0..1.
        loss_weight: of the segments, against the scores, 0 or more.
        max_proposals: segments per image, at least 1.

    Example:

    >>> fpn_tf.ModelConfig(segment=fpn_tf.SegmentConfig(windows=(5,))).segment.windows
    (5,)
    """

    windows: tuple[int, ...] = (5, 7)
    canonical_size: float = 32.0
    padding: float = 0.25
    segment_size: int = 14
    hidden_units: int = 512
    samples: int = 128
    foreground_fraction: float = 0.25
    loss_weight: float = 10.0
    max_proposals: int = 1000

    def validate(self) -> None:
        check(
            self.windows and set(self.windows) <= {5, 7} and len(set(self.windows)) == len(self.windows),
            f"model.segment.windows={self.windows}: expected 5, 7 or both",
        )
        check_numbers(self, "model.segment", "segment_size hidden_units samples max_proposals", 1)
        check_numbers(self, "model.segment", "padding loss_weight", 0)
        check_numbers(self, "model.segment", "foreground_fraction", 0, 1)
        check(
            self.canonical_size > 0, f"model.segment.canonical_size={self.canonical_size}: expected above 0"
        )


@dataclass(frozen=True)
class ModelConfig:
    """The network, and the pixels that it expects.

    Args:
        kind: faster_rcnn; rpn: proposals alone; fast_rcnn: on those of a file; segment_proposals.
        backbone: a name of `fpn_tf.catalogue.BACKBONES`, or keras_applications/NAME, any model of that
            module.
        backbone_weights: "": random; imagenet: of keras.applications; or the path of an .npz file.
        num_classes: K, without background, 0 or more; 0: as many as the data set has.
        norm: of the backbone: frozen_bn, sync_bn or group_norm.
        norm_epsilon: added to its variance, 0 or more.
        stride_in_1x1: a bottleneck strides in its 1x1 (Caffe), not in its 3x3 (torchvision).
        frozen_stages: 0..5. 0: none; 1: the stem; 2: the stem and c2; ... 5: everything.
        neck: fpn, or what the paper compares it with, see `fpn_tf.catalogue.NECKS`.
        neck_channels: of every map of the pyramid, at least 1.
        neck_norm: after each of the neck's convolutions, as `norm`; "": none (the paper).
        pixel_order: rgb or bgr; None, in a flag none: what the backbone expects.
        pixel_mean: 3 numbers in pixel_order, of 0..255; None as above.
        pixel_std: 3 positive numbers, likewise.
        rpn: the section `RPNConfig`.
        roi: the section `ROIConfig`.
        segment: the section `SegmentConfig`, of model.kind=segment_proposals.

    Example:

    >>> fpn_tf.ModelConfig(backbone="resnet18", num_classes=3).neck
    'fpn'
    """

    kind: str = "faster_rcnn"
    backbone: str = "resnet50"
    backbone_weights: str = ""
    num_classes: int = 0
    norm: str = "frozen_bn"
    norm_epsilon: float = 1e-5
    stride_in_1x1: bool = False
    frozen_stages: int = 2
    neck: str = "fpn"
    neck_channels: int = 256
    neck_norm: str = ""
    pixel_order: str | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: ROIConfig = field(default_factory=ROIConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)

    def __post_init__(self) -> None:
        expand_home(self, "backbone_weights")

    @property
    def anchors_per_cell(self) -> int:
        """A, anchors of one cell of a map: a level has its own size, the only level has all."""
        sizes = len(self.rpn.anchor_sizes) if len(NECKS[self.neck]) == 1 else 1
        return sizes * len(self.rpn.anchor_ratios)

    def validate(self) -> None:
        check(self.kind in KINDS, f"model.kind={self.kind}: expected one of {', '.join(KINDS)}")
        check(
            self.backbone in BACKBONES or self.backbone.startswith(APPLICATIONS),
            f"model.backbone={self.backbone}: expected one of {', '.join(BACKBONES)}, or {APPLICATIONS}NAME",
        )
        check(self.norm in NORMS, f"model.norm={self.norm}: expected one of {', '.join(NORMS)}")
        check(
            self.num_classes >= 0,
            f"model.num_classes={self.num_classes}: expected 1 or more, or 0 to follow the dataset",
        )
        check_numbers(self, "model", "frozen_stages", 0, 5)
        check_numbers(self, "model", "norm_epsilon", 0)
        check_numbers(self, "model", "neck_channels", 1)
        check(
            self.neck_norm in ("", *NORMS),
            f"model.neck_norm={self.neck_norm}: expected empty or one of {', '.join(NORMS)}",
        )
        check(
            self.neck in NECKS,
            f"model.neck={self.neck}: expected one of {', '.join(NECKS)}",
        )
        levels = NECKS[self.neck]
        check(
            len(levels) in (1, len(self.rpn.anchor_sizes)),
            f"model.rpn.anchor_sizes={self.rpn.anchor_sizes}: expected {len(levels)} sizes, for p2..p6",
        )
        check(
            self.roi.head == "fc" or (self.neck == "c4" and self.backbone in BACKBONES),
            f"model.roi.head=conv5: expected model.neck=c4 on a ResNet, not {self.neck} on {self.backbone}",
        )
        check(
            self.pixel_order in (None, "rgb", "bgr"),
            f"model.pixel_order={self.pixel_order}: expected rgb or bgr",
        )
        check(
            len(self.pixel_mean or PIXELS["pixel_mean"]) == 3,
            f"model.pixel_mean={self.pixel_mean}: expected 3 numbers",
        )
        check(
            self.pixel_std is None or (len(self.pixel_std) == 3 and min(self.pixel_std) > 0),
            f"model.pixel_std={self.pixel_std}: expected 3 positive numbers",
        )
        self.rpn.validate()
        self.roi.validate()
        self.segment.validate()
