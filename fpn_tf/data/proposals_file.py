"""Proposals in a file: what a region proposal network found, for a Fast R-CNN to train on.

An `.npz`, in the order of the images: `image_ids` int64 [N]; `counts` int64 [N], proposals of each
image; `boxes` float32 [sum of counts, 4], (x1, y1, x2, y2) in pixels of the photo, best first in an
image; `scores` float32 [sum of counts], their objectness.
"""

import dataclasses
import zipfile

import numpy as np

from fpn_tf.errors import DataError
from fpn_tf.files import written_whole

KEYS = ("image_ids", "counts", "boxes", "scores")


def write(path, proposals):
    """Writes {image id: Detections or Proposals of a photo, best first}, whole or not at all."""
    parts = list(proposals.values())
    arrays = {
        "image_ids": np.asarray(list(proposals), np.int64),
        "counts": np.asarray([len(part.scores) for part in parts], np.int64),
        "boxes": np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)]).astype(np.float32),
        "scores": np.concatenate([np.zeros(0), *(part.scores for part in parts)]).astype(np.float32),
    }
    with written_whole(path) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays)


def read(path):
    """{image id: (boxes [P, 4], scores [P])} of a file of proposals.

    Raises:
        DataError: it is absent or of another form.
    """
    try:
        # Opened by hand: np.load would leave a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            image_ids, counts, boxes, scores = (arrays[key] for key in KEYS)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected the file of --mode=propose") from None
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: no file of proposals ({error}); expected that of --mode=propose") from None
    fits = (
        image_ids.shape == counts.shape
        and boxes.shape == (counts.sum(), 4)
        and scores.shape == (counts.sum(),)
        and np.all(counts >= 0)
    )
    if not fits:
        raise DataError(
            f"{path}: {image_ids.shape} ids, {boxes.shape} boxes, {scores.shape} scores for "
            f"{counts.sum()} proposals; expected as many of each"
        )
    if not np.all(np.isfinite(boxes)):
        raise DataError(f"{path}: boxes: expected finite numbers")
    ends = np.cumsum(counts)
    slices = [slice(end - count, end) for end, count in zip(ends, counts)]
    return {int(i): (boxes[s], scores[s]) for i, s in zip(image_ids, slices)}


def attach(dataset, path, limit):
    """A Dataset whose records have the best `limit` proposals of a file.

    Raises:
        DataError: the file is no such file, or lacks an image.
    """
    proposals_of = read(path)
    image_ids = dataset.records.image_ids.tolist()
    missing = [image_id for image_id in image_ids if image_id not in proposals_of]
    if missing:
        raise DataError(
            f"{path}: has no proposals for {len(missing)} of {len(image_ids)} images, such as "
            f"{missing[0]}; expected the file made from these annotations"
        )
    proposals = [proposals_of[image_id][0][:limit] for image_id in image_ids]
    return dataclasses.replace(dataset, records=dataclasses.replace(dataset.records, proposals=proposals))
