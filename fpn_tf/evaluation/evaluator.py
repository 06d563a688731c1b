"""Runs a model over a data set and scores it."""

import contextlib
import dataclasses
import functools
import pathlib
import signal

import numpy as np
import tensorflow as tf
from keras import ops

from fpn_tf import files, interrupts
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import evaluation_batches
from fpn_tf.errors import DataError
from fpn_tf.evaluation.held_out_losses import losses_of, mean_losses
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.geometry.selection import nms
from fpn_tf.structures import Detections


def make_detector(model, dataset, config, cluster):
    """Compiles what runs a model over a data set, split over the replicas of a cluster.

    Args:
        model: made under the cluster's strategy.
        dataset: Dataset.
        config: Config.
        cluster: Cluster.

    Returns:
        A function `detect(on_batch)`, to be called by every worker: {index into dataset.records:
        Detections} of all readable images, at every scale of `eval.short_sides`, merged.
        `on_batch` is called with the number of images done. It raises DataError where no image is readable.
    """
    run = _on_all_scales(_detection_step, model, dataset, config, cluster)
    return lambda on_batch=_ignored: run(on_batch)[0]


def make_examiner(model, dataset, config, cluster):
    """As `make_detector`, with the losses: for the evaluations of a run.

    Args:
        model, config, cluster: see there.
        dataset: Dataset in the model's classes, with its `truth_fields`.

    Returns:
        A function `examine(on_batch)` that gives ({index: Detections}, {name: loss}): means over all
        readable images and scales, `total_loss` among them; see `fpn_tf.evaluation.held_out_losses`.
    """
    run = _on_all_scales(_examination_step, model, dataset, config, cluster)

    def examine(on_batch=_ignored):
        detections, losses = run(on_batch)
        return detections, mean_losses(losses)

    return examine


def _ignored(count):
    """What is called after a batch where nobody asks."""


