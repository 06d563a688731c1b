"""Detections on a user's photos: pictures and a COCO-format JSON."""

import glob
import pathlib

from absl import logging

from fpn_tf import files, photos, visualize
from fpn_tf.errors import DataError, PhotoError
from fpn_tf.evaluation.coco import as_results

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}


def find_photos(pattern):
    """The paths of the photos of a folder, a glob pattern or a single file, sorted.

    Raises:
        DataError: nothing matches the pattern.
    """
    path = pathlib.Path(pattern)
    if path.is_dir():
        paths = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES]
    else:
        paths = [p for p in map(pathlib.Path, glob.glob(pattern, recursive=True)) if p.is_file()]
    if not paths:
        raise DataError(f"--images={pattern}: no photos there; expected a folder, a file or a glob pattern")
    return sorted(paths)


def predict_files(model, paths, output, min_score=0.5, on_photo=lambda count: None):
    """Detects objects in photo files; writes pictures and one JSON file of all detections.

    Args:
        model: FasterRCNN, or another model whose `detect` needs the photo alone.
        paths: paths of the photos.
        output: the folder that receives `<name>.png` for each photo and `detections.json` (COCO format:
            images, annotations with scores, categories; image ids are positions in `paths`, from 1).
        min_score: the lowest score that is drawn; the JSON holds all detections.
        on_photo: a function, called with the number of photos done so far.

    Returns:
        (number of photos read, number of detections written).

    Raises:
        DataError: not one of the photos can be read.
    """
    output = pathlib.Path(output)
    images, annotations = [], []
    pictures = _distinct_names(paths)
    for number, path in enumerate(paths, start=1):
        try:
            photo = photos.read_rgb(path)
        except PhotoError as error:
            logging.warning("skipped: %s", error)
            continue
        [detections] = model.detect([photo])
        images.append(
            {"id": number, "file_name": str(path), "height": photo.shape[0], "width": photo.shape[1]}
        )
        for result in as_results(number, detections):
            box = result["bbox"]
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, "area": box[2] * box[3]} | result)
        picture = visualize.draw_detections(photo, detections, min_score)
        visualize.save_picture(picture, output / pictures[number - 1])
        on_photo(number)
    if not images:
        raise DataError(f"{paths[0]}: none of the {len(paths)} file(s) is a readable photo")
    categories = [{"id": i, "name": n} for i, n in model.class_names.items()]
    value = {"images": images, "annotations": annotations, "categories": categories}
    files.write_json(output / "detections.json", value, indent=None)
    return len(images), len(annotations)


def _distinct_names(paths):
    """A file name ending in .png for each path: its stem, or its whole name where stems clash."""
    stems = [path.stem for path in paths]
    names = [f"{p.stem}.png" if stems.count(p.stem) == 1 else f"{p.name}.png" for p in paths]
    return [n if names.count(n) == 1 else f"{i}_{n}" for i, n in enumerate(names, start=1)]
