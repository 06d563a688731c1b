"""Which images a step sees, and how: pure functions of (seed, step).

Nothing is read here. A step's batch holds images of one canvas only (portrait, landscape), so
that little of it is padding; an epoch deals every image once into the batch of its canvas, and
what does not fill a batch waits for the next epoch.
"""

from typing import NamedTuple

import numpy as np

from fpn_tf import photos
from fpn_tf.errors import DataError

ORDER_STREAM, LOOK_STREAM = 1, 2  # separate the uses of the seed
ASPECTS = (4 / 3,)  # besides max_side / short_side: the aspect ratio of most cameras


class BatchPlan(NamedTuple):
    """What goes into a batch; arrays have one entry per image."""

    step: int
    canvas: tuple[int, int]  # (height, width)
    indices: np.ndarray  # into the data set's records
    short_sides: np.ndarray  # pixels
    flips: np.ndarray  # bool
    sample_seeds: np.ndarray  # int32, seeds of anchor and RoI sampling


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
    sizes = [photos.resized_size(size, side, data.max_side, data.resize) for side in data.train_sides]
    height, width = np.max(sizes, axis=0)
    return next(c for c in canvases if c[0] >= height and c[1] >= width)


def usable_indices(records, data):
    """Indices of the records to train on: those with boxes, or all with `data.keep_empty`.

    Raises:
        DataError: there are none.
    """
    usable = [i for i, record in enumerate(records) if data.keep_empty or len(record.boxes)]
    if not usable:
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
    canvas_of = {i: canvas_for(records[i].size, data, canvases) for i in usable}
    waiting = {canvas: [] for canvas in canvases}
    step, epoch = 0, 0
    while True:
        order = np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(usable)
        for index in order:
            pending = waiting[canvas_of[index]]
            pending.append(index)
            if len(pending) == batch_size:
                if step >= first_step:
                    yield _look(step, canvas_of[index], np.asarray(pending), data, seed)
                pending.clear()
                step += 1
        epoch += 1


def _look(step, canvas, indices, data, seed):
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
    """Every record once, unflipped, in batches of equal canvases (the image's own, tight).

    Returns:
        A list of BatchPlan; the last of a canvas may be smaller than `batch_size`.
    """
    by_canvas = {}
    for index, record in enumerate(records):
        size = photos.resized_size(record.size, data.short_side, data.max_side, data.resize)
        by_canvas.setdefault(photos.canvas_size(size), []).append(index)
    plans = []
    for canvas, indices in sorted(by_canvas.items()):
        for start in range(0, len(indices), batch_size):
            chosen = np.asarray(indices[start : start + batch_size])
            zeros = np.zeros(len(chosen), np.int32)
            sides = np.full(len(chosen), data.short_side)
            plans.append(BatchPlan(len(plans), canvas, chosen, sides, zeros.astype(bool), zeros))
    return plans
