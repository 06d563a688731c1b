"""The transforms of a photo and its truth on the way into a batch.

Every transform is a pure function of (example, draw, others, tools) -> Example: `draw` holds what
the plan drew from (seed, step, slot) for this image, `others` are the further Examples that it drew
for the same slot (for transforms that join photos). No transform draws anything itself, so a step can be
made again, by any process, from its plan.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fpn_tf.data.records import NO_FIELDS


class Example(NamedTuple):
    """A photo and what belongs to it. Its pixels are resized once, at the end, by `paint`."""

    photo: Any  # uint8 [h, w, 3]
    size: tuple[int, int]  # (height, width) at which it will be shown; boxes are in these pixels
    boxes: Any  # [G, 4] float32
    classes: Any  # [G] int32
    proposals: Any = None  # [P, 4] float32; None: the data set has none
    segments: Any = None  # uint8 [G, S, S], see fpn_tf.data.segments; None: they are not read
    fields: Mapping[str, Any] = NO_FIELDS  # truth field's name -> [G, *shape]


class Draw(NamedTuple):
    """The random choices for one image."""

    short_side: int  # pixels of the shown photo's shorter side
    flip: bool


class Tools(NamedTuple):
    """The sizes and the functions on pixels that transforms work with."""

    preprocessor: Any  # Preprocessor: sizes, and whose resizing
    photos: Any  # fpn_tf.photos or fpn_tf.fast_photos, whose functions move pixels


def resize(example, draw, others, tools):
    """Boxes as the photo will be shown, its shorter side of `draw.short_side` pixels."""
    size = tools.preprocessor.shown_size(example.size, draw.short_side)
    boxes, proposals = (
        None if boxes is None else tools.preprocessor.boxes_shown(boxes, example.size, size)
        for boxes in (example.boxes, example.proposals)
    )
    return example._replace(size=size, boxes=boxes, proposals=proposals)


def flip(example, draw, others, tools):
    """Left and right exchanged where `draw.flip` says so, before the photo is resized (mostly enlarged)."""
    if not draw.flip:
        return example
    width = example.size[1]
    return example._replace(
        photo=tools.photos.mirrored(example.photo),
        boxes=_mirrored(example.boxes, width),
        proposals=None if example.proposals is None else _mirrored(example.proposals, width),
        segments=None if example.segments is None else example.segments[:, :, ::-1],
    )


TRANSFORMS = (resize, flip)  # in this order


def transformed(example, draw, others, tools):
    """An Example after all TRANSFORMS."""
    for transform in TRANSFORMS:
        example = transform(example, draw, others, tools)
    return example


def paint(image, example, tools):
    """Writes the resized photo at the top left of `image` [H, W, 3], and 0 elsewhere."""
    height, width = example.size
    tools.photos.resize_into(image[:height, :width], example.photo, tools.preprocessor.resize)
    image[height:], image[:height, width:] = 0, 0


def _mirrored(boxes, width):
    """[N, 4] boxes on an image of `width` pixels whose left and right are exchanged."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
