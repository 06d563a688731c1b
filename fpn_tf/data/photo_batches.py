"""Batches of a folder's photos for `keras.Model.fit` and `evaluate`, on every backend of Keras."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from absl import logging

from fpn_tf import files
from fpn_tf.config import DataConfig
from fpn_tf.data import coco_folder
from fpn_tf.data.categories import categories_of, in_classes_of, known_by, matched
from fpn_tf.data.dataset import Dataset
from fpn_tf.data.findings import warn_of
from fpn_tf.data.loader import Loader
from fpn_tf.data.plan import LOOK_STREAM, ORDER_STREAM, BatchPlan, shown_by
from fpn_tf.data.records import distinct_sizes
from fpn_tf.data.survey import check_files
from fpn_tf.errors import DataError
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import FilePath, TruthField


def batches(
    annotations: FilePath,
    photos: FilePath,
    batch_size: int = 2,
    preprocessor: Preprocessor | None = None,
    flip: bool = False,
    shuffle: bool = True,
    seed: int = 0,
    truth_fields: Mapping[str, TruthField] | None = None,
) -> "Batches":
    """Batches of photos with annotations in COCO's format; what is doubtful in these is logged.

    Args:
        annotations: path of the JSON file.
        photos: folder that holds each image's `file_name`.
        batch_size: photos per batch.
        preprocessor: that of the model, `model.preprocessor`. Its `category_ids`, if it has some,
            number the classes, whatever ids the file has for classes of the same names; otherwise
            the order of the file's `categories` does. None: `Preprocessor()`.
        flip: whether every second photo, drawn at random, is mirrored.
        shuffle: whether every epoch has an order of its own. Then all batches are full: what the
            last one lacks it takes from the epoch's beginning. Otherwise the last may be smaller.
        seed: whole number, decides orders, flips and sampling.
        truth_fields: name -> TruthField, fields of the annotations that y holds besides.

    Returns:
        Batches, a `keras.utils.PyDataset` for `model.fit` and `model.evaluate`.

    Raises:
        DataError: what is not right in the annotations, or too many photos that cannot be read.
        ValueError: a bad `batch_size` or `seed`.

    Example:

    >>> small = fpn_tf.Preprocessor(short_side=64, max_side=96)  # or model.preprocessor
    >>> batches = fpn_tf.batches("train.json", "photos", batch_size=2, preprocessor=small)
    >>> len(batches)
    3
    >>> x, y = batches[0]
    >>> x["images"].shape, y["boxes"].shape, sorted(y)
    ((2, 96, 96, 3), (2, 2, 4), ['boxes', 'classes', 'sample_seeds', 'valid'])
    """
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}")
    preprocessor = Preprocessor() if preprocessor is None else preprocessor
    paths = files.expanded(annotations), files.expanded(photos)
    dataset = coco_folder.load(*paths, truth_fields or {})
    warn_of(dataset, annotations)
    if preprocessor.category_ids:
        dataset = numbered_by(dataset, preprocessor, annotations)
    return Batches(dataset, preprocessor, batch_size, flip, shuffle, seed)


class Batches(keras.utils.PyDataset):
    """(x, y) batches of a Dataset; `fpn_tf.batches` makes them of files.

    x: "images" [B, H, W, 3] of `preprocessor.pixel_dtype`; "image_sizes" int32 [B, 2].
    y: "boxes" float32 [B, G, 4], pixels of the resized photos; "classes" int32 [B, G], 1..K; "valid"
    bool [B, G]; "sample_seeds" int32 [B]; and the data set's truth fields [B, G, *shape].

    H and W hold every photo of the data set and G counts the boxes of the fullest, so that a model is
    compiled once. Photos without boxes are background, kept in both training and evaluation. A batch
    is a function of (seed, epoch, index); with neither `shuffle` nor `flip` all epochs are equal, so
    that losses of validation can be compared. More threads read where `workers` is set.

    Args:
        dataset: Dataset.
        preprocessor: Preprocessor.
        batch_size, flip, shuffle, seed: see `batches`.

    Attributes:
        dataset: likewise.
        epoch: int, how many epochs have ended; to be set where training goes on from another.

    Raises:
        DataError: too many photos cannot be read; also while iterating.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocessor: Preprocessor,
        batch_size: int,
        flip: bool,
        shuffle: bool,
        seed: int,
    ):
        super().__init__()
        self.dataset, self.epoch = dataset, 0
        self._preprocessor, self._batch_size = preprocessor, batch_size
        self._flip, self._shuffle, self._seed = flip, shuffle, seed
        data = shown_by(preprocessor, DataConfig(keep_empty=True))
        check_files(dataset, data)
        sizes = [preprocessor.shown_size(size) for size in distinct_sizes(dataset.records.sizes)[0]]
        self._canvas = preprocessor.canvas_size(np.max(sizes, axis=0).tolist())
        self._box_rows = max(1, int(dataset.records.counts.max()))
        self._loader = Loader(dataset, data, self._canvas)

    def __len__(self) -> int:
        return -(-len(self.dataset.records) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        batch = self._loader.training_batch(self.plan(self.epoch, index))
        x = {key: batch[key] for key in ("images", "image_sizes")}
        keys = ("boxes", "classes", "valid", *self.dataset.truth_fields)
        y = {key: _with_rows(batch[key], self._box_rows) for key in keys}
        return x, y | {"sample_seeds": batch["sample_seeds"]}

    def on_epoch_end(self) -> None:
        """Goes on to the next epoch; Keras calls it."""
        self.epoch += 1

    def plan(self, epoch: int, index: int) -> BatchPlan:
        """The BatchPlan of batch `index` of an epoch."""
        epoch = epoch if self._shuffle or self._flip else 0
        order = np.arange(len(self.dataset.records))
        if self._shuffle:
            order = np.random.default_rng([self._seed, ORDER_STREAM, epoch]).permutation(order)
            order = np.resize(order, len(self) * self._batch_size)  # goes on with its beginning
        indices = order[index * self._batch_size :][: self._batch_size]
        draw, count = np.random.default_rng([self._seed, LOOK_STREAM, epoch, index]), len(indices)
        return BatchPlan(
            step=epoch * len(self) + index,
            canvas=self._canvas,
            indices=indices,
            short_sides=np.full(count, self._preprocessor.short_side),
            flips=draw.random(count) < (0.5 if self._flip else 0.0),
            sample_seeds=draw.integers(2**31, size=count, dtype=np.int32),
        )


def numbered_by(dataset: Dataset, preprocessor: Preprocessor, source: FilePath) -> Dataset:
    """A Dataset whose classes 1..K are those of a preprocessor that has category ids.

    Args:
        dataset: Dataset. Categories without a box need not be among the preprocessor's.
        preprocessor: Preprocessor.
        source: name of the annotations, for messages.

    Raises:
        DataError: a box of another category, or classes that cannot be matched.
    """
    ids = preprocessor.category_ids
    known = known_by(ids, preprocessor.class_names, len(ids))
    matching = matched(known, categories_of(dataset), dataset.used_ids, str(source))
    for note in matching.notes:
        logging.warning("%s", note)
    numbered = in_classes_of(dataset, known, matching.ids)
    for box in np.flatnonzero(numbered.records.classes > len(ids))[:1]:
        number = dataset.records.classes[box]
        image = dataset.records.image_ids[np.searchsorted(dataset.records.starts, box, side="right") - 1]
        raise DataError(
            f"{source}: category_id {dataset.category_ids[number - 1]} "
            f"({dataset.class_names[number - 1]}), in image {image}: expected one of the "
            f"preprocessor's category_ids, {', '.join(map(str, ids))}"
        )
    return dataclasses.replace(numbered, category_ids=ids, class_names=numbered.class_names[: len(ids)])


def _with_rows(values, count):
    """[B, n, ...] -> [B, count, ...], zeros (False) added."""
    padding = [(0, 0)] * values.ndim
    padding[1] = (0, count - values.shape[1])
    return np.pad(values, padding)
