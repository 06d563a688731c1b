"""A detection data set as the rest of the program sees it, wherever it came from."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from fpn_tf.data.columns import Columns, columns_of
from fpn_tf.data.records import NO_FIELDS, Record, Records
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
SEGMENTATION = "segmentation"  # the key of COCO's annotations


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Records, how to read their photos, and the ground truth that evaluation needs.

    Attributes:
        records: one Record per photo; Records of all data sets that are read from files.
        read_bytes: index into `records` -> the encoded photo.
        read_header: index into `records` -> what the photo itself tells, `fpn_tf.photos.Header`.
        class_names: of classes 1..K.
        category_ids: the data set's ids of classes 1..K.
        columns: the annotations as they are, crowd regions included.
        has_area: [A] bool, which of these have an area inside their photo; the others are neither
            trained on nor scored.
        truth_fields: name -> TruthField, which the records' `fields` hold.
        notes: lines that a user should know of where it comes from.
        official: a COCO dict to score by in place of the annotations, or None.
    """

    records: Records | list[Record]
    read_bytes: Callable[[int], bytes]
    read_header: Callable[[int], Header]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    columns: Columns
    has_area: np.ndarray | None = None
    truth_fields: Mapping[str, TruthField] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    official: dict | None = None

    @functools.cached_property
    def coco(self):
        """The ground truth to score by, as a COCO dict, crowd regions included.

        It is made when asked for: of a large training set it would take gigabytes.
        """
        return self.official or self.columns.coco(np.flatnonzero(self.has_area))

    @property
    def left_out(self):
        """The annotations that have no area inside their photo, a tuple of COCO's dicts."""
        return tuple(self.columns.annotation_entries(np.flatnonzero(~self.has_area)))

    @property
    def class_labels(self):
        """Of classes 1..K, all different: see `class_labels`."""
        return class_labels(self.class_names, self.category_ids)

    @property
    def has_proposals(self):
        """Whether the records have proposals."""
        return bool(self.records) and self.records[0].proposals is not None

    @property
    def used_ids(self):
        """The set of category ids that have annotations with an area."""
        return self.columns.used_ids(self.has_area)


def class_labels(names, ids):
    """The names of classes, each with its id where several classes have it: a list of different texts."""
    shared = {name for name, count in collections.Counter(names).items() if count > 1}
    return [f"{name} (id {i})" if name in shared else name for name, i in zip(names, ids)]


def clipped_corners(coco):
    """The boxes of all annotations within their photos, as float32 [N, 4] (x1, y1, x2, y2).

    Args:
        coco: a COCO dict. An image of unknown size (no `width`, `height`) ends nowhere.
    """
    sizes = {i["id"]: (i.get("height") or np.inf, i.get("width") or np.inf) for i in coco["images"]}
    of_boxes = np.asarray([sizes[a["image_id"]] for a in coco["annotations"]]).reshape(-1, 2)
    return within(np.asarray([a["bbox"] for a in coco["annotations"]], np.float32).reshape(-1, 4), of_boxes)


def within(boxes, sizes):
    """Boxes as corners inside their photos.

    Args:
        boxes: [N, 4] (x, y, width, height).
        sizes: [N, 2] (height, width).

    Returns:
        [N, 4] float32, (x1, y1, x2, y2).
    """
    corners = boxes.astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    np.maximum(corners, 0, out=corners)
    for side in (0, 1):
        limits = sizes[:, 1 - side, None].astype(np.float32)
        np.minimum(corners[:, side::2], limits, out=corners[:, side::2])
    return corners


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
    """A Dataset from ground truth in COCO's form; see `from_columns`.

    Args:
        coco: a dict with `images`, `annotations`, `categories`, already known to be well-formed.
        read_bytes_of: image dict -> the encoded photo.
        name: image dict -> its name for messages.
        read_header_of: image dict -> `fpn_tf.photos.Header` of the photo.
        truth_fields, source: see `from_columns`.
    """
    images = coco["images"]
    return from_columns(
        columns_of(coco, (*truth_fields, SEGMENTATION)),
        lambda index: read_bytes_of(images[index]),
        lambda index: name(images[index]),
        lambda index: read_header_of(images[index]),
        truth_fields,
        source,
    )


def from_columns(columns, read_bytes, name_of, read_header, truth_fields=NO_FIELDS, source="annotations"):
    """A Dataset from annotations in columns.

    Category ids (with gaps or not) become classes 1..K in the order of the categories. Boxes are
    clipped to their image; those without area are left out, of training and of evaluation; crowd
    regions are kept for evaluation only.

    Args:
        columns: Columns, whose `further` has `truth_fields`, and segmentations where they are needed.
        read_bytes: index of a photo -> the encoded photo.
        name_of: index of a photo -> its name for messages.
        read_header: index of a photo -> its `fpn_tf.photos.Header`.
        truth_fields: name -> TruthField, to be read from the annotations of the boxes.
        source: name of the file or data set, for messages.

    Raises:
        DataError: a box whose annotation lacks one of `truth_fields`, or has another kind of value.
    """
    check_truth_fields(truth_fields)
    corners = within(columns.boxes, columns.sizes[columns.images])
    has_area = have_area(corners)
    rows = np.flatnonzero(has_area & ~columns.crowds)
    rows = rows[np.argsort(columns.images[rows], kind="stable")]
    counts = np.bincount(columns.images[rows], minlength=len(columns.image_ids))
    segmentations = columns.further.get(SEGMENTATION)
    records = Records(
        image_ids=columns.image_ids,
        name_of=name_of,
        sizes=columns.sizes,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes=corners[rows],
        classes=columns.categories[rows] + np.int32(1),
        segmentations=segmentations,
        rows=None if segmentations is None else rows,
        fields=_fields_of(columns, rows, truth_fields, source),
    )
    return Dataset(
        records=records,
        read_bytes=read_bytes,
        read_header=read_header,
        class_names=tuple(entry["name"] for entry in columns.category_entries),
        category_ids=columns.category_ids,
        columns=columns,
        has_area=has_area,
        truth_fields=dict(truth_fields),
    )


def _fields_of(columns, rows, truth_fields, source):
    """{name: [G, *shape]} of the annotations in some rows [G]. Raises: DataError, as `from_columns`."""
    fields, mistakes = {}, []
    for name, field in truth_fields.items():
        texts, values = columns.further[name], np.zeros((len(rows), *field.shape), field.dtype)
        for i, row in enumerate(rows.tolist()):
            where = f"annotations[{row}] (id {columns.ids[row]})"
            value = field.value(texts[row]) if row in texts else None
            if row not in texts:
                mistakes.append(f"{where}: no '{name}'; expected {field}")
            elif value is None:
                mistakes.append(f"{where}: {name} = {str(texts[row])[:40]}; expected {field}")
            else:
                values[i] = value
        fields[name] = values
    if mistakes:
        more = f" ({len(mistakes)} such)" if len(mistakes) > SHOWN else ""
        raise DataError(f"{source}: {'; '.join(mistakes[:SHOWN])}{more}")
    return fields
