"""The images of every step, their sizes and flips: pure functions of (seed, step).

No photo is read for it. A step's batch holds images of one canvas only (portrait, landscape), so
that little of it is padding; an epoch deals every image once into the batch of its canvas, and
what does not fill a batch waits for the next epoch.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from fpn_tf import photos
from fpn_tf.data.records import distinct_sizes, in_columns
from fpn_tf.errors import DataError
from fpn_tf.preprocessing import Preprocessor

ORDER_STREAM, LOOK_STREAM = 1, 2  # separate the uses of the seed
SHARED_FIELDS = ("short_side", "max_side", "resize", "category_ids", "class_names")  # with Preprocessor
ASPECTS = (4 / 3,)  # of training canvases, besides max_side / short_side: that of most cameras


class BatchPlan(NamedTuple):
    """The images of a batch and the draws for each; arrays have one entry per image."""

    step: int
    canvas: tuple[int, int]  # (height, width)
    indices: np.ndarray  # into the data set's records
    short_sides: np.ndarray  # pixels
    flips: np.ndarray  # bool
    sample_seeds: np.ndarray  # int32, seeds of anchor and RoI sampling


def preprocessor_of(data):
    """The Preprocessor that a DataConfig describes; the backbone's pixel format is its default."""
    return Preprocessor(**{name: getattr(data, name) for name in SHARED_FIELDS})


def shown_by(preprocessor, data):
    """A DataConfig with the sizes, resizing and classes of a Preprocessor in place of those it has."""
    return dataclasses.replace(data, **{name: getattr(preprocessor, name) for name in SHARED_FIELDS})


def training_canvases(data):
    """The canvases [(height, width), ...] of training, multiples of 32, smallest first.

    Args:
        data: DataConfig.
    """
    short = max(data.train_sides)
    long_sides = {min(int(np.ceil(short * aspect)), data.max_side) for aspect in ASPECTS} | {data.max_side}
    canvases = {photos.canvas_size((short, long)) for long in long_sides}
    return sorted(canvases | {(w, h) for h, w in canvases}, key=lambda c: (c[0] * c[1], c))


def canvas_for(size, data, canvases):
    """The smallest of `canvases` that holds a photo of `size` at every training scale."""
    preprocessor = preprocessor_of(data)
    sizes = [preprocessor.shown_size(size, side) for side in data.train_sides]
    height, width = np.max(sizes, axis=0)
    return next(c for c in canvases if c[0] >= height and c[1] >= width)


def usable_indices(records, data):
    """Indices [n] of the records to train on: those with boxes, or all with `data.keep_empty`.

    Raises:
        DataError: no record is usable.
    """
    usable = np.flatnonzero(data.keep_empty | (in_columns(records).counts > 0))
    if not len(usable):
        raise DataError(f"none of the {len(records)} training photos has a box; expected at least one")
    return usable


def training_plan(records, data, batch_size, seed, first_step=0):
    """Yields the BatchPlan of step `first_step`, and of every step after it, without end.

    Args:
        records: the data set's records.
        data: DataConfig.
        batch_size: global.
        seed: int.
        first_step: steps are numbered from 0.
    """
    canvases = training_canvases(data)
    usable = usable_indices(records, data)
    sizes, which = distinct_sizes(in_columns(records).sizes[usable])
    canvas_of_size = [canvas_for(size, data, canvases) for size in sizes]
    canvas_of = dict(zip(usable.tolist(), (canvas_of_size[i] for i in which.tolist())))
    waiting = {canvas: [] for canvas in canvases}
    step, epoch = 0, 0
    while True:
        order = np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(usable)
        for index in order.tolist():
            pending = waiting[canvas_of[index]]
            pending.append(index)
            if len(pending) == batch_size:
                if step >= first_step:
                    yield _drawn_plan(step, canvas_of[index], np.asarray(pending), data, seed)
                pending.clear()
                step += 1
        epoch += 1


def _drawn_plan(step, canvas, indices, data, seed):
    """Draws scale, flip and sampling seed of every image of a step."""
    draw = np.random.default_rng([seed, LOOK_STREAM, step])
    count = len(indices)
    return BatchPlan(
        step=step,
        canvas=canvas,
        indices=indices,
        short_sides=draw.choice(np.asarray(data.train_sides), count),
        flips=draw.random(count) < (0.5 if data.flip else 0.0),
        sample_seeds=draw.integers(2**31, size=count, dtype=np.int32),
    )


def split(plan, parts):
    """A BatchPlan cut into a list of `parts` equal ones, in order: what each replica sees of it."""
    count = len(plan.indices) // parts
    slices = [slice(part * count, (part + 1) * count) for part in range(parts)]
    return [plan._replace(**{f: getattr(plan, f)[s] for f in plan._fields[2:]}) for s in slices]


def evaluation_plan(records, data, batch_size):
    """Every record once, unflipped, in batches of equal canvases (tight around the image).

    Returns:
        A list of BatchPlan; the last of a canvas may be smaller than `batch_size`.
    """
    by_canvas, preprocessor = {}, preprocessor_of(data)
    sizes, which = distinct_sizes(in_columns(records).sizes)
    canvases = [preprocessor.canvas_size(preprocessor.shown_size(size)) for size in sizes]
    for index, size in enumerate(which.tolist()):
        by_canvas.setdefault(canvases[size], []).append(index)
    plans = []
    for canvas, indices in sorted(by_canvas.items()):
        for start in range(0, len(indices), batch_size):
            chosen = np.asarray(indices[start : start + batch_size])
            zeros = np.zeros(len(chosen), np.int32)
            sides = np.full(len(chosen), data.short_side)
            plans.append(BatchPlan(len(plans), canvas, chosen, sides, zeros.astype(bool), zeros))
    return plans
