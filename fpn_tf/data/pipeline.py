"""`tf.data` pipelines: a plan's batches, read in parallel and in order."""

import dataclasses
import itertools
import os

import numpy as np
import tensorflow as tf

from fpn_tf.data import plan as plans
from fpn_tf.data import proposals_file, segments
from fpn_tf.data.records import NO_FIELDS
from fpn_tf.errors import DataError

X_KEYS = ("images", "image_sizes", "proposal_boxes", "proposal_valid")
Y_KEYS = ("boxes", "classes", "valid", "sample_seeds")
SEGMENT_KEYS = ("segments", "image_sizes")  # of y, for segment proposals
SPECS = {  # without the batch axis; images and truth fields depend on the data set
    "image_sizes": ([2], tf.int32),
    "boxes": ([None, 4], tf.float32),
    "classes": ([None], tf.int32),
    "valid": ([None], tf.bool),
    "sample_seeds": ([], tf.int32),
    "indices": ([], tf.int32),
    "segments": ([None, segments.GRID, segments.GRID], tf.uint8),
    "proposal_boxes": ([None, 4], tf.float32),
    "proposal_valid": ([None], tf.bool),
}


def open_dataset(data, split, truth_fields=NO_FIELDS):
    """The Dataset that the config names for a split.

    Args:
        data: DataConfig.
        split: "train" or "eval".
        truth_fields: name -> TruthField, read from the annotations besides boxes and classes.

    Raises:
        DataError: the config names no data, or data that is absent or of another form.
    """
    if data.folder:
        from fpn_tf.data import coco_folder
        from fpn_tf.data.formats.folder import open_folder

        further = coco_folder.further_of(truth_fields, data.segments)
        contents = open_folder(data.folder, split, data.format, data.holdout, data.class_names, further)
        dataset = coco_folder.dataset_of(contents.columns, contents.images, contents.source, truth_fields)
        dataset = dataclasses.replace(dataset, notes=(contents.remark,))
    elif getattr(data, f"{split}_annotations"):
        from fpn_tf.data import coco_folder

        dataset = coco_folder.load(
            data.path(f"{split}_annotations"), data.path(f"{split}_images"), truth_fields, data.segments
        )
    elif data.tfds_name:
        from fpn_tf.data import tfds_source

        part = getattr(data, f"tfds_{split}_split")
        dataset = tfds_source.load(data.tfds_name, part, data.tfds_dir, truth_fields)
    else:
        raise DataError(
            f"no {split} data: set data.{split}_annotations and data.{split}_images, data.folder, "
            "or data.tfds_name"
        )
    if data.segments:
        segments.check_segmentations(dataset.coco, data.path(f"{split}_annotations"))
    file = getattr(data, f"{split}_proposals")
    return proposals_file.attach(dataset, file, getattr(data, f"max_{split}_proposals")) if file else dataset


