"""Detections over a whole data set, and the metrics that are made of them."""

import itertools
import time
import types
from collections.abc import Mapping

import rich.box
import rich.table

from fpn_tf import files
from fpn_tf.checkpoint import check_present
from fpn_tf.evaluation import evaluator
from fpn_tf.evaluation.history import HELD_OUT
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.modes.reporting import write_run_report
from fpn_tf.training.progress import console, progress_bar

NO_LOSSES: Mapping[str, float] = types.MappingProxyType({})


def detect_with_bar(detector, dataset):
    """Runs a detector over a data set, with a progress bar.

    Args:
        detector: as `evaluator.make_detector` makes it, or `make_examiner`.
        dataset: Dataset.

    Returns:
        (what the detector gives, seconds per photo): without the first batch, which is traced; reading
        and resizing included. None where there is one batch.
    """
    bar, task = progress_bar(len(dataset.records), 0, "eval")
    batch_ends = []  # (photos done, time)

    def on_batch(count):
        batch_ends.append((count, time.perf_counter()))
        bar.update(task, completed=count)

    with bar:
        detections = detector(on_batch)
    (first, start), (last, end) = batch_ends[0], batch_ends[-1]
    return detections, (end - start) / (last - first) if last > first else None


def score_and_write(
    config, dataset, detections, seconds, model_dir, step, losses=NO_LOSSES, show=lambda metrics: None
):
    """Scores detections and writes report, metrics, results and speed below `eval/` of a run.

    Args:
        config: Config.
        dataset: Dataset, see `fpn_tf.evaluation.held_out.as_scored`.
        detections: {index: Detections}.
        seconds: seconds per photo, or None.
        model_dir: the folder of the run.
        step: the step of the checkpoint.
        losses: {name: number}, those of the same photos, for the report's curves.
        show: a function of the metrics, called before they are written, which may fail.

    Returns:
        {name: number}: the metrics.

    Raises:
        CheckpointError: the folder of the run has gone.
    """
    metrics, results = evaluator.score(dataset, detections, config)
    kind = KINDS[config.model.kind]
    console.print(f"step {step}: {kind.metric} {metrics[kind.metric]:.3f} on {len(detections)} photos")
    show(metrics)
    check_present(model_dir)
    if kind.has_classes:
        image_ids = [dataset.records[index].image_id for index in detections]
        newest = metrics | {"step": step, HELD_OUT: losses}
        write_run_report(model_dir, newest, dataset, results, image_ids)
    evaluator.write(model_dir, metrics, results, step, seconds)  # last: metrics.json tells that all is there
    return metrics


def print_notes(notes):
    """Prints lines that a user should know before what they are about."""
    for note in notes:
        console.print(f"note: {note}")


def print_metrics(metrics):
    """Prints the numbers, and the AP of every class if there is one, as a table."""
    classes = list(metrics.get("per_class", {}).items())
    numbers = [(name, value) for name, value in metrics.items() if name not in ("per_class", "step")]
    table = rich.table.Table("metric", "value", *(("class", "AP") if classes else ()), box=rich.box.SIMPLE)
    for row in itertools.zip_longest(numbers, classes):
        cells = [("", "") if pair is None else (pair[0], f"{pair[1]:.6f}") for pair in row]
        table.add_row(*itertools.chain.from_iterable(cells if classes else cells[:1]))
    console.print(table)


def finished_metrics(path, step):
    """The metrics that an earlier evaluation of the same step wrote; None where there are none.

    Args:
        path: of metrics.json.
        step: the step of the checkpoint.
    """
    try:
        metrics = files.json_of(path.read_bytes())
    except (OSError, ValueError):
        return None
    return metrics if metrics.get("step") == step else None
