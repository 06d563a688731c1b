"""Detections on a user's photos: pictures and a COCO-format JSON."""

import glob
import pathlib

from absl import logging

from fpn_tf import files, photos, visualize
from fpn_tf.config import CLASSLESS
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.evaluation.coco import as_results

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


def find_photos(pattern):
    """The photos of a folder, a glob pattern or a single file, sorted.

    Raises:
        DataError: there are none.
    """
    path = pathlib.Path(pattern)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    else:
        found = sorted(
            pathlib.Path(p) for p in glob.glob(pattern, recursive=True) if pathlib.Path(p).is_file()
        )
    if not found:
        raise DataError(f"--images={pattern}: no photos there; expected a folder, a file or a glob pattern")
    return found


def predict(model, paths, output, min_score=0.5, on_photo=lambda count: None):
    """Detects objects in files and writes what was found.

    Args:
        model: FasterRCNN.
        paths: files.
        output: folder; receives `<name>.png` for each photo and `detections.json` (COCO format:
            images, annotations with scores, categories; image ids are positions in `paths`, from 1).
        min_score: detections below it are not drawn; the JSON holds all.
        on_photo: called with the number of photos done so far.

    Returns:
        (number of photos read, number of detections written).

    Raises:
        DataError: not one of the photos can be read.
    """
    output = pathlib.Path(output)
    names = class_names(model.config)
    images, annotations = [], []
    pictures = _distinct_names(paths)
    for number, path in enumerate(paths, start=1):
        try:
            photo = photos.read_rgb(path)
        except PhotoError as error:
            logging.warning("skipped: %s", error)
            continue
        [found] = model.detect([photo])
        images.append(
            {"id": number, "file_name": str(path), "height": photo.shape[0], "width": photo.shape[1]}
        )
        for result in as_results(number, found):
            box = result["bbox"]
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, "area": box[2] * box[3]} | result)
        picture = visualize.draw_detections(photo, found, names, min_score)
        visualize.save_picture(picture, output / pictures[number - 1])
        on_photo(number)
    if not images:
        raise DataError(f"{paths[0]}: none of the {len(paths)} file(s) is a readable photo")
    categories = [{"id": i, "name": n} for i, n in names.items()]
    value = {"images": images, "annotations": annotations, "categories": categories}
    files.write_json(output / "detections.json", value, indent=None)
    return len(images), len(annotations)


def class_names(config):
    """{category id: name}, in the order of classes 1..K; numbers where there are no names.

    An RPN and the like know one class, `object`.
    """
    if config.model.kind in CLASSLESS:
        return {1: "object"}
    count = config.model.num_classes
    ids = config.data.category_ids or range(1, count + 1)
    return dict(zip(ids, config.data.class_names or [f"class {i}" for i in ids]))


def _distinct_names(paths):
    """A file name ending in .png for each path: its stem, or its whole name where stems clash."""
    stems = [path.stem for path in paths]
    names = [f"{p.stem}.png" if stems.count(p.stem) == 1 else f"{p.name}.png" for p in paths]
    return [n if names.count(n) == 1 else f"{i}_{n}" for i, n in enumerate(names, start=1)]
