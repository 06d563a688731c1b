"""Reads what a BatchPlan asks for: photos and boxes as NumPy arrays, padded to a batch."""

import threading

import numpy as np
from absl import logging

from fpn_tf import photos
from fpn_tf.data import segments
from fpn_tf.data.plan import canvas_for, preprocessor_of, training_canvases
from fpn_tf.data.transforms import Draw, Example, Tools, paint, transformed
from fpn_tf.errors import DataError, PhotoError


class Loader:
    """Loads batches of a data set and keeps count of the files that it cannot read.

    Args:
        dataset: Dataset.
        data: DataConfig.
        canvas: (height, width) of all training batches. None: each has one of
            `plan.training_canvases`.

    Raises:
        ConfigError: `data.fast_resize` without OpenCV.
    """

    def __init__(self, dataset, data, canvas=None):
        self.dataset, self.data = dataset, data
        self._canvases = [canvas] if canvas else training_canvases(data)
        preprocessor = preprocessor_of(data)
        self._tools = self._training_tools = Tools(preprocessor, photos)
        if data.fast_resize:
            from fpn_tf import fast_photos

            self._training_tools = Tools(preprocessor, fast_photos)
        self.bad = {}  # index -> message
        self.failure = None  # the message of the DataError that ended the reading, if any
        self._lock = threading.Lock()

    @property
    def pixel_dtype(self):
        """The NumPy dtype of the images."""
        return self._tools.preprocessor.pixel_dtype

    def training_batch(self, plan):
        """The (x, y) of a training step, see `fpn_tf.FasterRCNN`.

        An unreadable photo is replaced by the next readable one of the same canvas.

        Raises:
            DataError: too many unreadable files.
        """
        examples, tools = [], self._training_tools
        for slot, index in enumerate(plan.indices):
            example = self._load(index, plan, slot, tools)
            while example is None:
                index = self._successor(index, plan.canvas)
                example = self._load(index, plan, slot, tools)
            examples.append(example)
        return self._batch(examples, plan.canvas, tools) | {"sample_seeds": plan.sample_seeds}

    def evaluation_batch(self, plan):
        """The readable images of a batch as in training, and their `indices` into the records.

        The draws of an image depend on its index alone. A batch without one holds a blank image of index -1.
        """
        wanted = [(i, slot) for slot, i in enumerate(plan.indices) if i >= 0]
        loaded = [(i, self._load(i, plan, slot, self._tools)) for i, slot in wanted]
        loaded = [(i, example) for i, example in loaded if example is not None] or [(-1, self._blank())]
        indices = np.asarray([i for i, _ in loaded], np.int32)
        batch = self._batch([example for _, example in loaded], plan.canvas, self._tools)
        return batch | {"indices": indices, "sample_seeds": indices}

    def _blank(self):
        photo, nothing = np.zeros((1, 1, 3), np.uint8), np.zeros((0, 4), np.float32)
        proposals = nothing if self.dataset.has_proposals else None
        grids = np.zeros((0, segments.GRID, segments.GRID), np.uint8) if self.data.segments else None
        fields = {
            name: np.zeros((0, *field.shape), field.dtype)
            for name, field in self.dataset.truth_fields.items()
        }
        return Example(photo, (1, 1), nothing, np.zeros(0, np.int32), proposals, grids, fields)

    def _load(self, index, plan, slot, tools):
        """An Example as `plan` shows it; None for an unreadable photo."""
        record = self.dataset.records[index]
        if index in self.bad:
            return None
        try:
            photo = self._read(index, tools)
        except (PhotoError, OSError):
            try:  # once more: a disk that is far away may fail to answer for a moment
                photo = self._read(index, tools)
            except (PhotoError, OSError) as error:
                self._report(index, str(error))
                return None
        shapes = self._segments(record) if self.data.segments else None
        whole = Example(
            photo, record.size, record.boxes, record.classes, record.proposals, shapes, record.fields
        )
        draw = Draw(int(plan.short_sides[slot]), bool(plan.flips[slot]))
        return transformed(whole, draw, (), tools)

    def _read(self, index, tools):
        """A record's photo, uint8 [h, w, 3]. Raises: PhotoError, OSError."""
        record = self.dataset.records[index]
        photo = tools.photos.decode_rgb(self.dataset.read_bytes(int(index)), record.name)
        if photo.shape[:2] != tuple(record.size):
            actual, annotated = (f"{w}x{h}" for h, w in (photo.shape[:2], record.size))
            raise PhotoError(f"{record.name}: is {actual} pixels; the annotations say {annotated}")
        return photo

    def _segments(self, record):
        grids = [
            segments.in_box(segments.rasterise(segmentation, record.size), box)
            for segmentation, box in zip(record.segmentations, record.boxes)
        ]
        return np.asarray(grids, np.uint8).reshape(-1, segments.GRID, segments.GRID)

    def _batch(self, examples, canvas, tools):
        """Resizes and stacks what `_load` gives; boxes are padded to the most of any image."""
        batch = {
            "images": np.empty((len(examples), *canvas, 3), self.pixel_dtype),
            "image_sizes": np.asarray([example.size for example in examples], np.int32).reshape(-1, 2),
        }
        batch["boxes"], batch["valid"] = _padded([example.boxes for example in examples])
        batch["classes"] = _padded([example.classes for example in examples])[0]
        for name in self.dataset.truth_fields:
            batch[name] = _padded([example.fields[name] for example in examples])[0]
        if self.data.segments:
            batch["segments"] = _padded([example.segments for example in examples])[0]
        if self.dataset.has_proposals:
            boxes, valid = _padded([example.proposals for example in examples])
            batch |= {"proposal_boxes": boxes, "proposal_valid": valid}
        for image, example in zip(batch["images"], examples):
            paint(image, example, tools)
        return batch

    def _successor(self, index, canvas):
        """The next record after `index` that fits the same canvas and is not known to be bad."""
        records = self.dataset.records
        for step in range(1, len(records)):
            other = (index + step) % len(records)
            fits = canvas_for(records[other].size, self.data, self._canvases) == canvas
            if fits and other not in self.bad and (self.data.keep_empty or len(records[other].boxes)):
                return other
        raise self._failed(f"{records[index].name}: no readable photo of this shape is left")

    def _failed(self, message):
        # tf.data reports a Python error as text with a traceback; `evaluator.reading_errors` takes this one.
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


def _padded(parts):
    """Arrays [n, ...] of each image -> (one [B, most, ...] array, bool [B, most] where it is filled)."""
    most = max([len(part) for part in parts] + [1])
    values = np.zeros((len(parts), most, *parts[0].shape[1:]), parts[0].dtype)
    filled = np.zeros((len(parts), most), bool)
    for i, part in enumerate(parts):
        values[i, : len(part)], filled[i, : len(part)] = part, True
    return values, filled


def allowed_bad_files(count, data):
    """How many of `count` photos may be unusable before a run gives up; one is always forgiven."""
    return max(1, data.max_bad_fraction * count) if data.max_bad_fraction > 0 else 0
