"""One text that stands for all annotations of a data set: equal where training sees the same ones."""

import hashlib

import numpy as np


def annotations_digest(dataset):
    """The SHA-256, in hexadecimal, of a Dataset's annotations as training and evaluation see them.

    It goes by the ids, sizes and order of the photos; the ids, names and order of the classes; and the
    boxes, classes and crowd regions of every photo in their order. The names of files, and fields that
    neither training nor evaluation reads, are not part of it.

    Args:
        dataset: Dataset.
    """
    digest = hashlib.sha256()
    for name, values in _columns(dataset).items():
        array = np.ascontiguousarray(values)
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data.cast("B") if array.size else b"")
    digest.update(repr((dataset.category_ids, dataset.class_names)).encode())
    return digest.hexdigest()


def _columns(dataset):
    """name -> array of a number a photo, or a number a box."""
    records = dataset.records
    crowds = [a for a in dataset.coco["annotations"] if a["iscrowd"]]
    nothing = np.zeros((0, 4), np.float32)
    return {
        "image_ids": np.asarray([r.image_id for r in records], "<i8"),
        "sizes": np.asarray([r.size for r in records], "<i4").reshape(-1, 2),
        "counts": np.asarray([len(r.boxes) for r in records], "<i8"),
        "boxes": np.concatenate([nothing, *(r.boxes for r in records)]).astype("<f4"),
        "classes": np.concatenate([np.zeros(0, np.int32), *(r.classes for r in records)]).astype("<i4"),
        "crowd_images": np.asarray([a["image_id"] for a in crowds], "<i8"),
        "crowd_categories": np.asarray([a["category_id"] for a in crowds], "<i8"),
        "crowd_boxes": np.asarray([a["bbox"] for a in crowds], "<f8").reshape(-1, 4),
    }
