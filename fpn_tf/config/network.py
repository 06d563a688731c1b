"""The configuration of the network: every key with its default, unit and bounds."""

from dataclasses import dataclass, field

from fpn_tf.errors import ConfigError

BACKBONES = {  # name -> arguments of fpn_tf.ResNet
    "resnet_tiny": {"depth": "tiny"},
    **{f"resnet{depth}": {"depth": depth} for depth in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": {"depth": 50, "groups": 32, "width_per_group": 4},
    "resnext101_32x8d": {"depth": 101, "groups": 32, "width_per_group": 8},
}
PYRAMIDS = {  # name, see fpn_tf.models.pyramids -> levels of its maps, each with its anchors
    "fpn": (2, 3, 4, 5, 6),
    "bottom_up": (2, 3, 4, 5, 6),
    "top_down": (2, 3, 4, 5, 6),
    "finest": (2,),
    "c4": (4,),
    "c5": (5,),
}
CLASSLESS = ("rpn", "mask_proposals")  # kinds of model that know one class, `object`
KINDS = ("faster_rcnn", "rpn", "fast_rcnn", "mask_proposals")
NORMS = ("frozen_bn", "sync_bn", "group_norm")


def check(condition, message):
    """Raises `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network: its anchors' labels, its sampling and its proposals."""

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)  # pixels; one per level p2..p6, or all on one
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    anchor_rounding: str = "none"  # corners to whole pixels as torchvision or detectron do
    strides_from_sizes: bool = False  # canvas // map (torchvision: p6 may get 61), not 2^level
    conv_layers: int = 1  # 3x3 convolutions before the two siblings
    shared_head: bool = True  # one head for all levels, or one for each
    foreground_iou: float = 0.7
    background_iou: float = 0.3
    samples: int = 256  # anchors per image
    foreground_fraction: float = 0.5
    box_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    smooth_l1_beta: float = 0.0  # 0 is plain L1; torchvision uses 1/9
    pre_nms_train: int = 2000  # per level
    pre_nms_test: int = 1000
    post_nms_train: int = 1000  # per image, all levels together
    post_nms_test: int = 1000
    nms_threshold: float = 0.7
    min_size: float = 0.0  # pixels of the resized image; a proposal without area never counts

    def validate(self):
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
        check(
            0 <= self.background_iou <= self.foreground_iou <= 1,
            f"model.rpn.background_iou={self.background_iou}: expected at most {self.foreground_iou}",
        )
        for name in (
            "conv_layers",
            "samples",
            "pre_nms_train",
            "pre_nms_test",
            "post_nms_train",
            "post_nms_test",
        ):
            check(getattr(self, name) >= 1, f"model.rpn.{name}={getattr(self, name)}: expected at least 1")
        check(
            0 <= self.foreground_fraction <= 1,
            f"model.rpn.foreground_fraction={self.foreground_fraction}: expected 0..1",
        )
        check(0 <= self.nms_threshold <= 1, f"model.rpn.nms_threshold={self.nms_threshold}: expected 0..1")


@dataclass(frozen=True)
class ROIConfig:
    """The box head: pooling, sampling and layers."""

    pooling: str = "align"  # ROIAlign; or max: RoI pooling, as in the paper
    pool_size: int = 7
    sampling_ratio: int = 2  # 0: adaptive, as in Detectron2
    aligned: bool = True
    inclusive: bool = False  # pool up to x2 - 1, y2 - 1 (Detectron: the last pixel inside)
    canonical_size: int = 224  # pixels; a box of this side is pooled from canonical_level
    canonical_level: int = 4
    head: str = "fc"  # fully connected layers; or conv5: the ResNet's fifth stage, on maps of c4
    conv_layers: int = 0  # 3x3 convolutions with `norm`, before the fully connected layers
    norm: str = "sync_bn"  # of the convolutions
    fc_layers: int = 2
    hidden_units: int = 1024
    foreground_iou: float = 0.5
    samples: int = 512  # RoIs per image
    foreground_fraction: float = 0.25
    box_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: float = 0.0
    min_size: float = 0.0  # pixels of the resized image, sides of a detection

    def validate(self):
        for name in ("pool_size", "canonical_size", "fc_layers", "hidden_units", "samples"):
            check(getattr(self, name) >= 1, f"model.roi.{name}={getattr(self, name)}: expected at least 1")
        check(self.pooling in ("align", "max"), f"model.roi.pooling={self.pooling}: expected align or max")
        check(self.head in ("fc", "conv5"), f"model.roi.head={self.head}: expected fc or conv5")
        check(self.conv_layers >= 0, f"model.roi.conv_layers={self.conv_layers}: expected 0 or more")
        check(self.norm in NORMS, f"model.roi.norm={self.norm}: expected one of {', '.join(NORMS)}")
        check(
            self.sampling_ratio >= 0,
            f"model.roi.sampling_ratio={self.sampling_ratio}: expected 0 (adaptive) or more",
        )
        check(
            2 <= self.canonical_level <= 5, f"model.roi.canonical_level={self.canonical_level}: expected 2..5"
        )
        check(0 <= self.foreground_iou <= 1, f"model.roi.foreground_iou={self.foreground_iou}: expected 0..1")
        check(
            0 <= self.foreground_fraction <= 1,
            f"model.roi.foreground_fraction={self.foreground_fraction}: expected 0..1",
        )
        check(
            len(self.box_weights) == 4 and min(self.box_weights) > 0,
            f"model.roi.box_weights={self.box_weights}: expected 4 positive numbers",
        )


