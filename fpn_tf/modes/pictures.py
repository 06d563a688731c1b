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
    total = len(dataset.records)
    count = min(count, total)
    for index in (i * total // count for i in range(count)):
        record = dataset.records[index]
        try:
            photo = photos.decode_rgb(dataset.read_bytes(index), record.name)
        except (PhotoError, OSError):
            continue  # the evaluation has named it
        further_inputs = {} if record.proposals is None else {"proposals": [record.proposals]}
        path = pathlib.Path(model_dir) / "pictures" / f"{record.image_id}.png"
        if os.path.lexists(path) and not visualize.is_drawn(path):
            logging.warning("%s: exists and bears no mark of this program; it is kept as it is", path)
            continue
        [detections] = model.detect([photo], **further_inputs)
        visualize.save_picture(KINDS[model.kind].draw(photo, detections, record), path)
