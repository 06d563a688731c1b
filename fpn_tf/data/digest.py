"""One text that stands for all annotations of a data set: equal where training sees the same ones."""

import hashlib

import numpy as np


def annotations_digest(dataset):
    """The SHA-256, in hexadecimal, of a Dataset's annotations as training and evaluation see them.

    It goes by the ids, sizes and order of the photos; the ids, names and order of the classes; and the
    boxes, classes and crowd regions of every photo in their order. The names of files, the order of
    photos among the annotations, and fields that neither training nor evaluation reads are not part of it.

    Args:
        dataset: Dataset of Records.
    """
    records, columns = dataset.records, dataset.columns
    crowds = np.flatnonzero(columns.crowds & dataset.has_area)
    crowds = crowds[np.argsort(columns.images[crowds], kind="stable")]
    arrays = {
        "image_ids": records.image_ids.astype("<i8"),
        "sizes": records.sizes.astype("<i4"),
        "counts": records.counts.astype("<i8"),
        "boxes": records.boxes.astype("<f4", copy=False),
        "classes": records.classes.astype("<i4", copy=False),
        "crowd_images": columns.images[crowds].astype("<i4"),
        "crowd_categories": columns.categories[crowds].astype("<i4"),
        "crowd_boxes": columns.boxes[crowds].astype("<f8"),
    }
    digest = hashlib.sha256(repr((dataset.category_ids, dataset.class_names)).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
