"""A folder of photos and annotations: which format it has, and the sets for training and for evaluation."""

import hashlib
import pathlib
from typing import NamedTuple

import numpy as np

from fpn_tf.data.coco_folder import check, read_columns
from fpn_tf.data.columns import Columns, columns_of
from fpn_tf.data.formats import coco_json, csv_boxes, voc, yolo
from fpn_tf.errors import DataError

READERS = {"coco": coco_json, "yolo": yolo, "voc": voc, "csv": csv_boxes}  # in the order of `auto`
PARTS = {"train": ("train", "all"), "eval": ("val", "test")}  # split -> parts that serve, the best first


class Contents(NamedTuple):
    """One split of a folder.

    Attributes:
        columns: the annotations, checked whole, whose file names are relative to `images`.
        images: the folder of the photos.
        source: the file or folder of the annotations, for messages.
        remark: what the folder was taken for, a sentence.
    """

    columns: Columns
    images: pathlib.Path
    source: pathlib.Path
    remark: str


def open_folder(folder, split, data_format="auto", holdout=0.2, class_names=(), further=()):
    """Reads one split of a folder.

    Args:
        folder: its path.
        split: "train" or "eval".
        data_format: a key of READERS, or "auto".
        holdout: the share of the photos that is held out where the folder has no part to evaluate on.
        class_names: the order of the classes, for formats that have none (Pascal VOC, CSV).
        further: names of what else of the annotations to keep.

    Returns:
        Contents.

    Raises:
        DataError: no such folder, nothing in it that is known, or a mistake in one of its files.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected photos with their annotations")
    name, sets = sets_of(folder, data_format)
    training, held_out = (next((part for part in PARTS[s] if part in sets), None) for s in ("train", "eval"))
    if split == "train" and training is None:
        raise DataError(f"{folder}: {name} data of {', '.join(sets)} alone; expected some to train on")
    is_divided = held_out is None
    part = training if split == "train" or is_divided else held_out
    columns = _columns_of(name, sets[part], class_names, further)
    remark = f"{folder}: taken for {name} ({sets[part].annotations.name}, {part})"
    if is_divided:
        columns = divided(columns, split, holdout)
        remark += f"; {holdout:.0%} of its photos are held out, chosen by their names"
    return Contents(columns, sets[part].images, sets[part].annotations, remark)


def sets_of(folder, data_format="auto"):
    """(format, {part: PhotoSet}) of a folder. Raises: DataError where it is none, or not of that format."""
    names = READERS if data_format == "auto" else (data_format,)
    for name in names:
        sets = READERS[name].find(pathlib.Path(folder))
        if sets:
            return name, sets
    expected = "COCO's JSON, YOLO's data.yaml, Pascal VOC's XML or a CSV of boxes"
    raise DataError(
        f"{folder}: no annotations; expected {expected if data_format == 'auto' else data_format}"
    )


def _columns_of(name, photo_set, class_names, further):
    """The Columns of a PhotoSet in a format of READERS. Raises: DataError."""
    if name == "coco":
        return read_columns(photo_set.annotations, further)
    coco = READERS[name].read(photo_set, class_names)
    check(coco, photo_set.annotations)
    return columns_of(coco, further)


def divided(columns, split, holdout):
    """The part of the photos that is trained on, or the one that is held out, as Columns.

    A photo's place follows from its name alone: more photos move none of the others. At least one is in
    either part, where there are two.

    Args:
        columns: Columns.
        split: "train" or "eval".
        holdout: share of the photos, between 0 and 1.
    """
    places = [hashlib.sha256(name.encode()).digest() for name in columns.file_names]
    limit = int(holdout * 2**32)
    held_out = np.asarray([int.from_bytes(place[:4], "big") < limit for place in places])
    if len(places) > 1:
        rows = range(len(places))
        held_out[min(rows, key=places.__getitem__)] = True
        held_out[max(reversed(rows), key=places.__getitem__)] = False
    return columns.of_images(held_out == (split == "eval"))
