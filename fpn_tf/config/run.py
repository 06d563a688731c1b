"""The configuration of a run, data and training: every key with its default, unit and bounds.

Values that follow from others are properties, so that an override reaches everything that
depends on it.
"""

import pathlib
from dataclasses import dataclass, field
from typing import Self

from fpn_tf.config.network import ModelConfig, check, check_numbers, expand_home
from fpn_tf.config.use import EvalConfig, ExportConfig

RESIZES = ("detectron2", "torchvision", "detectron")
FORMATS = ("auto", "coco", "yolo", "voc", "csv")  # of folders of photos and annotations
PARTS = ("backbone", "neck", "rpn", "box_head")  # of a model
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class DataConfig:
    """Where the photos and boxes come from, and how large they are shown to the net.

    Args:
        folder: folder of photos and annotations in any of the formats; or one of the next two ways.
        format: of `folder`: coco, yolo, voc, csv, or auto.
        holdout: share of the photos to evaluate on where `folder` has none for it, between 0 and 1.
        tfds_name: a data set of TFDS, e.g. shapes, coco/2017, voc/2007; or the four paths below.
        tfds_dir: where TFDS keeps its data; "": TFDS' own default.
        tfds_train_split: name of the split in TFDS.
        tfds_eval_split: likewise.
        root: folder that the next four are relative to.
        train_annotations: COCO-format JSON; needs train_images.
        train_images: folder that holds each image's `file_name`.
        eval_annotations: as train_annotations, for evaluation.
        eval_images: as train_images.
        class_names: of classes 1..K; filled in from the data set.
        category_ids: the data set's ids of classes 1..K, filled in likewise.
        train_proposals: file of --mode=propose, for model.kind=fast_rcnn; not under root.
        eval_proposals: likewise.
        max_train_proposals: per image, the best, at least 1.
        max_eval_proposals: likewise, at least 1.
        short_side: pixels of the resized image, at least 1.
        max_side: bound on its longer side, at least short_side and all train_short_sides.
        resize: whose: detectron2 (Pillow's on bytes), or torchvision or detectron, float without
            antialiasing.
        fast_resize: in training OpenCV reads photos, within 1 grey level of Pillow.
        train_short_sides: shorter sides to draw from, positive (scale jitter); (): short_side.
        flip: mirror every second training image.
        segments: read the annotations' segmentations, for model.kind=segment_proposals.
        keep_empty: train on images without boxes too.
        max_bad_fraction: share of unreadable files that ends the run, 0..1.
        workers: threads that read photos, 0 or more; 0: as many as there are cores.

    Example:

    >>> fpn_tf.DataConfig(train_annotations="train.json", train_images="photos", root="data").path(
    ...     "train_images"
    ... )
    'data/photos'
    """

    folder: str = ""
    format: str = "auto"
    holdout: float = 0.2
    tfds_name: str = ""
    tfds_dir: str = ""
    tfds_train_split: str = "train"
    tfds_eval_split: str = "validation"
    root: str = ""
    train_annotations: str = ""
    train_images: str = ""
    eval_annotations: str = ""
    eval_images: str = ""
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    train_proposals: str = ""
    eval_proposals: str = ""
    max_train_proposals: int = 2000
    max_eval_proposals: int = 1000
    short_side: int = 800
    max_side: int = 1333
    resize: str = "detectron2"
    fast_resize: bool = False
    train_short_sides: tuple[int, ...] = ()
    flip: bool = True
    segments: bool = False
    keep_empty: bool = False
    max_bad_fraction: float = 0.01
    workers: int = 0

    def __post_init__(self) -> None:
        inputs = ("annotations", "images", "proposals")
        folders = ("folder", "tfds_dir", "root")
        expand_home(self, *folders, *(f"{s}_{name}" for s in ("train", "eval") for name in inputs))

    @property
    def train_sides(self) -> tuple[int, ...]:
        """The shorter sides that training draws from."""
        return self.train_short_sides or (self.short_side,)

    def path(self, name: str) -> str:
        """The path that the field `name` holds, under `root`."""
        return str(pathlib.Path(self.root) / getattr(self, name))

    def validate(self) -> None:
        check_numbers(self, "data", "max_train_proposals max_eval_proposals", 1)
        check_numbers(self, "data", "max_bad_fraction", 0, 1)
        check_numbers(self, "data", "workers", 0)
        check(self.format in FORMATS, f"data.format={self.format}: expected one of {', '.join(FORMATS)}")
        check(
            0 < self.holdout < 1,
            f"data.holdout={self.holdout}: expected a share of the photos between 0 and 1",
        )
        for name in ("short_side", "max_side"):
            check(
                getattr(self, name) >= 1,
                f"data.{name}={getattr(self, name)}: expected a positive number of pixels",
            )
        check(self.resize in RESIZES, f"data.resize={self.resize}: expected one of {', '.join(RESIZES)}")
        check(
            not self.fast_resize or self.resize == "detectron2",
            f"data.fast_resize=true: expected data.resize=detectron2, not {self.resize}",
        )
        longest = max(*self.train_sides, self.short_side)
        check(
            longest <= self.max_side,
            f"data.max_side={self.max_side}: expected at least the shorter side, {longest}",
        )
        check(
            min(self.train_sides) >= 1,
            f"data.train_short_sides={self.train_short_sides}: expected positive sizes",
        )
        for split in ("train", "eval"):
            files_given = [bool(getattr(self, f"{split}_{part}")) for part in ("annotations", "images")]
            check(
                all(files_given) or not any(files_given),
                f"data.{split}_annotations and data.{split}_images: expected both or neither",
            )


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation.

    Args:
        steps: of the whole run, at least 1.
        batch_size: images per step, over all replicas, at least 1: a multiple of num_replicas *
            accumulation_steps.
        learning_rate: after the warm-up, positive; None: base_learning_rate * batch_size / 16.
        base_learning_rate: for 16 images.
        optimizer: sgd, as Detectron; or adamw, for short runs from scratch.
        momentum: of sgd, 0 or more, below 1.
        weight_decay: of kernels, 0 or more; coupled in sgd, decoupled in adamw.
        decay_biases: of convolutions and dense layers, too; norms never decay.
        clip_norm: of the global gradient, after the all-reduce, 0 or more; 0: off.
        schedule: step or cosine.
        decay_at: shares of `steps` at which `step` decays.
        decay_factor: of the learning rate, at each of them.
        warmup_steps: in which the learning rate rises, 0 or more.
        warmup_factor: share of the learning rate that they begin with.
        seed: of weights, order of the data, flips and sampling, 0 or more.
        num_replicas: 0 or more. 0: every GPU, or one CPU device; n: n GPUs or n logical CPU devices.
        accumulation_steps: micro-batches per step, at least 1.
        precision: float32, mixed_bfloat16 or mixed_float16.
        freeze: parts that stay as they are: some of backbone, neck, rpn, box_head.
        initial_model_dir: a model_dir: the parts that both models have begin with its weights.
        remat: recompute each residual block in the backward pass: less memory, more time.
        deterministic: equal runs give equal bits; TensorFlow's op determinism.
        ema_decay: of a moving average of the weights, used by eval and export, 0 or more, below 1; 0: off.
        on_nonfinite: stop, or restore: go back to the newest checkpoint, pass over the batch.
        max_restores: with restore: after that many the run stops, 0 or more.
        log_every: steps, at least 1.
        checkpoint_every: steps, at least 1.
        keep_checkpoints: the newest, at least 1; the best by AP is kept besides.
        keep_every: steps, 0 or more, a multiple of checkpoint_every: those checkpoints are kept too; 0: none.
        eval_every: steps, 0 or more; 0: only at the end.
        patience: evaluations without a better AP that end the run, 0 or more; 0: none do. Needs eval_every.

    Example:

    >>> fpn_tf.TrainConfig(batch_size=8).peak_learning_rate
    0.01
    """

    steps: int = 90000
    batch_size: int = 16
    learning_rate: float | None = None
    base_learning_rate: float = 0.02
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_biases: bool = False
    clip_norm: float = 0.0
    schedule: str = "step"
    decay_at: tuple[float, ...] = (2 / 3, 8 / 9)
    decay_factor: float = 0.1
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    seed: int = 0
    num_replicas: int = 0
    accumulation_steps: int = 1
    precision: str = "float32"
    freeze: tuple[str, ...] = ()
    initial_model_dir: str = ""
    remat: bool = False
    deterministic: bool = True
    ema_decay: float = 0.0
    on_nonfinite: str = "stop"
    max_restores: int = 3
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    keep_every: int = 0
    eval_every: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        expand_home(self, "initial_model_dir")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up: given, or in proportion to the batch (Goyal et al.)."""
        if self.learning_rate is not None:
            return self.learning_rate
        return self.base_learning_rate * self.batch_size / 16

    def validate(self) -> None:
        counts = "steps batch_size accumulation_steps log_every checkpoint_every keep_checkpoints"
        check_numbers(self, "train", counts, 1)
        counts = "num_replicas warmup_steps eval_every seed keep_every max_restores patience"
        check_numbers(self, "train", f"{counts} weight_decay clip_norm", 0)
        check(
            self.peak_learning_rate > 0,
            f"train.learning_rate={self.peak_learning_rate}: expected a positive number",
        )
        check(
            not self.patience or self.eval_every > 0,
            f"train.patience={self.patience}: expected train.eval_every above 0 as well",
        )
        check(0 <= self.momentum < 1, f"train.momentum={self.momentum}: expected 0 or more, below 1")
        check(0 <= self.ema_decay < 1, f"train.ema_decay={self.ema_decay}: expected 0 or more, below 1")
        check(
            self.on_nonfinite in ("stop", "restore"),
            f"train.on_nonfinite={self.on_nonfinite}: expected stop or restore",
        )
        check(self.optimizer in ("sgd", "adamw"), f"train.optimizer={self.optimizer}: expected sgd or adamw")
        check(self.schedule in ("step", "cosine"), f"train.schedule={self.schedule}: expected step or cosine")
        check(
            self.precision in PRECISIONS,
            f"train.precision={self.precision}: expected one of {', '.join(PRECISIONS)}",
        )
        for part in self.freeze:
            check(part in PARTS, f"train.freeze={part}: expected some of {', '.join(PARTS)}")
        parts = max(self.num_replicas, 1) * self.accumulation_steps
        check(
            self.batch_size % parts == 0,
            f"train.batch_size={self.batch_size}: expected a multiple of "
            f"num_replicas * accumulation_steps = {parts}",
        )
        check(
            self.keep_every % self.checkpoint_every == 0,
            f"train.keep_every={self.keep_every}: expected a multiple of "
            f"train.checkpoint_every = {self.checkpoint_every}",
        )


