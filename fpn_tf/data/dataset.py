"""A detection data set as the rest of the program sees it, wherever it came from."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fpn_tf.errors import DataError
from fpn_tf.structures import NUMBER_KINDS, TruthField

BATCH_KEYS = (
    "images",
    "image_sizes",
    "boxes",
    "classes",
    "valid",
    "sample_seeds",
    "indices",
    "segments",
    "proposal_boxes",
    "proposal_valid",
)
SHOWN = 3  # mistakes in a field that a message names


NO_FIELDS: Mapping[str, Any] = types.MappingProxyType({})


class Record(NamedTuple):
    """A photo and the boxes to learn from it (no crowd regions, nothing without area)."""

    image_id: int
    name: str  # for messages
    size: tuple[int, int]  # (height, width) in pixels, upright
    boxes: Any  # [G, 4] float32, pixels of the photo
    classes: Any  # [G] int32, 1..K
    segmentations: tuple = ()  # of the boxes, as in COCO's annotations; None for a box without one
    proposals: Any = None  # [P, 4] float32, pixels of the photo, best first; None: the data set has none
    fields: Mapping[str, Any] = NO_FIELDS  # truth field's name -> [G, *shape]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Records, how to read their photos, and the ground truth that evaluation needs.

    Attributes:
        records: one Record per photo.
        read_bytes: index into `records` -> the encoded photo.
        read_size: index into `records` -> (height, width) that the photo itself tells, upright.
        class_names: of classes 1..K.
        category_ids: the data set's ids of classes 1..K.
        coco: the ground truth as a COCO dict (`images`, `annotations`, `categories`), crowd
            regions included.
        truth_fields: name -> TruthField, which the records' `fields` hold.
    """

    records: list[Record]
    read_bytes: Callable[[int], bytes]
    read_size: Callable[[int], tuple[int, int]]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    coco: dict
    truth_fields: Mapping[str, TruthField] = dataclasses.field(default_factory=dict)

    @property
    def has_proposals(self):
        """Whether the records have proposals."""
        return bool(self.records) and self.records[0].proposals is not None


def check_truth_fields(truth_fields):
    """Raises DataError for a field with the name of something else in a batch, or of no number's dtype."""
    for name, field in truth_fields.items():
        if name in BATCH_KEYS:
            raise DataError(f"truth field '{name}': expected another name; a batch holds {name} already")
        try:
            is_number = np.dtype(field.dtype).kind in NUMBER_KINDS
        except TypeError:
            is_number = False
        if not is_number:
            raise DataError(f"truth field '{name}': dtype {field.dtype}: expected one of numbers or bool")


def clipped(boxes, limits):
    """COCO's boxes as corners inside their photo.

    Args:
        boxes: [G, 4] x, y, width, height in pixels of the photo.
        limits: [4], or [G, 4], the photo's width, height, width, height.

    Returns:
        float32 [G, 4] (x1, y1, x2, y2).
    """
    corners = np.asarray(boxes, np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return np.clip(corners, 0, limits).astype(np.float32)


def has_area(corners):
    """bool [G]: which of the boxes [G, 4] of `clipped` are learnt from and scored."""
    return np.all(corners[:, 2:] > corners[:, :2], axis=1)


def from_coco_dict(coco, read_bytes_of, name, read_size_of, truth_fields=NO_FIELDS, source="annotations"):
    """A Dataset from ground truth in COCO's form.

    Category ids (with gaps or not) become classes 1..K in the order of `categories`. Boxes are
    clipped to their image; those without area are dropped, crowd regions are kept for
    evaluation only.

    Args:
        coco: a dict with `images`, `annotations`, `categories`, already known to be well-formed.
        read_bytes_of: image dict -> the encoded photo.
        name: image dict -> its name for messages.
        read_size_of: image dict -> (height, width) of the photo, from its header.
        truth_fields: name -> TruthField, to be read from the annotations of the boxes.
        source: name of the file or data set, for messages.

    Raises:
        DataError: a box whose annotation lacks one of `truth_fields`, or has another kind of value.
    """
    check_truth_fields(truth_fields)
    category_ids = tuple(c["id"] for c in coco["categories"])
    class_of = {category: i for i, category in enumerate(category_ids, start=1)}
    by_image = {image["id"]: [] for image in coco["images"]}
    for index, annotation in enumerate(coco["annotations"]):
        if not annotation.get("iscrowd", 0):
            by_image[annotation["image_id"]].append((index, annotation))
    records, mistakes = [], []
    for image in coco["images"]:
        annotations = [annotation for _, annotation in by_image[image["id"]]]
        corners = clipped([a["bbox"] for a in annotations], [image["width"], image["height"]] * 2)
        good = has_area(corners)
        classes = np.asarray([class_of[a["category_id"]] for a in annotations], np.int32)
        size = (image["height"], image["width"])
        kept = [entry for entry, is_good in zip(by_image[image["id"]], good) if is_good]
        shapes = tuple(annotation.get("segmentation") for _, annotation in kept)
        fields = {key: _field_of(kept, key, field, mistakes) for key, field in truth_fields.items()}
        record = Record(image["id"], name(image), size, corners[good], classes[good], shapes, fields=fields)
        records.append(record)
    if mistakes:
        more = f" ({len(mistakes)} such)" if len(mistakes) > SHOWN else ""
        raise DataError(f"{source}: {'; '.join(mistakes[:SHOWN])}{more}")
    images = coco["images"]
    return Dataset(
        records=records,
        read_bytes=lambda index: read_bytes_of(images[index]),
        read_size=lambda index: read_size_of(images[index]),
        class_names=tuple(c["name"] for c in coco["categories"]),
        category_ids=category_ids,
        coco=coco,
        truth_fields=dict(truth_fields),
    )


def _field_of(annotations, name, field, mistakes):
    """A truth field [G, *shape] of (index, annotation) pairs; what has no such value joins `mistakes`."""
    values = np.zeros((len(annotations), *field.shape), field.dtype)
    for row, (index, annotation) in enumerate(annotations):
        where = f"annotations[{index}] (id {annotation['id']})"
        value = field.value(annotation[name]) if name in annotation else None
        if name not in annotation:
            mistakes.append(f"{where}: no '{name}'; expected {field}")
        elif value is None:
            mistakes.append(f"{where}: {name} = {str(annotation[name])[:40]}; expected {field}")
        else:
            values[row] = value
    return values
