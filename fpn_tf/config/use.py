"""What is done with a trained model: how it is evaluated, and as what it is exported."""

from dataclasses import dataclass

from fpn_tf.config.network import check, check_numbers, expand_home

PLATFORMS = ("any", "cpu")  # that a SavedModel may be made for
SCORERS = ("pycocotools", "hotcoco")  # the default first


@dataclass(frozen=True)
class EvalConfig:
    """Detection at test time.

    Args:
        batch_size: images at a time, at least 1.
        score_threshold: a detection's score must be above it, 0..1.
        nms_threshold: IoU above which the worse of two boxes of a class is dropped, 0..1.
        max_detections: per image, at least 1; above 100 also AP_at_N and ARN are measured, as COCO's
            AP counts the best 100 of a class in a photo.
        short_sides: pixels, positive; an image pyramid: detect at each, merge; (): data.short_side.
        annotations: official COCO JSON to score against, in place of the data set's own ground truth.
        pictures: drawn after an evaluation, 0 or more.
        scorer: the library that scores: pycocotools, or hotcoco: the same numbers in less time
            (`pip install hotcoco`).

    Example:

    >>> fpn_tf.EvalConfig(max_detections=300).score_threshold
    0.05
    """

    batch_size: int = 1
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    short_sides: tuple[int, ...] = ()
    annotations: str = ""
    pictures: int = 8
    scorer: str = SCORERS[0]

    def __post_init__(self) -> None:
        expand_home(self, "annotations")

    def validate(self) -> None:
        check_numbers(self, "eval", "batch_size max_detections", 1)
        check_numbers(self, "eval", "score_threshold nms_threshold", 0, 1)
        check_numbers(self, "eval", "pictures", 0)
        check(self.scorer in SCORERS, f"eval.scorer={self.scorer}: expected {' or '.join(SCORERS)}")
        check(
            all(side >= 1 for side in self.short_sides),
            f"eval.short_sides={self.short_sides}: expected positive sizes",
        )


@dataclass(frozen=True)
class ExportConfig:
    """The SavedModel that is exported.

    Args:
        platform: any, or cpu: convolutions by the algorithm that is fastest on a CPU, for TensorFlow 2.18
            or newer.
        max_pixels: of a photo's file, at least 1; one of more is answered with an error, undecoded.
        server_files: write models.config and batching_parameters.txt for TF Serving as well.

    Example:

    >>> fpn_tf.ExportConfig(platform="cpu").max_pixels
    89478485
    """

    platform: str = "any"
    max_pixels: int = 2**28 // 3  # of a gigabyte in float32; above it Pillow warns, too
    server_files: bool = False

    def validate(self) -> None:
        check_numbers(self, "export", "max_pixels", 1)
        check(
            self.platform in PLATFORMS,
            f"export.platform={self.platform}: expected one of {', '.join(PLATFORMS)}",
        )
