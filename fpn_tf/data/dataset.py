"""A detection data set as the rest of the program sees it, wherever it came from."""

import collections
import dataclasses
import itertools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fpn_tf.errors import DataError
from fpn_tf.photos import Header
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
        read_header: index into `records` -> what the photo itself tells, `fpn_tf.photos.Header`.
        class_names: of classes 1..K.
        category_ids: the data set's ids of classes 1..K.
        coco: the ground truth to score by, as a COCO dict (`images`, `annotations`, `categories`),
            crowd regions included.
        left_out: the annotations that have no area inside their photo: neither trained on nor scored.
        truth_fields: name -> TruthField, which the records' `fields` hold.
        notes: lines that a user should know of where it comes from.
    """

    records: list[Record]
    read_bytes: Callable[[int], bytes]
    read_header: Callable[[int], Header]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    coco: dict
    left_out: tuple[dict, ...] = ()
    truth_fields: Mapping[str, TruthField] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def class_labels(self):
        """Of classes 1..K, all different: see `class_labels`."""
        return class_labels(self.class_names, self.category_ids)

    @property
    def has_proposals(self):
        """Whether the records have proposals."""
        return bool(self.records) and self.records[0].proposals is not None


def class_labels(names, ids):
    """The names of classes, each with its id where several classes have it: a list of different texts."""
    shared = {name for name, count in collections.Counter(names).items() if count > 1}
    return [f"{name} (id {i})" if name in shared else name for name, i in zip(names, ids)]


def clipped_corners(coco):
    """The boxes of all annotations within their photos, as float32 [N, 4] (x1, y1, x2, y2).

    Args:
        coco: a COCO dict. An image of unknown size (no `width`, `height`) ends nowhere.
    """
    sizes = {i["id"]: (i.get("width") or np.inf, i.get("height") or np.inf) for i in coco["images"]}
    limits = np.asarray([sizes[a["image_id"]] * 2 for a in coco["annotations"]]).reshape(-1, 4)
    corners = np.asarray([a["bbox"] for a in coco["annotations"]], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return np.clip(corners, 0, limits).astype(np.float32)


def have_area(corners):
    """Which boxes [N, 4] have an area that float32 can tell from 0: bool [N]."""
    sides = corners[:, 2:] - corners[:, :2]
    return np.all(sides > 0, axis=1) & (np.prod(sides, axis=1) > 0)


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


def from_coco_dict(coco, read_bytes_of, name, read_header_of, truth_fields=NO_FIELDS, source="annotations"):
    """A Dataset from ground truth in COCO's form.

    Category ids (with gaps or not) become classes 1..K in the order of `categories`. Boxes are
    clipped to their image; those without area are left out, of training and of evaluation; crowd
    regions are kept for evaluation only.

    Args:
        coco: a dict with `images`, `annotations`, `categories`, already known to be well-formed.
        read_bytes_of: image dict -> the encoded photo.
        name: image dict -> its name for messages.
        read_header_of: image dict -> `fpn_tf.photos.Header` of the photo.
        truth_fields: name -> TruthField, to be read from the annotations of the boxes.
        source: name of the file or data set, for messages.

    Raises:
        DataError: a box whose annotation lacks one of `truth_fields`, or has another kind of value.
    """
    check_truth_fields(truth_fields)
    category_ids = tuple(c["id"] for c in coco["categories"])
    class_of = {category: i for i, category in enumerate(category_ids, start=1)}
    corners, by_image = clipped_corners(coco), {image["id"]: [] for image in coco["images"]}
    has_area = have_area(corners)
    for index, annotation in enumerate(coco["annotations"]):
        if has_area[index] and not annotation.get("iscrowd", 0):
            by_image[annotation["image_id"]].append((index, annotation))
    records, mistakes = [], []
    for image in coco["images"]:
        kept = by_image[image["id"]]
        boxes = corners[np.asarray([index for index, _ in kept], int)]
        classes = np.asarray([class_of[a["category_id"]] for _, a in kept], np.int32)
        size = (image["height"], image["width"])
        shapes = tuple(annotation.get("segmentation") for _, annotation in kept)
        fields = {key: _field_of(kept, key, field, mistakes) for key, field in truth_fields.items()}
        records.append(Record(image["id"], name(image), size, boxes, classes, shapes, fields=fields))
    if mistakes:
        more = f" ({len(mistakes)} such)" if len(mistakes) > SHOWN else ""
        raise DataError(f"{source}: {'; '.join(mistakes[:SHOWN])}{more}")
    images, annotations = coco["images"], coco["annotations"]
    return Dataset(
        records=records,
        read_bytes=lambda index: read_bytes_of(images[index]),
        read_header=lambda index: read_header_of(images[index]),
        class_names=tuple(c["name"] for c in coco["categories"]),
        category_ids=category_ids,
        coco=coco | {"annotations": list(itertools.compress(annotations, has_area))},
        left_out=tuple(itertools.compress(annotations, ~has_area)),
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