def _on_all_scales(step_of, model, dataset, config, cluster):
    """A function of `on_batch` that gives ({index: Detections}, [BatchLosses or () of every batch])."""
    sharing = config.eval.batch_size, cluster.replicas, cluster.local_replicas
    scales = []  # (Loader, its batches), made once: TensorFlow keeps something of every pipeline
    for data in scales_of(config):
        loader = Loader(dataset, data)
        scales.append((loader, cluster.distribute(evaluation_batches(loader, data, *sharing))))
    spec = scales[0][1].element_spec
    results_of = _stopping_together(functools.partial(step_of, model), spec, cluster)

    def run(on_batch):
        def report(scale, count):
            on_batch((scale * len(dataset.records) + count) // len(scales))

        of_scales, losses = [], []
        for number, (loader, batches) in enumerate(scales):
            with reading_errors(loader), cluster.lost_worker, _signals_of(cluster) as caught:
                results = results_of(batches, caught)
                on_scale = functools.partial(report, number)
                of_scales.append(_by_record(results, model, dataset.records, on_scale, losses))
        if not any(of_scales):
            raise DataError(none_readable(len(dataset.records), scales[0][0].bad))
        return _merged_by_record(of_scales, model), losses

    return run


def _signals_of(cluster):
    """A context that yields the list of signals caught: of several workers alone, which stop together."""
    return interrupts.noted() if cluster.workers > 1 else contextlib.nullcontext([])


def _stopping_together(function, element_spec, cluster):
    """What computes batch by batch, for workers that all stop after the batch at which one got a signal.

    None waits then for another that has gone. One process alone ends by the signal itself.

    Args:
        function: one batch -> a tuple of tensors, see `Cluster.gathered`.
        element_spec: of the distributed batches.
        cluster: Cluster.

    Returns:
        A function of batches and the list of `_signals_of` that gives their gathered results one by one.
        It raises Interrupt.
    """
    if cluster.workers == 1:
        step_alone = cluster.gathered(function, element_spec)
        return lambda batches, caught: map(step_alone, batches)

    def with_stop(inputs):
        batch, stop = inputs
        return function(batch), ops.reshape(stop, (1,))

    step = cluster.gathered(with_stop, (element_spec, tf.TensorSpec([], tf.int32)))

    def results_of(batches, caught):
        for batch in batches:
            results, stops = step((batch, np.int32(bool(caught))))
            if stops.any():
                raise interrupts.Interrupt(caught[0] if caught else signal.SIGTERM)
            yield results

    return results_of


def none_readable(count, bad):
    """What a user is told where not one photo could be searched.

    Args:
        count: of the photos.
        bad: {index: why it cannot be read}, of those that this process has tried.
    """
    first = f": {next(iter(bad.values()))}" if bad else ""
    return f"none of the {count} photos to evaluate can be read{first}"


def _detection_step(model, batch):
    """A batch of `evaluation_batches` -> (indices [B], image_sizes [B, 2], BatchDetections, ())."""
    return _sendable(batch, model(_inputs(model, batch)), ())


def _examination_step(model, batch):
    """As `_detection_step`, with BatchLosses. Both are made of one forward pass."""
    inputs = _inputs(model, batch)
    outputs = model.propose(inputs, training=False)
    losses = losses_of(model, batch, outputs, KINDS[model.kind].has_classes)
    return _sendable(batch, model.detections(outputs, inputs), losses)


def _inputs(model, batch):
    return {key: batch[key] for key in model.x_spec()}


def _sendable(batch, detections, losses):
    """The results of a step. `valid` is int32: workers can send each other numbers, no booleans."""
    detections = detections._replace(valid=ops.cast(detections.valid, "int32"))
    return batch["indices"], batch["image_sizes"], detections, losses


def _by_record(results, model, records, on_batch, losses):
    """The results of a step, batch by batch -> {index into records: Detections of that photo}.

    What follows them is appended to the list `losses`.
    """
    detections = {}
    for indices, shown_sizes, batch, of_batch in results:
        losses.append(of_batch)
        batch = batch._replace(valid=batch.valid > 0)
        for row, index in enumerate(indices.tolist()):
            if index >= 0:  # or a blank image
                size = records[index].size
                detections[index] = model.in_photo(batch, row, shown_sizes[row], size)
        on_batch(len(detections))
    return detections


def _merged_by_record(of_scales, model):
    """[{index: Detections}] of every scale -> {index: Detections}.

    A photo that could be read at some of the scales has the detections of those.
    """
    if len(of_scales) == 1:
        return of_scales[0]
    indices = sorted(set().union(*of_scales))
    return {
        index: merged([scale[index] for scale in of_scales if index in scale], model) for index in indices
    }


def scales_of(config):
    """The DataConfigs of every scale that `eval.short_sides` asks for; sides in proportion."""
    data = config.data
    return [
        dataclasses.replace(data, short_side=side, max_side=round(data.max_side * side / data.short_side))
        for side in config.eval.short_sides or (data.short_side,)
    ]


def merged(of_scales, model):
    """The Detections of one photo at several scales as one: NMS over all, class by class.

    Args:
        of_scales: list of Detections, one for each scale.
        model: that detected them; its NMS threshold and limit count, as at a single scale.
    """
    detections = joined(of_scales)
    if not len(detections):
        return detections
    boxes, scores, classes = detections
    limit, kinds = model.max_detections, np.unique(classes)
    rows = [np.broadcast_to(x, (len(kinds), *x.shape)) for x in (boxes, scores)]
    indices, kept = nms(*rows, classes == kinds[:, None], model.nms_threshold, min(limit, len(scores)))
    chosen = ops.convert_to_numpy(indices)[ops.convert_to_numpy(kept)]
    return detections[chosen[np.argsort(-scores[chosen], kind="stable")][:limit]]


def joined(parts):
    """Several Detections of one photo as one, in order."""
    boxes, scores, classes = (np.concatenate(values) for values in zip(*parts))
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra}
    return Detections(boxes, scores, classes, parts[0].class_names, extra)


@contextlib.contextmanager
def reading_errors(loader):
    """A context that raises a Loader's DataError where TensorFlow reports it as an error of its pipeline."""
    try:
        yield
    except Exception:
        if loader.failure is None:
            raise
        raise DataError(loader.failure) from None


def score(dataset, detections, config):
    """Scores detections, or an RPN's proposals.

    Args:
        dataset: Dataset in the model's classes, see `fpn_tf.evaluation.held_out`.
        detections: {index into dataset.records: Detections}.
        config: Config.

    Returns:
        (metrics, results): see `fpn_tf.evaluation.coco` and `fpn_tf.evaluation.proposals`.
    """
    kind, results, ids = KINDS[config.model.kind], [], []
    for index, of_photo in sorted(detections.items()):
        record = dataset.records[index]
        ids.append(record.image_id)
        results += kind.results(record.image_id, of_photo, record.size)
    settings = config.eval
    return kind.score(dataset.coco, results, ids, settings.max_detections, settings.scorer), results


def write(model_dir, metrics, results, step, seconds, made_from):
    """Writes eval/detections.json, speed.json (`seconds` per photo) and metrics.json, each whole.

    `made_from` is that of `fpn_tf.evaluation.provenance`.
    """
    folder = pathlib.Path(model_dir) / "eval"
    files.write_json(folder / "detections.json", results, indent=None)
    files.write_json(folder / "speed.json", {"seconds_per_photo": seconds})
    files.write_json(folder / "metrics.json", metrics | {"step": step, "made_from": made_from})
