"""The configuration of a run, data to evaluation: every key with its default, unit and bounds.

Values that follow from others are properties, so that an override reaches everything that
depends on it.
"""

import pathlib
from dataclasses import dataclass, field

from fpn_tf.config.network import ModelConfig, check

RESIZES = ("detectron2", "torchvision", "detectron")
PARTS = ("backbone", "fpn", "rpn_head", "box_head")  # of a model
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


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
    train_proposals: str = ""  # file of --mode=propose, for model.kind=fast_rcnn; not under root
    eval_proposals: str = ""
    max_train_proposals: int = 2000  # per image, the best
    max_eval_proposals: int = 1000
    short_side: int = 800  # pixels, of the resized image
    max_side: int = 1333
    resize: str = "detectron2"  # whose: Pillow's on bytes, or float without antialiasing
    fast_resize: bool = False  # in training: OpenCV reads photos, within 1 grey level of Pillow
    train_short_sides: tuple[int, ...] = ()  # scale jitter; empty: always short_side
    flip: bool = True  # horizontal, every second image
    masks: bool = False  # read the annotations' segmentations, for model.kind=mask_proposals
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
        for name in ("max_train_proposals", "max_eval_proposals"):
            check(getattr(self, name) >= 1, f"data.{name}={getattr(self, name)}: expected at least 1")
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
    freeze: tuple[str, ...] = ()  # parts that stay as they are: backbone, fpn, rpn_head, box_head
    start_from: str = ""  # a model_dir: the parts that both models have begin with its weights
    remat: bool = False  # recompute each residual block in the backward pass: less memory, more time
    deterministic: bool = True  # equal runs give equal bits; TensorFlow's op determinism
    ema_decay: float = 0.0  # of a moving average of the weights, used by eval and export; 0: off
    on_nonfinite: str = "stop"  # or restore: go back to the newest checkpoint, pass over the batch
    max_restores: int = 3  # with restore: after that many the run stops
    log_every: int = 20
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3  # the newest; the best by AP is kept besides
    keep_every: int = 0  # checkpoints at multiples of this step are kept too; 0: none
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
        for name in ("num_replicas", "warmup_steps", "eval_every", "seed", "keep_every", "max_restores"):
            check(getattr(self, name) >= 0, f"train.{name}={getattr(self, name)}: expected 0 or more")
        for name in ("weight_decay", "clip_norm"):
            check(getattr(self, name) >= 0, f"train.{name}={getattr(self, name)}: expected 0 or more")
        check(
            self.peak_learning_rate > 0,
            f"train.learning_rate={self.peak_learning_rate}: expected a positive number",
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
class EvalConfig:
    """Detection at test time."""

    batch_size: int = 1
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    short_sides: tuple[int, ...] = ()  # an image pyramid: detect at each, merge; (): data.short_side
    annotations: str = ""  # official COCO JSON to score a TFDS split against
    pictures: int = 8  # pictures drawn after an evaluation

    def validate(self):
        for name in ("batch_size", "max_detections"):
            check(getattr(self, name) >= 1, f"eval.{name}={getattr(self, name)}: expected at least 1")
        for name in ("score_threshold", "nms_threshold"):
            check(0 <= getattr(self, name) <= 1, f"eval.{name}={getattr(self, name)}: expected 0..1")
        check(
            all(side >= 1 for side in self.short_sides),
            f"eval.short_sides={self.short_sides}: expected positive sizes",
        )
        check(self.pictures >= 0, f"eval.pictures={self.pictures}: expected 0 or more")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    name: str = ""  # of the experiment, for --mode=report

    def validate(self):
        """Checks every value. Raises: ConfigError, with the key and the value."""
        for section in (self.model, self.data, self.train, self.eval):
            section.validate()
        check(
            self.data.masks == (self.model.kind == "mask_proposals"),
            f"data.masks={self.data.masks}: expected true with model.kind=mask_proposals, false without",
        )
        check(
            not (self.eval.short_sides and self.model.kind == "mask_proposals"),
            f"eval.short_sides={self.eval.short_sides}: expected none with model.kind=mask_proposals",
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
