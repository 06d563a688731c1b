"""The records that pass between the stages, each documented once, here.

Axes: B images, L levels, H W C, A anchors per cell, N anchors in all, P proposals, R rois,
G ground truths, K classes, D detections. Boxes are `[x1, y1, x2, y2]`, float32, in continuous
pixels of the resized image. Padding is marked by a boolean `valid`, never by special values.
A pyramid is a plain dict: level name ("p2" has stride 4, "p3" 8, ...) -> map [B, H, W, C].
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    from fpn_tf.photo_forms import Photo

Array = Any  # a tensor of the Keras backend in use, or a NumPy array
Pyramid = dict[str, Array]
Size = tuple[int, int]  # (height, width)
FilePath = str | os.PathLike[str]
NUMBER_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}  # dtype's kind -> kinds that it is read from


class RPNOutputs(NamedTuple):
    """What the RPN says about every anchor, level by level (finest first)."""

    logits: dict[str, Array]  # level name -> [B, H*W*A] float32, objectness before the sigmoid
    deltas: dict[str, Array]  # level name -> [B, H*W*A, 4] float32
    anchors: dict[str, Array]  # level name -> [H*W*A, 4] float32


class Proposals(NamedTuple):
    """The boxes that the RPN passes on, best first."""

    boxes: Array  # [B, P, 4] float32
    logits: Array  # [B, P] float32
    valid: Array  # [B, P] bool
    anchors: Array  # [B, P] int32, which of the N anchors each was made from


class Outputs(NamedTuple):
    """Everything that needs no ground truth: the result of a training forward pass."""

    pyramid: Pyramid
    rpn: Any  # RPNOutputs; None: the model has no RPN
    proposals: Any  # Proposals; None: the model proposes no boxes


class TruthField(NamedTuple):
    """What a head learns of each box besides its class: a field of the annotations.

    Args:
        shape: of one box's value.
        dtype: NumPy's name of a number or of bool.

    Example:

    >>> colour, keypoints = fpn_tf.TruthField(), fpn_tf.TruthField(shape=(17, 3), dtype="float32")
    >>> print(colour, "and", keypoints)
    one int32 and float32 of shape (17, 3)
    >>> colour.value(3), colour.value("red")
    (array(3, dtype=int32), None)
    """

    shape: tuple[int, ...] = ()
    dtype: str = "int32"

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}" if self.shape else f"one {self.dtype}"

    def value(self, annotated: Any) -> np.ndarray | None:
        """An annotation's value as an array of this shape and dtype; None where it is none."""
        dtype = np.dtype(self.dtype)
        try:
            given = np.asarray(annotated)
        except ValueError:  # lists of different lengths
            return None
        if given.shape != tuple(self.shape) or given.dtype.kind not in NUMBER_KINDS[dtype.kind]:
            return None
        if dtype.kind in "iu" and given.size:
            bounds = np.iinfo(dtype)
            if given.min() < bounds.min or given.max() > bounds.max:
                return None
        with np.errstate(over="ignore"):  # beyond float32's range: infinite
            value = given.astype(dtype)
        return value if np.all(np.isfinite(value)) else None


class GroundTruth(NamedTuple):
    """The boxes to find. Crowd regions and zero-size boxes are not among them."""

    boxes: Array  # [B, G, 4] float32
    classes: Array  # [B, G] int32, 1..K (0 where not valid)
    valid: Array  # [B, G] bool
    fields: Mapping[str, Array] = {}


class Samples(NamedTuple):
    """A fixed-size draw of foreground and background boxes, foreground first."""

    indices: Array  # [B, S] int32 into the boxes that were drawn from
    foreground: Array  # [B, S] bool
    valid: Array  # [B, S] bool


class RPNTargets(NamedTuple):
    """What the RPN should have said about the sampled anchors."""

    indices: Array  # [B, S] int32 into the N anchors of all levels
    labels: Array  # [B, S] float32, 1 foreground, 0 background
    deltas: Array  # [B, S, 4] float32, meaningful where foreground
    valid: Array  # [B, S] bool


class ROITargets(NamedTuple):
    """The sampled RoIs and what the heads should say about them."""

    rois: Array  # [B, R, 4] float32
    classes: Array  # [B, R] int32, 0 background, 1..K
    deltas: Array  # [B, R, 4] float32, meaningful where classes > 0
    valid: Array  # [B, R] bool
    fields: Mapping[str, Array] = {}