@dataclass(frozen=True)
class MaskConfig:
    """The head of segmentation proposals (FPN paper, sec. 6 and appendix)."""

    windows: tuple[int, ...] = (5, 7)  # cells on a side that an MLP sees; 5 for octaves, 7 for half ones
    canonical_size: float = 32.0  # pixels, longer side of the object that the 5x5 MLP on p2 is for
    padding: float = 0.25  # of that size, in the region of a mask
    mask_size: int = 14  # cells on a side of a mask
    hidden_units: int = 512
    samples: int = 128  # windows per image
    foreground_fraction: float = 0.25
    loss_weight: float = 10.0  # of the masks, against the scores
    max_proposals: int = 1000  # per image

    def validate(self):
        check(
            self.windows and set(self.windows) <= {5, 7} and len(set(self.windows)) == len(self.windows),
            f"model.mask.windows={self.windows}: expected 5, 7 or both",
        )
        for name in ("mask_size", "hidden_units", "samples", "max_proposals"):
            check(getattr(self, name) >= 1, f"model.mask.{name}={getattr(self, name)}: expected at least 1")
        check(self.canonical_size > 0, f"model.mask.canonical_size={self.canonical_size}: expected above 0")
        for name in ("padding", "loss_weight"):
            check(getattr(self, name) >= 0, f"model.mask.{name}={getattr(self, name)}: expected 0 or more")
        check(
            0 <= self.foreground_fraction <= 1,
            f"model.mask.foreground_fraction={self.foreground_fraction}: expected 0..1",
        )


@dataclass(frozen=True)
class ModelConfig:
    """The network, and the pixels that it expects."""

    kind: str = "faster_rcnn"  # rpn: proposals alone; fast_rcnn: on those of a file; mask_proposals
    backbone: str = "resnet50"
    backbone_weights: str = ""  # "": random; "imagenet": keras.applications; or an .npz file
    num_classes: int = 0  # K, without background; 0: as many as the dataset has
    norm: str = "frozen_bn"
    norm_epsilon: float = 1e-5
    stride_in_1x1: bool = False  # where a bottleneck strides: Caffe's 1x1 or torchvision's 3x3
    frozen_stages: int = 2  # 0: none; 1: the stem; 2: the stem and c2; ... 5: everything
    pyramid: str = "fpn"  # or what the paper compares it with, see PYRAMIDS
    fpn_channels: int = 256
    fpn_norm: str = ""  # after each of the pyramid's convolutions; "": none (the paper)
    pixel_order: str = "rgb"
    pixel_mean: tuple[float, ...] = (123.675, 116.28, 103.53)  # in pixel_order, of 0..255
    pixel_std: tuple[float, ...] = (58.395, 57.12, 57.375)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: ROIConfig = field(default_factory=ROIConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)

    @property
    def anchors_per_cell(self):
        """A, anchors of one cell of a map: a level has its own size, the only level has all."""
        sizes = len(self.rpn.anchor_sizes) if len(PYRAMIDS[self.pyramid]) == 1 else 1
        return sizes * len(self.rpn.anchor_ratios)

    def validate(self):
        check(self.kind in KINDS, f"model.kind={self.kind}: expected one of {', '.join(KINDS)}")
        check(
            self.backbone in BACKBONES,
            f"model.backbone={self.backbone}: expected one of {', '.join(BACKBONES)}",
        )
        check(self.norm in NORMS, f"model.norm={self.norm}: expected one of {', '.join(NORMS)}")
        check(
            self.num_classes >= 0,
            f"model.num_classes={self.num_classes}: expected 1 or more, or 0 to follow the dataset",
        )
        check(0 <= self.frozen_stages <= 5, f"model.frozen_stages={self.frozen_stages}: expected 0..5")
        check(self.norm_epsilon >= 0, f"model.norm_epsilon={self.norm_epsilon}: expected 0 or more")
        check(
            self.fpn_norm in ("", *NORMS),
            f"model.fpn_norm={self.fpn_norm}: expected empty or one of {', '.join(NORMS)}",
        )
        check(
            self.pyramid in PYRAMIDS,
            f"model.pyramid={self.pyramid}: expected one of {', '.join(PYRAMIDS)}",
        )
        levels = PYRAMIDS[self.pyramid]
        check(
            len(levels) in (1, len(self.rpn.anchor_sizes)),
            f"model.rpn.anchor_sizes={self.rpn.anchor_sizes}: expected {len(levels)} sizes, for p2..p6",
        )
        check(
            self.roi.head == "fc" or self.pyramid == "c4",
            f"model.roi.head=conv5: expected model.pyramid=c4, not {self.pyramid}",
        )
        check(self.fpn_channels >= 1, f"model.fpn_channels={self.fpn_channels}: expected at least 1")
        check(
            self.pixel_order in ("rgb", "bgr"), f"model.pixel_order={self.pixel_order}: expected rgb or bgr"
        )
        check(len(self.pixel_mean) == 3, f"model.pixel_mean={self.pixel_mean}: expected 3 numbers")
        check(
            len(self.pixel_std) == 3 and min(self.pixel_std) > 0,
            f"model.pixel_std={self.pixel_std}: expected 3 positive numbers",
        )
        self.rpn.validate()
        self.roi.validate()
        self.mask.validate()
