"""Pictures of held-out photos: detections beside ground truth."""

import os
import pathlib

from absl import logging

from fpn_tf import photos, visualize
from fpn_tf.errors import PhotoError
from fpn_tf.evaluation.kinds import KINDS


def draw_pictures(model, dataset, model_dir, count):
    """Draws held-out photos, evenly chosen, into `pictures/` of a run.

    Args:
        model: the detector.
        dataset: Dataset of the held-out split.
        model_dir: the folder of the run.
        count: how many to draw; all of them, where there are fewer.
    """
    for _, record, photo in _chosen(dataset, count):
        further_inputs = {} if record.proposals is None else {"proposals": [record.proposals]}
        path = pathlib.Path(model_dir) / "pictures" / f"{record.image_id}.png"
        if os.path.lexists(path) and not visualize.is_drawn(path):
            logging.warning("%s: exists and bears no mark of this program; it is kept as it is", path)
            continue
        [detections] = model.detect([photo], **further_inputs)
        visualize.save_picture(KINDS[model.kind].draw(photo, detections, record), path)


def comparisons(kind, dataset, detections, count):
    """Pictures of the photos that `draw_pictures` draws, by detections that were made before.

    Args:
        kind: a key of KINDS.
        dataset: Dataset of the held-out split.
        detections: {index into dataset.records: Detections}.
        count: how many to draw.

    Returns:
        {name: PIL.Image}.
    """
    chosen = _chosen(dataset, count)
    return {
        str(record.image_id): KINDS[kind].draw(photo, detections[index], record)
        for index, record, photo in chosen
        if index in detections
    }


def _chosen(dataset, count):
    """Yields (index, Record, photo) of evenly chosen photos that can be read; the evaluation names others."""
    total = len(dataset.records)
    count = min(count, total)
    for index in (i * total // count for i in range(count)):
        record = dataset.records[index]
        try:
            yield index, record, photos.decode_rgb(dataset.read_bytes(index), record.name)
        except (PhotoError, OSError):
            continue