class Windows(NamedTuple):
    """Where a segment head looks: N windows of all levels and heads."""

    centers: Array  # [N, 2] float32, (x, y) in pixels
    regions: Array  # [N, 4] float32, what the segment of a window covers
    scales: Array  # [N] int32, an index into `sizes`
    strides: Array  # [N] float32, pixels
    sizes: tuple  # canonical size of an object of each scale, pixels


class SegmentTargets(NamedTuple):
    """What a segment head should have said about the sampled windows."""

    indices: Array  # [B, S] int32 into all windows
    labels: Array  # [B, S] float32, 1 foreground, 0 background
    segments: Array  # [B, S, M, M] float32, 1 inside the object, meaningful where foreground
    valid: Array  # [B, S] bool


class BatchDetections(NamedTuple):
    """Detections of a batch, best first, in pixels of the resized images."""

    boxes: Array  # [B, D, 4] float32
    scores: Array  # [B, D] float32, 0 where not valid
    classes: Array  # [B, D] int32, 1..K, 0 where not valid
    valid: Array  # [B, D] bool
    extra: dict[str, Array] = {}  # noqa: RUF012  (read only) what further heads say, name -> [B, D, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one photo, best first, as NumPy arrays without padding.

    A record that can be counted (`len`), filtered, unpacked into boxes, scores and classes, named
    and drawn.

    Args:
        boxes: [D, 4] float32 (x1, y1, x2, y2), pixels of the ORIGINAL photo.
        scores: [D] float32, 0..1.
        classes: [D] int64, category ids of the data set.
        class_names: category id -> name.
        extra: name -> [D, ...], what further heads say, see `fpn_tf.Head`.

    Example:

    >>> detections = fpn_tf.Detections(
    ...     boxes=np.array([[4, 4, 30, 40], [50, 10, 90, 60]], "float32"),
    ...     scores=np.array([0.9, 0.6], "float32"),
    ...     classes=np.array([3, 7]),
    ...     class_names={3: "cat", 7: "dog"},
    ... )
    >>> len(detections), detections.names
    (2, ['cat', 'dog'])
    >>> detections[detections.scores > 0.8].names
    ['cat']
    >>> boxes, scores, classes = detections
    >>> detections.draw(np.zeros((64, 96, 3), "uint8")).save("a.png")
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.boxes, self.scores, self.classes))

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Self:
        """The detections that an index picks: a mask [D], numbers, a slice or one number."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        picked: dict[str, Any] = {name: getattr(self, name)[rows] for name in self._rows()}
        extra = {name: values[rows] for name, values in self.extra.items()}
        return dataclasses.replace(self, **picked, extra=extra)

    def _rows(self) -> tuple[str, ...]:
        """Names of the fields that have a row for each detection."""
        return ("boxes", "scores", "classes")

    @property
    def names(self) -> list[str]:
        """The name of each detection's class, a list of D texts."""
        return [self.class_names.get(int(i), f"class {i}") for i in self.classes]

    def draw(self, photo: "Photo", min_score: float = 0.0) -> "Image.Image":
        """The photo with its detections, named and scored.

        Args:
            photo: the photo that they were found in, in any form that `detect` takes.
            min_score: detections below it are not drawn.

        Returns:
            PIL.Image.

        Raises:
            ValueError: something that is no photo; PhotoError: a file that cannot be read as one.
        """
        from fpn_tf import visualize
        from fpn_tf.photo_forms import photo_from

        return visualize.draw_detections(photo_from(photo), self, min_score)


class BatchSegments(NamedTuple):
    """Segment proposals of a batch, best first, in pixels of the resized images."""

    regions: Array  # [B, D, 4] float32, boxes that the segments fill; they may leave the image
    scores: Array  # [B, D] float32, 0 where not valid
    classes: Array  # [B, D] int32, 1 where valid
    valid: Array  # [B, D] bool
    segments: Array  # [B, D, M, M] float32, probabilities


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentDetections(Detections):
    """Segment proposals of one photo, best first; boxes are tight around the segments, classes are 1."""

    regions: np.ndarray | None = None  # [D, 4] float32, pixels of the photo: the grid of a segment
    segments: np.ndarray | None = None  # [D, M, M] float32, probabilities; inside from 0.5 on

    def _rows(self) -> tuple[str, ...]:
        return (*super()._rows(), "regions", "segments")
