"""Reads what a BatchPlan asks for: photos and boxes as NumPy arrays, padded to a batch."""

import threading

import numpy as np
from absl import logging

from fpn_tf import photos
from fpn_tf.data.dataset import boxes_at
from fpn_tf.data.plan import canvas_for, training_canvases
from fpn_tf.errors import ConfigError, DataError, PhotoError


class Loader:
    """Loads batches of a data set and keeps count of the files that it cannot read.

    Args:
        dataset: Dataset.
        data: DataConfig.

    Raises:
        ConfigError: `data.fast_resize` without OpenCV.
    """

    def __init__(self, dataset, data):
        self.dataset, self.data = dataset, data
        if data.fast_resize:
            _prepare_opencv()
        self.bad = {}  # index -> message
        self.failure = None  # the message of the DataError that ended the reading, if any
        self._lock = threading.Lock()

    def training_batch(self, plan):
        """The (x, y) of a training step, see `fpn_tf.FasterRCNN`.

        An unreadable photo is replaced by the next readable one of the same canvas.

        Raises:
            DataError: too many unreadable files.
        """
        examples = []
        for slot, index in enumerate(plan.indices):
            example = self._load(index, plan, slot)
            while example is None:
                index = self._successor(index, plan.canvas)
                example = self._load(index, plan, slot)
            examples.append(example)
        return self._batch(examples, plan.canvas, self.data.fast_resize) | {"sample_seeds": plan.sample_seeds}

    def evaluation_batch(self, plan):
        """The readable images of a batch and their `indices` into the records.

        Where there are none, a blank image of index -1.
        """
        wanted = [(i, slot) for slot, i in enumerate(plan.indices) if i >= 0]
        loaded = [(i, self._load(i, plan, slot)) for i, slot in wanted]
        loaded = [(i, example) for i, example in loaded if example is not None] or [(-1, self._blank())]
        indices = np.asarray([i for i, _ in loaded], np.int32)
        return self._batch([example for _, example in loaded], plan.canvas) | {"indices": indices}

    def _blank(self):
        photo = np.zeros((1, 1, 3), np.uint8)
        return photo, (1, 1), np.zeros((0, 4), np.float32), np.zeros(0, np.int32)

    def _load(self, index, plan, slot):
        """(photo, size to show it at, boxes, classes); None for an unreadable photo."""
        record = self.dataset.records[index]
        if index in self.bad:
            return None
        try:
            photo = photos.decode_rgb(self.dataset.read_bytes(int(index)), record.name)
            if photo.shape[:2] != tuple(record.size):
                found, told = (f"{w}x{h}" for h, w in (photo.shape[:2], record.size))
                raise PhotoError(f"{record.name}: is {found} pixels; the annotations say {told}")
        except (PhotoError, OSError) as error:
            self._report(index, str(error))
            return None
        size = photos.resized_size(record.size, plan.short_sides[slot], self.data.max_side, self.data.resize)
        boxes = boxes_at(record, size)
        if plan.flips[slot]:  # before it is enlarged: fewer pixels to move
            photo = photos.mirrored(photo)
            boxes = np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], axis=1)
        return photo, size, boxes, record.classes

    def _batch(self, examples, canvas, quickly=False):
        """Resizes and stacks what `_load` gives; boxes are padded to the most of any image."""
        count = len(examples)
        most = max([len(boxes) for _, _, boxes, _ in examples], default=0)
        batch = {
            "images": np.zeros((count, *canvas, 3), photos.pixel_dtype(self.data.resize)),
            "image_sizes": np.zeros((count, 2), np.int32),
            "boxes": np.zeros((count, max(most, 1), 4), np.float32),
            "classes": np.zeros((count, max(most, 1)), np.int32),
            "valid": np.zeros((count, max(most, 1)), bool),
        }
        for i, (photo, (height, width), boxes, classes) in enumerate(examples):
            target = batch["images"][i, :height, :width]
            if quickly and height >= photo.shape[0] and width >= photo.shape[1]:
                photos.enlarge(photo, target)
            else:
                target[:] = photos.resize(photo, (height, width), self.data.resize)
            batch["image_sizes"][i] = height, width
            batch["boxes"][i, : len(boxes)] = boxes
            batch["classes"][i, : len(boxes)] = classes
            batch["valid"][i, : len(boxes)] = True
        return batch

    def _successor(self, index, canvas):
        """The next record after `index` that fits the same canvas and is not known to be bad."""
        records, canvases = self.dataset.records, training_canvases(self.data)
        for step in range(1, len(records)):
            other = (index + step) % len(records)
            fits = canvas_for(records[other].size, self.data, canvases) == canvas
            if fits and other not in self.bad and (self.data.keep_empty or len(records[other].boxes)):
                return other
        raise self._failed(f"{records[index].name}: no readable photo of this shape is left")

    def _failed(self, message):
        # tf.data reports a Python error as text with a traceback; who iterates reads it here.
        self.failure = message
        return DataError(message)

    def _report(self, index, message):
        with self._lock:
            if index in self.bad:
                return
            self.bad[index] = message
            logging.warning("skipped: %s", message)
            count = len(self.dataset.records)
            if len(self.bad) > allowed_bad_files(count, self.data):
                raise self._failed(
                    f"{len(self.bad)} of {count} photos cannot be read, more than "
                    f"data.max_bad_fraction={self.data.max_bad_fraction}; the last: {message}"
                )


def _prepare_opencv():
    try:
        import cv2
    except ImportError:
        raise ConfigError(
            "data.fast_resize=true: needs OpenCV; expected pip install opencv-python-headless"
        ) from None
    cv2.setNumThreads(1)  # photos are read in parallel already


def allowed_bad_files(count, data):
    """How many of `count` photos may be unusable before a run gives up; one is always forgiven."""
    return max(1, data.max_bad_fraction * count) if data.max_bad_fraction > 0 else 0
