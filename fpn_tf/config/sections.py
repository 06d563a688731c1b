"""The sections of the configuration: every key with its default, unit and bounds.

Values that follow from others are properties, so that an override reaches everything that
depends on it.
"""

import pathlib
from dataclasses import dataclass, field

from fpn_tf.errors import ConfigError

BACKBONES = {  # name -> arguments of fpn_tf.ResNet
    "resnet_tiny": {"depth": "tiny"},
    **{f"resnet{depth}": {"depth": depth} for depth in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": {"depth": 50, "groups": 32, "width_per_group": 4},
    "resnext101_32x8d": {"depth": 101, "groups": 32, "width_per_group": 8},
}
NORMS = ("frozen_bn", "sync_bn", "group_norm")
RESIZES = ("detectron2", "torchvision", "detectron")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def check(condition, message):
    """Raises `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network: its anchors' labels, its sampling and its proposals."""

    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)  # pixels; one per level p2..p6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    anchor_rounding: str = "none"  # corners to whole pixels as torchvision or detectron do
    strides_from_sizes: bool = False  # canvas // map (torchvision: p6 may get 61), not 2^level
    conv_layers: int = 1  # 3x3 convolutions before the two siblings
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
            len(self.anchor_sizes) == 5,
            f"model.rpn.anchor_sizes={self.anchor_sizes}: expected 5 sizes, for p2..p6",
        )
        check(
            min(self.anchor_sizes) > 0, f"model.rpn.anchor_sizes={self.anchor_sizes}: expected positive sizes"
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

    pool_size: int = 7
    sampling_ratio: int = 2  # 0: adaptive, as in Detectron2
    aligned: bool = True
    inclusive: bool = False  # pool up to x2 - 1, y2 - 1 (Detectron: the last pixel inside)
    canonical_size: int = 224  # pixels; a box of this side is pooled from canonical_level
    canonical_level: int = 4
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
class ModelConfig:
    """The network, and the pixels that it expects."""

    kind: str = "faster_rcnn"  # or rpn: proposals alone
    backbone: str = "resnet50"
    backbone_weights: str = ""  # "": random; "imagenet": keras.applications; or an .npz file
    num_classes: int = 0  # K, without background; 0: as many as the dataset has
    norm: str = "frozen_bn"
    norm_epsilon: float = 1e-5
    stride_in_1x1: bool = False  # where a bottleneck strides: Caffe's 1x1 or torchvision's 3x3
    frozen_stages: int = 2  # 0: none; 1: the stem; 2: the stem and c2; ... 5: everything
    fpn_channels: int = 256
    fpn_norm: str = ""  # after each of the pyramid's convolutions; "": none (the paper)
    pixel_order: str = "rgb"
    pixel_mean: tuple[float, ...] = (123.675, 116.28, 103.53)  # in pixel_order, of 0..255
    pixel_std: tuple[float, ...] = (58.395, 57.12, 57.375)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: ROIConfig = field(default_factory=ROIConfig)

    def validate(self):
        check(self.kind in ("faster_rcnn", "rpn"), f"model.kind={self.kind}: expected faster_rcnn or rpn")
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


@dataclass(frozen=True)
class DataConfig:
    """Where the photos and boxes come from, and how large they are shown to the net."""

    tfds_name: str = ""  # e.g. shapes, coco/2017, voc/2007; or the four paths below
    tfds_dir: str = ""  # where TFDS keeps its data; "": TFDS' own default
    tfds_train_split: str = "train"
    tfds_eval_split: str = "validation"
    root: str = ""  # folder that the next four are relative to
    train_annotations: str = ""  # COCO-format JSON
    train_images: str = ""  # folder
    eval_annotations: str = ""
    eval_images: str = ""
    class_names: tuple[str, ...] = ()  # filled in from the dataset
    category_ids: tuple[int, ...] = ()  # the dataset's ids of classes 1..K, filled in likewise
    short_side: int = 800  # pixels, of the resized image
    max_side: int = 1333
    resize: str = "detectron2"  # whose: Pillow's on bytes, or float without antialiasing
    train_short_sides: tuple[int, ...] = ()  # scale jitter; empty: always short_side
    flip: bool = True  # horizontal, every second image
    keep_empty: bool = False  # train on images without boxes too
    max_bad_fraction: float = 0.01  # share of unreadable files that ends the run
    workers: int = 0  # threads that read photos; 0: as many as there are cores

    @property
    def train_sides(self):
        """The shorter sides that training draws from."""
        return self.train_short_sides or (self.short_side,)

    def path(self, name):
        """The path that the field `name` holds, under `root`."""
        return str(pathlib.Path(self.root) / getattr(self, name))

    def validate(self):
        for name in ("short_side", "max_side"):
            check(
                getattr(self, name) >= 1,
                f"data.{name}={getattr(self, name)}: expected a positive number of pixels",
            )
        check(self.resize in RESIZES, f"data.resize={self.resize}: expected one of {', '.join(RESIZES)}")
        longest = max(*self.train_sides, self.short_side)
        check(
            longest <= self.max_side,
            f"data.max_side={self.max_side}: expected at least the shorter side, {longest}",
        )
        check(
            min(self.train_sides) >= 1,
            f"data.train_short_sides={self.train_short_sides}: expected positive sizes",
        )
        check(
            0 <= self.max_bad_fraction <= 1, f"data.max_bad_fraction={self.max_bad_fraction}: expected 0..1"
        )
        check(self.workers >= 0, f"data.workers={self.workers}: expected 0 or more")
        for split in ("train", "eval"):
            files_given = [bool(getattr(self, f"{split}_{part}")) for part in ("annotations", "images")]
            check(
                all(files_given) or not any(files_given),
                f"data.{split}_annotations and data.{split}_images: expected both or neither",
            )


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    steps: int = 90000
    batch_size: int = 16  # images per step, over all replicas
    learning_rate: float | None = None  # None: base_learning_rate * batch_size / 16
    base_learning_rate: float = 0.02  # for 16 images
    optimizer: str = "sgd"  # Detectron's; or adamw, for short runs from scratch
    momentum: float = 0.9  # of sgd
    weight_decay: float = 1e-4  # of kernels; coupled in sgd, decoupled in adamw
    clip_norm: float = 0.0  # of the global gradient, after the all-reduce; 0: off
    schedule: str = "step"
    decay_at: tuple[float, ...] = (2 / 3, 8 / 9)  # shares of `steps` at which `step` decays
    decay_factor: float = 0.1
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    seed: int = 0
    num_replicas: int = 0  # 0: every GPU, or one CPU device; n: n GPUs or n logical CPU devices
    accumulation_steps: int = 1  # micro-batches per step
    precision: str = "float32"
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3  # the newest; the best by AP is kept besides
    eval_every: int = 0  # 0: only at the end

    @property
    def peak_learning_rate(self):
        """The learning rate after warm-up: given, or in proportion to the batch (Goyal et al.)."""
        if self.learning_rate is not None:
            return self.learning_rate
        return self.base_learning_rate * self.batch_size / 16

    def validate(self):
        for name in (
            "steps",
            "batch_size",
            "accumulation_steps",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            check(getattr(self, name) >= 1, f"train.{name}={getattr(self, name)}: expected at least 1")
        for name in ("num_replicas", "warmup_steps", "eval_every", "seed"):
            check(getattr(self, name) >= 0, f"train.{name}={getattr(self, name)}: expected 0 or more")
        for name in ("weight_decay", "clip_norm"):
            check(getattr(self, name) >= 0, f"train.{name}={getattr(self, name)}: expected 0 or more")
        check(
            self.peak_learning_rate > 0,
            f"train.learning_rate={self.peak_learning_rate}: expected a positive number",
        )
        check(0 <= self.momentum < 1, f"train.momentum={self.momentum}: expected 0 or more, below 1")
        check(self.optimizer in ("sgd", "adamw"), f"train.optimizer={self.optimizer}: expected sgd or adamw")
        check(self.schedule in ("step", "cosine"), f"train.schedule={self.schedule}: expected step or cosine")
        check(
            self.precision in PRECISIONS,
            f"train.precision={self.precision}: expected one of {', '.join(PRECISIONS)}",
        )
        parts = max(self.num_replicas, 1) * self.accumulation_steps
        check(
            self.batch_size % parts == 0,
            f"train.batch_size={self.batch_size}: expected a multiple of "
            f"num_replicas * accumulation_steps = {parts}",
        )


@dataclass(frozen=True)
class EvalConfig:
    """Detection at test time."""

    batch_size: int = 1
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    annotations: str = ""  # official COCO JSON to score a TFDS split against
    pictures: int = 8  # pictures drawn after an evaluation

    def validate(self):
        for name in ("batch_size", "max_detections"):
            check(getattr(self, name) >= 1, f"eval.{name}={getattr(self, name)}: expected at least 1")
        for name in ("score_threshold", "nms_threshold"):
            check(0 <= getattr(self, name) <= 1, f"eval.{name}={getattr(self, name)}: expected 0..1")
        check(self.pictures >= 0, f"eval.pictures={self.pictures}: expected 0 or more")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def validate(self):
        """Checks every value. Raises: ConfigError, with the key and the value."""
        for section in (self.model, self.data, self.train, self.eval):
            section.validate()
        return self
