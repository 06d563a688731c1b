"""A folder of photos and annotations: which format it has, and the sets for training and for evaluation."""

import hashlib
import pathlib
from typing import NamedTuple

from fpn_tf.data.coco_folder import check
from fpn_tf.data.formats import coco_json, csv_boxes, voc, yolo
from fpn_tf.errors import DataError

READERS = {"coco": coco_json, "yolo": yolo, "voc": voc, "csv": csv_boxes}  # in the order of `auto`
PARTS = {"train": ("train", "all"), "eval": ("val", "test")}  # split -> parts that serve, the best first


class Contents(NamedTuple):
    """One split of a folder.

    Attributes:
        coco: ground truth as a COCO dict, to be checked yet, whose `file_name`s are relative to `images`.
        images: the folder of the photos.
        source: the file or folder of the annotations, for messages.
        remark: what the folder was taken for, a sentence.
    """

    coco: dict
    images: pathlib.Path
    source: pathlib.Path
    remark: str


def open_folder(folder, split, data_format="auto", holdout=0.2, class_names=()):
    """Reads one split of a folder.

    Args:
        folder: its path.
        split: "train" or "eval".
        data_format: a key of READERS, or "auto".
        holdout: the share of the photos that is held out where the folder has no part to evaluate on.
        class_names: the order of the classes, for formats that have none (Pascal VOC, CSV).

    Returns:
        Contents.

    Raises:
        DataError: no such folder, nothing in it that is known, or a mistake in one of its files.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected photos with their annotations")
    name, sets = sets_of(folder, data_format)
    reader = READERS[name]
    training, held_out = (next((part for part in PARTS[s] if part in sets), None) for s in ("train", "eval"))
    if split == "train" and training is None:
        raise DataError(f"{folder}: {name} data of {', '.join(sets)} alone; expected some to train on")
    is_divided = held_out is None
    part = training if split == "train" or is_divided else held_out
    coco = reader.read(sets[part], class_names)
    remark = f"{folder}: taken for {name} ({sets[part].annotations.name}, {part})"
    if is_divided:
        check(coco, sets[part].annotations)
        coco = divided(coco, split, holdout)
        remark += f"; {holdout:.0%} of its photos are held out, chosen by their names"
    return Contents(coco, sets[part].images, sets[part].annotations, remark)


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


def divided(coco, split, holdout):
    """The part of a COCO dict's photos that is trained on, or the one that is held out.

    A photo's place follows from its name alone: more photos move none of the others. At least one is in
    either part, where there are two.

    Args:
        coco: a COCO dict.
        split: "train" or "eval".
        holdout: share of the photos, between 0 and 1.
    """

    def place(image):
        return hashlib.sha256(image["file_name"].encode()).digest()

    images = coco["images"]
    first, *_, last = sorted(images, key=place) if len(images) > 1 else images * 2
    limit = int(holdout * 2**32)

    def is_held_out(image):
        if image in (first, last) and len(images) > 1:
            return image is first
        return int.from_bytes(place(image)[:4], "big") < limit

    kept = [image for image in images if is_held_out(image) == (split == "eval")]
    ids = {image["id"] for image in kept}
    annotations = [annotation for annotation in coco["annotations"] if annotation["image_id"] in ids]
    return coco | {"images": kept, "annotations": annotations}