def training_batches(loader, data, batch_size, seed, first_step=0, replicas=1, local_replicas=slice(None)):
    """Training batches (x, y), without end, from `first_step` on.

    Args:
        loader: Loader.
        data: DataConfig.
        batch_size: global; each element holds batch_size / replicas images, and the elements of
            a step follow each other.
        seed: decides order, scales, flips and sampling.
        first_step: the step to begin with.
        replicas: parts of a step's batch.
        local_replicas: slice, the parts that this process reads; other processes read the rest.

    Returns:
        tf.data.Dataset of x {"images", "image_sizes"}, y {"boxes", "classes", "valid",
        "sample_seeds"}; see `fpn_tf.FasterRCNN`. x holds the data set's proposals, too, y
        its truth fields [B, G, *shape], 0 where not valid.
    """
    steps = plans.training_plan(loader.dataset.records, data, batch_size, seed, first_step)
    parts = itertools.chain.from_iterable(plans.split(plan, replicas)[local_replicas] for plan in steps)
    x_keys, y_keys = _x_keys(loader.dataset), _y_keys(loader.dataset, data)
    keys = tuple(dict.fromkeys(x_keys + y_keys))
    batches = _read(parts, loader.training_batch, _specs(keys, loader), batch_size // replicas, data)
    return batches.map(lambda b: ({k: b[k] for k in x_keys}, {k: b[k] for k in y_keys}))


def evaluation_batches(loader, data, batch_size, replicas=1, local_replicas=slice(None)):
    """Every image of the data set once: dicts of x's and y's keys and `indices` into the records.

    x and y are those of `training_batches`; an image's `sample_seeds` are its index. An element may hold
    fewer images than `batch_size`, never none: a replica that is left without a readable image gets a
    blank one of index -1.

    Args:
        loader: Loader.
        data: DataConfig.
        batch_size: of an element.
        replicas: elements are dealt to so many in turn; all get the same number.
        local_replicas: slice, the replicas whose elements this process reads.
    """
    parts = plans.evaluation_plan(loader.dataset.records, data, batch_size)
    blank = parts[-1]._replace(indices=np.asarray([-1]))
    parts += [blank] * (-len(parts) % replicas)
    rounds = (parts[i : i + replicas][local_replicas] for i in range(0, len(parts), replicas))
    chosen = list(itertools.chain.from_iterable(rounds))
    keys = (*_x_keys(loader.dataset), *_y_keys(loader.dataset, data), "indices")
    specs = _specs(tuple(dict.fromkeys(keys)), loader)
    return _read(chosen, loader.evaluation_batch, specs, None, data)


def _x_keys(dataset):
    return X_KEYS if dataset.has_proposals else X_KEYS[:2]


def _y_keys(dataset, data):
    return Y_KEYS + (SEGMENT_KEYS if data.segments else ()) + tuple(dataset.truth_fields)


def truth_keys(truth_fields, batch):
    """The keys of y that a batch of `evaluation_batches` has, for a model with some `truth_fields`."""
    return [key for key in (*Y_KEYS, *SEGMENT_KEYS, *truth_fields) if key in batch]


def _specs(keys, loader):
    """{key: (shape without the batch axis, dtype)} of what a Loader gives."""
    fields = loader.dataset.truth_fields.items()
    specs = SPECS | {name: ([None, *field.shape], tf.as_dtype(field.dtype)) for name, field in fields}
    specs["images"] = ([None, None, 3], tf.as_dtype(loader.pixel_dtype))
    return {key: specs[key] for key in keys}


def _read(parts, read, specs, batch_size, data):
    """A tf.data.Dataset of `read(plan)` dicts for an iterable of BatchPlans."""
    fields = plans.BatchPlan._fields
    types = [tf.int64, tf.int64, tf.int64, tf.int64, tf.bool, tf.int32]
    shapes = [[], [2], [None], [None], [None], [None]]

    def numbers():
        for part in parts:
            yield tuple(np.asarray(value) for value in part)

    def load(*values):
        values = dict(zip(fields, values))
        values |= {"step": int(values["step"]), "canvas": tuple(int(v) for v in values["canvas"])}
        batch = read(plans.BatchPlan(**values))
        return [batch[key] for key in specs]

    def element(*values):
        # Stateless in what it gives; said to be so, or op determinism would read in one thread.
        arrays = tf.numpy_function(load, values, [dtype for _, dtype in specs.values()], stateful=False)
        for array, (shape, _) in zip(arrays, specs.values()):
            array.set_shape([batch_size, *shape])
        return dict(zip(specs, arrays))

    signature = tuple(tf.TensorSpec(s, t) for s, t in zip(shapes, types))
    dataset = tf.data.Dataset.from_generator(numbers, output_signature=signature)
    threads = data.workers or os.cpu_count()
    dataset = dataset.map(element, num_parallel_calls=threads, deterministic=True).prefetch(2)
    # Nothing is left to tune, and the thread that would do it can miss that its iterator ends: a
    # run that has to stop then waits for it, a minute or more.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
