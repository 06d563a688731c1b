"""`--mode=train_and_eval`: training, evaluation, pictures and an export in one run."""

import functools
import pathlib

from fpn_tf.checkpoint import check_present
from fpn_tf.errors import DataError
from fpn_tf.evaluation import evaluator
from fpn_tf.evaluation.held_out import as_scored, with_truth_fields
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.modes.export_record import export_once
from fpn_tf.modes.pictures import comparisons, draw_pictures
from fpn_tf.modes.reporting import REPORT
from fpn_tf.modes.scoring import (
    detect_with_bar,
    finished_metrics,
    print_metrics,
    print_notes,
    score_and_write,
)
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.training import loop
from fpn_tf.training.preparation import open_held_out, prepared
from fpn_tf.training.progress import RunLog, console


def train_and_eval(config, model_dir, get_model=None):
    """Trains, evaluates, draws, exports, and says where everything lies.

    Args:
        config: Config.
        model_dir: the folder of the run.
        get_model: config -> model, of an experiment that has parts of its own, or None.

    Raises:
        DataError: the classes of the held-out split are not those of the training split.
    """
    with prepared(config, model_dir) as (cluster, config, dataset):
        _train_and_eval(config, model_dir, get_model, cluster, dataset)


def _train_and_eval(config, model_dir, get_model, cluster, dataset):
    """`train_and_eval` with what `prepared` gives."""
    held_out, notes = as_scored(open_held_out(config), config)
    print_notes(notes)

    @functools.cache
    def examiner(model):
        return _examiner(model, held_out, config, cluster)

    def quality(model, step):
        (detections, losses), seconds = detect_with_bar(examiner(model), held_out)
        if not cluster.is_chief:
            return None
        metrics = score_and_write(config, held_out, detections, seconds, model_dir, step, losses)
        log = RunLog(model_dir, step)
        log.write_metrics(step, metrics, losses)
        log.write_pictures(step, comparisons(model.kind, held_out, detections, config.eval.pictures))
        return metrics.get(KINDS[model.kind].metric)

    model, step = loop.train(config, dataset, model_dir, cluster, quality, get_model)
    metrics_file = pathlib.Path(model_dir) / "eval" / "metrics.json"
    is_scored = finished_metrics(metrics_file, step) is not None
    if not cluster.gathered_numbers(is_scored)[0]:  # as the chief sees it
        quality(model, step)
    if cluster.is_chief:
        check_present(model_dir)
        _show_and_export(model_dir, held_out, finished_metrics(metrics_file, step))
        check_present(model_dir)


def _examiner(model, held_out, config, cluster):
    """What `evaluator.make_examiner` makes; it tells no losses where the held-out set cannot give them."""
    try:
        truth = with_truth_fields(held_out, config, model.truth_fields)
    except DataError as error:
        print_notes([f"no losses on the held-out set: {error}"])
        detector = evaluator.make_detector(model, held_out, config, cluster)
        return lambda on_batch: (detector(on_batch), {})
    return evaluator.make_examiner(model, truth, config, cluster)


def _show_and_export(model_dir, held_out, metrics):
    """Draws and exports the newest checkpoint; prints its metrics and the paths written.

    Args:
        model_dir: the folder of a finished run.
        held_out: Dataset of the held-out split.
        metrics: {name: number} of the newest checkpoint.
    """
    config, model, _ = load_model_dir(model_dir)
    draw_pictures(model, held_out, model_dir, config.eval.pictures)
    written = {
        "configuration": "config.json",
        "checkpoints": "checkpoints",
        "losses": "train.jsonl",
        "metrics, detections": "eval",
        "pictures": "pictures",
    }
    if (pathlib.Path(model_dir) / REPORT).exists():  # kinds of model without classes have none
        written["report"] = REPORT
    if KINDS[model.kind].is_served:
        exported = export_once(model, pathlib.Path(model_dir) / "export")
        written["SavedModel"] = exported.relative_to(model_dir)
    print_metrics(metrics)
    for name, path in written.items():
        console.print(f"{name:20s} {pathlib.Path(model_dir) / path}")
