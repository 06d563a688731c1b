"""The records that pass between the stages, each documented once, here.

Axes: B images, L levels, H W C, A anchors per cell, N anchors in all, P proposals, R rois,
G ground truths, K classes, D detections. Boxes are `[x1, y1, x2, y2]`, float32, in continuous
pixels of the resized image. Padding is marked by a boolean `valid`, never by special values.
A pyramid is a plain dict: level number (2 for p2, stride 4) -> map [B, H, W, C].
"""

from typing import Any, NamedTuple

Array = Any  # a tensor of the Keras backend in use, or a NumPy array
Pyramid = dict[int, Array]


class RPNOutputs(NamedTuple):
    """What the RPN says about every anchor, level by level (finest first)."""

    logits: dict[int, Array]  # level -> [B, H*W*A] float32, objectness before the sigmoid
    deltas: dict[int, Array]  # level -> [B, H*W*A, 4] float32
    anchors: dict[int, Array]  # level -> [H*W*A, 4] float32


class Proposals(NamedTuple):
    """The boxes that the RPN passes on, best first."""

    boxes: Array  # [B, P, 4] float32
    logits: Array  # [B, P] float32
    valid: Array  # [B, P] bool
    anchors: Array  # [B, P] int32, which of the N anchors each was made from


class NetOutputs(NamedTuple):
    """Everything that needs no ground truth: the result of a training forward pass."""

    pyramid: Pyramid
    rpn: RPNOutputs
    proposals: Proposals


class GroundTruth(NamedTuple):
    """The boxes to find. Crowd regions and zero-size boxes are not among them."""

    boxes: Array  # [B, G, 4] float32
    classes: Array  # [B, G] int32, 1..K (0 where not valid)
    valid: Array  # [B, G] bool


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
    """The sampled RoIs and what the box head should say about them."""

    rois: Array  # [B, R, 4] float32
    classes: Array  # [B, R] int32, 0 background, 1..K
    deltas: Array  # [B, R, 4] float32, meaningful where classes > 0
    valid: Array  # [B, R] bool


class Losses(NamedTuple):
    """The scalars of one step, float32; `total_loss` is the sum of the other four."""

    rpn_objectness_loss: Array
    rpn_box_loss: Array
    head_class_loss: Array
    head_box_loss: Array
    total_loss: Array


class Windows(NamedTuple):
    """Where a segmentation head looks: N windows of all levels and heads."""

    centers: Array  # [N, 2] float32, (x, y) in pixels
    regions: Array  # [N, 4] float32, what the mask of a window covers
    scales: Array  # [N] int32, an index into `sizes`
    strides: Array  # [N] float32, pixels
    sizes: tuple  # canonical size of an object of each scale, pixels


class MaskTargets(NamedTuple):
    """What a segmentation head should have said about the sampled windows."""

    indices: Array  # [B, S] int32 into all windows
    labels: Array  # [B, S] float32, 1 foreground, 0 background
    masks: Array  # [B, S, M, M] float32, 1 inside the object, meaningful where foreground
    valid: Array  # [B, S] bool


class MaskLosses(NamedTuple):
    """The scalars of a step of segmentation proposals, float32."""

    score_loss: Array
    mask_loss: Array  # weighted
    total_loss: Array


class BatchDetections(NamedTuple):
    """Detections of a batch, best first, in pixels of the resized images."""

    boxes: Array  # [B, D, 4] float32
    scores: Array  # [B, D] float32, 0 where not valid
    classes: Array  # [B, D] int32, 1..K, 0 where not valid
    valid: Array  # [B, D] bool


class Detections(NamedTuple):
    """Detections of one photo, best first, as NumPy arrays without padding."""

    boxes: Array  # [D, 4] float32, pixels of the ORIGINAL photo
    scores: Array  # [D] float32
    classes: Array  # [D] int64, category ids of the dataset


class BatchMasks(NamedTuple):
    """Segmentation proposals of a batch, best first, in pixels of the resized images."""

    regions: Array  # [B, D, 4] float32, boxes that the masks fill; they may leave the image
    scores: Array  # [B, D] float32, 0 where not valid
    classes: Array  # [B, D] int32, 1 where valid
    valid: Array  # [B, D] bool
    masks: Array  # [B, D, M, M] float32, probabilities


class MaskDetections(NamedTuple):
    """Segmentation proposals of one photo, best first, as NumPy arrays without padding."""

    boxes: Array  # [D, 4] float32, pixels of the ORIGINAL photo, around each mask
    scores: Array  # [D] float32
    classes: Array  # [D] int64, always 1
    regions: Array  # [D, 4] float32, pixels of the photo: what the grid of a mask covers
    masks: Array  # [D, M, M] float32, probabilities; inside from 0.5 on
