"""A detection data set as the rest of the program sees it, wherever it came from."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Record(NamedTuple):
    """A photo and the boxes to learn from it (no crowd regions, nothing without area)."""

    image_id: int
    name: str  # for messages
    size: tuple[int, int]  # (height, width) in pixels, upright
    boxes: Any  # [G, 4] float32, pixels of the photo
    classes: Any  # [G] int32, 1..K
    segmentations: tuple = ()  # of the boxes, as in COCO's annotations; None where there is none
    proposals: Any = None  # [P, 4] float32, pixels of the photo, best first; None: there are none


def scale_to(record, size):
    """What turns boxes of a Record's photo into those of the photo resized to (height, width): [4]."""
    return np.asarray([size[1] / record.size[1], size[0] / record.size[0]] * 2, np.float32)


def boxes_at(record, size):
    """The boxes of a Record [G, 4] float32, in pixels of the photo resized to (height, width)."""
    return record.boxes * scale_to(record, size)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Records, how to read their photos, and the ground truth that evaluation needs.

    Attributes:
        records: one Record per photo.
        read_bytes: index into `records` -> the encoded photo.
        read_size: index into `records` -> (height, width) that the photo itself tells, upright.
        class_names: of classes 1..K.
        category_ids: the data set's own ids of classes 1..K.
        coco: the ground truth as a COCO dict (`images`, `annotations`, `categories`), crowd
            regions included.
    """

    records: list[Record]
    read_bytes: Callable[[int], bytes]
    read_size: Callable[[int], tuple[int, int]]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    coco: dict

    @property
    def has_proposals(self):
        """Whether the records have proposals."""
        return bool(self.records) and self.records[0].proposals is not None


def from_coco_dict(coco, read_bytes_of, name, read_size_of):
    """A Dataset from ground truth in COCO's form.

    Category ids (with gaps or not) become classes 1..K in the order of `categories`. Boxes are
    clipped to their image; those without area are dropped, crowd regions are kept for
    evaluation only.

    Args:
        coco: a dict with `images`, `annotations`, `categories`, already known to be well-formed.
        read_bytes_of: image dict -> the encoded photo.
        name: image dict -> its name for messages.
        read_size_of: image dict -> (height, width) of the photo, from its header.
    """
    category_ids = tuple(c["id"] for c in coco["categories"])
    class_of = {category: i for i, category in enumerate(category_ids, start=1)}
    by_image = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        if not annotation.get("iscrowd", 0):
            by_image[annotation["image_id"]].append(annotation)
    records = []
    for image in coco["images"]:
        annotations = by_image[image["id"]]
        corners = np.asarray([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        corners = np.clip(corners, 0, [image["width"], image["height"]] * 2).astype(np.float32)
        good = np.all(corners[:, 2:] > corners[:, :2], axis=1)
        classes = np.asarray([class_of[a["category_id"]] for a in annotations], np.int32)
        size = (image["height"], image["width"])
        shapes = tuple(a.get("segmentation") for a, kept in zip(annotations, good) if kept)
        records.append(Record(image["id"], name(image), size, corners[good], classes[good], shapes))
    images = coco["images"]
    return Dataset(
        records=records,
        read_bytes=lambda index: read_bytes_of(images[index]),
        read_size=lambda index: read_size_of(images[index]),
        class_names=tuple(c["name"] for c in coco["categories"]),
        category_ids=category_ids,
        coco=coco,
    )
