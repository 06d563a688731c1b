"""Detections on a user's photos: pictures and a COCO-format JSON."""

import collections
import os
import pathlib
import signal
import unicodedata
from typing import NamedTuple

from absl import logging

from fpn_tf import files, interrupts, photos, visualize
from fpn_tf.errors import DataError, InterruptedRunError, PhotoError
from fpn_tf.evaluation.coco import as_results

LONGEST_NAME = 255  # bytes, of a file on most disks
INFO = {"description": "detections of fpn_tf"}  # of the JSON
JSON_BEGINNING = b'{"info": {"description": "detections of fpn_tf"}'


class Outputs(NamedTuple):
    """The files that are written for a list of photos."""

    pictures: list[pathlib.Path]  # a PNG for each photo
    detections: pathlib.Path  # a COCO JSON of all of them


class Summary(NamedTuple):
    """What came out for a list of photos."""

    photos_read: int
    detections: int
    drawn: int  # detections
    best_undrawn: dict[str, float | None]  # path of a photo without a drawn box -> its best score, if any


def outputs_for(paths, folder):
    """The Outputs of photos, checked: no file is replaced but those of an earlier prediction.

    Args:
        paths: paths of the photos.
        folder: the folder that receives `<name>.png` for each photo and `detections.json`.

    Raises:
        DataError: `folder` is no folder or that of one of the photos, or has a file of the user's under
            one of the names. Nothing has been written then.
    """
    folder = pathlib.Path(folder)
    outputs = Outputs([folder / name for name in picture_names(paths)], folder / "detections.json")
    inputs, output = {_identity(path) for path in paths}, f"--output={folder}"
    folders = {_identity(place) for path in paths for place in (path.parent, path.resolve().parent)}
    if os.path.isdir(folder) and _identity(folder) in folders:
        raise DataError(f"{output}: is the folder of the photos; expected another one")
    for path in (*outputs.pictures, outputs.detections):
        if os.path.lexists(path) and (_identity(path) in inputs or not _is_replaceable(path)):
            raise DataError(f"{output}: has a {path.name} of another origin; expected another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{output}: cannot be made ({reason}); expected a folder") from None
    try:
        files.check_writable(folder)
    except OSError as error:
        raise DataError(
            f"{output}: cannot be written to ({error.strerror}); expected another folder"
        ) from None
    return outputs


def predict_files(model, paths, outputs, min_score=0.5, on_photo=lambda count: None):
    """Detects objects in photo files; writes pictures and one JSON file of all detections.

    Whatever ends it, the JSON of the photos that were done is written.

    Args:
        model: FasterRCNN, or another model whose `detect` needs the photo alone.
        paths: paths of the photos.
        outputs: `outputs_for` them. The JSON is COCO's: images, annotations with scores, categories; image
            ids are positions in `paths`, from 1.
        min_score: the lowest score that is drawn; the JSON holds all detections.
        on_photo: a function, called with the number of photos done so far.

    Returns:
        Summary.

    Raises:
        DataError: not one of the photos can be read.
        InterruptedRunError: on Ctrl-C, SIGTERM or SIGHUP.
    """
    images, annotations, drawn, best_undrawn = [], [], 0, {}
    try:
        for number, (path, target) in enumerate(zip(paths, outputs.pictures), start=1):
            photo = _read(path)
            if photo is not None:
                [detections] = model.detect([photo])
                visualize.save_picture(visualize.draw_detections(photo, detections, min_score), target)
                height, width = photo.shape[:2]
                images.append({"id": number, "file_name": str(path), "height": height, "width": width})
                annotations += _annotations(number, detections, len(annotations) + 1)
                count = int((detections.scores >= min_score).sum())
                drawn += count
                if not count:
                    best_undrawn[str(path)] = float(detections.scores.max()) if len(detections) else None
            on_photo(number)
    except KeyboardInterrupt as error:
        written = f"; their detections: {outputs.detections}" if images else ""
        message = f"after {len(images)} of {len(paths)} photos{written}"
        raise InterruptedRunError(message, getattr(error, "number", signal.SIGINT)) from None
    finally:
        if images:
            categories = [{"id": i, "name": n} for i, n in model.class_names.items()]
            value = {"info": INFO, "images": images, "annotations": annotations, "categories": categories}
            with interrupts.noted():  # a second signal waits
                files.write_json(outputs.detections, value, indent=None)
    if not images:
        raise DataError(f"{paths[0]}: none of the {len(paths)} file(s) is a readable photo")
    return Summary(len(images), len(annotations), drawn, best_undrawn)


def _read(path):
    """A photo's file as an array, a doubtful one with a note; None, and a line, where it cannot be read."""
    try:
        photo, remark = photos.read_rgb(path), photos.remark_on(path)
    except PhotoError as error:
        logging.warning("skipped: %s", error)
        return None
    if remark:
        logging.warning("note: %s: %s, shown dark", path, remark)
    return photo


def _annotations(image_id, detections, first_id):
    """Detections of a photo as COCO annotations with scores."""
    return [
        {"id": first_id + i, "iscrowd": 0, "area": result["bbox"][2] * result["bbox"][3]} | result
        for i, result in enumerate(as_results(image_id, detections))
    ]


def picture_names(paths):
    """A file name ending in .png for each path, all different on every file system.

    Its stem; its whole name where stems clash; where these do as well, or are too long, its number before
    it or alone.
    """
    numbered = list(enumerate(paths, start=1))
    names = [f"{path.stem}.png" for path in paths]
    for further in (
        [f"{path.name}.png" for path in paths],
        [f"{i}_{path.name}.png" for i, path in numbered],
        [f"{i}.png" for i, _ in numbered],
    ):
        names = [other if is_bad else name for name, other, is_bad in zip(names, further, _unfit(names))]
    return further if any(_unfit(names)) else names


def _unfit(names):
    """Whether each name is too long, or another's where a disk takes no notice of case."""
    keys = [unicodedata.normalize("NFC", name).casefold() for name in names]
    counts = collections.Counter(keys)
    return [counts[key] > 1 or len(os.fsencode(name)) > LONGEST_NAME for key, name in zip(keys, names)]


def _identity(path):
    """What tells a file from all others, however its path is spelt; None: a link to nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_replaceable(path):
    """Whether a file was written by an earlier prediction."""
    if path.suffix == ".png":
        return visualize.is_drawn(path)
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(JSON_BEGINNING)) == JSON_BEGINNING