@dataclass(frozen=True)
class Config:
    """Everything that decides a run.

    Args:
        model: the section `ModelConfig`.
        data: the section `DataConfig`.
        train: the section `TrainConfig`.
        eval: the section `EvalConfig`.
        export: the section `ExportConfig`.
        name: of the experiment, for --mode=report.

    Example:

    >>> config = fpn_tf.Config(model=fpn_tf.ModelConfig(backbone="resnet18", num_classes=3))
    >>> config.validate().train.steps
    90000
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    name: str = ""

    def validate(self) -> Self:
        """Checks every value. Raises: ConfigError, with the key and the value."""
        for section in (self.model, self.data, self.train, self.eval, self.export):
            section.validate()
        check(
            self.data.segments == (self.model.kind == "segment_proposals"),
            f"data.segments={self.data.segments}: "
            "expected true with model.kind=segment_proposals, false without",
        )
        check(
            not (self.eval.short_sides and self.model.kind == "segment_proposals"),
            f"eval.short_sides={self.eval.short_sides}: expected none with model.kind=segment_proposals",
        )
        for split in ("train", "eval"):
            proposals = getattr(self.data, f"{split}_proposals")
            check(
                bool(proposals) == (self.model.kind == "fast_rcnn"),
                f"data.{split}_proposals={proposals}: expected one with model.kind=fast_rcnn, none without",
            )
        check(
            not (self.train.remat and self.model.norm == "sync_bn"),
            "train.remat=true: expected model.norm frozen_bn or group_norm (sync_bn would count twice)",
        )
        return self
