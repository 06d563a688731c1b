"""Segments: COCO's polygons and run-length codes -> small grids, and grids -> run-length codes."""

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from fpn_tf.data.coco_folder import is_number, shown
from fpn_tf.errors import DataError

GRID = 64  # cells on each side that hold an object, the border included


def rasterise(segmentation, size):
    """A COCO segmentation (polygons, or a run-length code) as uint8 [H, W], 1 inside.

    Args:
        segmentation: as in an annotation.
        size: (height, width) of the photo.
    """
    height, width = size
    if isinstance(segmentation, list):
        parts = coco_masks.frPyObjects(segmentation, height, width)
        return coco_masks.decode(coco_masks.merge(parts))
    if isinstance(segmentation["counts"], list):
        segmentation = coco_masks.frPyObjects(segmentation, height, width)
    return coco_masks.decode(segmentation)


def in_box(segment, box):
    """The part of a segment that lies in a box, as a grid over that box.

    Args:
        segment: uint8 [H, W], 1 inside.
        box: [4] in pixels.

    Returns:
        uint8 [GRID, GRID]: a border of 0, and the box on the cells within; 255 where a cell is
        all inside.
    """
    cells = GRID - 2
    box = np.clip(box, 0, [segment.shape[1], segment.shape[0]] * 2).tolist()
    grid = np.zeros((GRID, GRID), np.uint8)
    shown = Image.fromarray(segment * np.uint8(255))
    # The box filter is the mean where cells are larger than pixels, the nearest pixel elsewhere.
    grid[1:-1, 1:-1] = np.asarray(shown.resize((cells, cells), Image.Resampling.BOX, box=box))
    return grid


def paste(region, segment, size):
    """A segment on a photo: bilinear between the middles of its cells, inside from .5 on.

    Args:
        region: [4] in pixels, what the grid covers.
        segment: [M, M] in 0..1.
        size: (height, width) of the photo.

    Returns:
        uint8 [H, W].
    """
    canvas = np.zeros(size, np.uint8)
    first = np.clip(np.ceil(region[:2] - 0.5).astype(int), 0, size[::-1])
    last = np.clip(np.ceil(region[2:] - 0.5).astype(int), 0, size[::-1])
    if np.any(last <= first):
        return canvas
    (x1, y1), (x2, y2) = first, last
    columns = _weights(np.arange(x1, x2) + 0.5, region[0], region[2], len(segment))
    rows = _weights(np.arange(y1, y2) + 0.5, region[1], region[3], len(segment))
    canvas[y1:y2, x1:x2] = rows @ segment @ columns.T >= 0.5
    return canvas


def _weights(positions, start, stop, cells):
    """[P, cells] weights of the cells of an axis at positions between start and stop."""
    cell = np.clip((positions - start) / (stop - start) * cells - 0.5, 0, cells - 1)
    return np.maximum(1 - np.abs(cell[:, None] - np.arange(cells)), 0)


def overlaps(segments, others):
    """IoU [len(segments), len(others)] of two lists of segments uint8 [H, W]."""
    codes = [[encode(segment) for segment in group] for group in (segments, others)]
    if not all(codes):
        return np.zeros((len(segments), len(others)))
    return np.asarray(coco_masks.iou(*codes, [0] * len(others)))


def encode(segment):
    """uint8 [H, W] -> COCO's compressed run-length code, fit for JSON."""
    code = coco_masks.encode(np.asfortranarray(segment))
    return {"size": list(segment.shape), "counts": code["counts"].decode()}


def check_segmentations(coco, name):
    """Raises DataError where an annotation that is no crowd lacks a segmentation that can be drawn."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    for annotation in coco["annotations"]:
        value = annotation.get("segmentation")
        if annotation.get("iscrowd", 0) or _are_polygons(value):
            continue
        if not _is_run_length_code(value, sizes[annotation["image_id"]]):
            raise DataError(
                f"{name}: annotation {annotation['id']} of image {annotation['image_id']}: segmentation = "
                f"{shown(value)}; expected polygons or a run-length code of its photo (data.segments=true)"
            )


def _are_polygons(value):
    """Whether a JSON value is a list of polygons, each [x, y, x, y, ...] of three corners or more."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in value)
        and all(is_number(number) for polygon in value for number in polygon)
    )


def _is_run_length_code(value, size):
    """Whether a JSON value is a run-length code that fills a photo of (height, width)."""
    if not isinstance(value, dict) or value.get("size") != list(size):
        return False
    counts = value.get("counts")
    if isinstance(counts, str):
        counts = run_lengths(counts)
    are_lengths = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    return are_lengths and sum(counts) == size[0] * size[1]


def run_lengths(code):
    """The run lengths, a list of int, that the text of a compressed COCO code stands for.

    Five bits a character, the lowest first, the sixth says that more follow; from the fourth number on
    it is the difference to the last but one (rleFrString in pycocotools).
    """
    lengths, value, shift = [], 0, 0
    for character in code:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value, shift = 0, 0
    return lengths
