"""`tf.data` pipelines: a plan's batches, read in parallel and in order."""

import itertools
import os

import numpy as np
import tensorflow as tf

from fpn_tf import photos
from fpn_tf.data import masks, proposals_file
from fpn_tf.data import plan as plans
from fpn_tf.errors import DataError

X_KEYS = ("images", "image_sizes", "proposal_boxes", "proposal_valid")
Y_KEYS = ("boxes", "classes", "valid", "sample_seeds")
MASK_KEYS = ("masks", "image_sizes")  # besides, for segmentation proposals
SPECS = {  # without the batch axis
    "images": ([None, None, 3], None),  # the dtype is that of the resizing
    "image_sizes": ([2], tf.int32),
    "boxes": ([None, 4], tf.float32),
    "classes": ([None], tf.int32),
    "valid": ([None], tf.bool),
    "sample_seeds": ([], tf.int32),
    "indices": ([], tf.int32),
    "masks": ([None, masks.GRID, masks.GRID], tf.uint8),
    "proposal_boxes": ([None, 4], tf.float32),
    "proposal_valid": ([None], tf.bool),
}


def open_dataset(data, split):
    """The Dataset that the config names for a split.

    Args:
        data: DataConfig.
        split: "train" or "eval".

    Raises:
        DataError: nothing is named, or what is named is not there.
    """
    if getattr(data, f"{split}_annotations"):
        from fpn_tf.data import coco_folder

        dataset = coco_folder.load(data.path(f"{split}_annotations"), data.path(f"{split}_images"))
    elif data.tfds_name:
        from fpn_tf.data import tfds_source

        dataset = tfds_source.load(data.tfds_name, getattr(data, f"tfds_{split}_split"), data.tfds_dir)
    else:
        raise DataError(
            f"no {split} data: set data.{split}_annotations and data.{split}_images, or data.tfds_name"
        )
    if data.masks:
        masks.check_segmentations(dataset.coco, data.path(f"{split}_annotations"))
    file = getattr(data, f"{split}_proposals")
    return proposals_file.attach(dataset, file, getattr(data, f"max_{split}_proposals")) if file else dataset


def training_batches(loader, data, batch_size, seed, first_step=0, replicas=1, own=slice(None)):
    """Training batches (x, y), without end, from `first_step` on.

    Args:
        loader: Loader.
        data: DataConfig.
        batch_size: global; each element holds batch_size / replicas images, and the elements of
            a step follow each other.
        seed: decides order, scales, flips and sampling.
        first_step: the step to begin with.
        replicas: parts of a step's batch.
        own: slice, which of the parts to read here; the others are other processes'.

    Returns:
        tf.data.Dataset of x {"images", "image_sizes"}, y {"boxes", "classes", "valid",
        "sample_seeds"}; see `fpn_tf.FasterRCNN`. x holds the proposals, too, if there are some.
    """
    steps = plans.training_plan(loader.dataset.records, data, batch_size, seed, first_step)
    parts = itertools.chain.from_iterable(plans.split(plan, replicas)[own] for plan in steps)
    x_keys, y_keys = _x_keys(loader.dataset), Y_KEYS + (MASK_KEYS if data.masks else ())
    keys = tuple(dict.fromkeys(x_keys + y_keys))
    batches = _read(parts, loader.training_batch, keys, batch_size // replicas, data)
    return batches.map(lambda b: ({k: b[k] for k in x_keys}, {k: b[k] for k in y_keys}))


def evaluation_batches(loader, data, batch_size, replicas=1, own=slice(None)):
    """Every image of the data set once: dicts of x's keys and `indices` into the records.

    An element may hold fewer images than `batch_size`, never none: where there is nothing to see
    for a replica, or nothing can be read, it holds a blank image of index -1.

    Args:
        loader: Loader.
        data: DataConfig.
        batch_size: of an element.
        replicas: elements are dealt to so many in turn; all get the same number.
        own: slice, which replicas' elements to read here.
    """
    parts = plans.evaluation_plan(loader.dataset.records, data, batch_size)
    blank = parts[-1]._replace(indices=np.asarray([-1]))
    parts += [blank] * (-len(parts) % replicas)
    rounds = (parts[i : i + replicas][own] for i in range(0, len(parts), replicas))
    chosen = list(itertools.chain.from_iterable(rounds))
    return _read(chosen, loader.evaluation_batch, (*_x_keys(loader.dataset), "indices"), None, data)


def _x_keys(dataset):
    return X_KEYS if dataset.has_proposals else X_KEYS[:2]


def _read(parts, read, keys, batch_size, data):
    """A tf.data.Dataset of `read(plan)` dicts for an iterable of BatchPlans."""
    fields = plans.BatchPlan._fields
    dtypes = [SPECS[key][1] or tf.as_dtype(photos.pixel_dtype(data.resize)) for key in keys]
    types = [tf.int64, tf.int64, tf.int64, tf.int64, tf.bool, tf.int32]
    shapes = [[], [2], [None], [None], [None], [None]]

    def numbers():
        for part in parts:
            yield tuple(np.asarray(value) for value in part)

    def load(*values):
        values = dict(zip(fields, values))
        values |= {"step": int(values["step"]), "canvas": tuple(int(v) for v in values["canvas"])}
        batch = read(plans.BatchPlan(**values))
        return [batch[key] for key in keys]

    def element(*values):
        # Stateless in what it gives; said to be so, or op determinism would read in one thread.
        arrays = tf.numpy_function(load, values, dtypes, stateful=False)
        for key, array in zip(keys, arrays):
            array.set_shape([batch_size, *SPECS[key][0]])
        return dict(zip(keys, arrays))

    signature = tuple(tf.TensorSpec(s, t) for s, t in zip(shapes, types))
    dataset = tf.data.Dataset.from_generator(numbers, output_signature=signature)
    threads = data.workers or os.cpu_count()
    dataset = dataset.map(element, num_parallel_calls=threads, deterministic=True).prefetch(2)
    # Nothing is left to tune, and the thread that would do it can miss that its iterator ends: a
    # run that was told to stop then waits for it, a minute or more.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
