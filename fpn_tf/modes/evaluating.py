"""`--mode=eval`: the metrics of a checkpoint, or of a file of detections."""

import pathlib

from fpn_tf import files
from fpn_tf.assemble import adopt
from fpn_tf.cluster import make_cluster
from fpn_tf.config import SCORERS
from fpn_tf.evaluation import evaluator, result_file
from fpn_tf.evaluation.held_out import as_scored
from fpn_tf.evaluation.kinds import KINDS
from fpn_tf.modes.pictures import draw_pictures
from fpn_tf.modes.reporting import REPORT, write_file_report
from fpn_tf.modes.scoring import detect_with_bar, print_metrics, print_notes, score_and_write
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.training.preparation import check_writable, open_held_out, with_classes
from fpn_tf.training.progress import console


def evaluate(model_dir, overrides, checkpoint):
    """Evaluates a checkpoint of `model_dir` on its held-out split; writes metrics, report and pictures.

    Args:
        model_dir: the folder of a run.
        overrides: `dotted.key=value` texts.
        checkpoint: "newest" or "best".

    Raises:
        OSError: nothing can be written in `model_dir`.
        DataError: the data set's classes are not the model's.
    """
    cluster = make_cluster()
    console.quiet = not cluster.is_chief
    if cluster.is_chief:
        _check_outputs(model_dir)
    with cluster.strategy.scope():
        config, model, step = load_model_dir(model_dir, overrides, checkpoint)
    dataset = open_held_out(config)
    if _lacks_classes(config) and len(dataset.category_ids) == config.model.num_classes:
        config = with_classes(config, dataset)
    adopt(model, config)
    dataset, notes = as_scored(dataset, config)
    print_notes(notes)
    detector = evaluator.make_detector(model, dataset, config, cluster)
    detections, seconds = detect_with_bar(detector, dataset)
    if cluster.is_chief:
        score_and_write(config, dataset, detections, seconds, model_dir, step, show=print_metrics)
        draw_pictures(model, dataset, model_dir, config.eval.pictures)
        if KINDS[config.model.kind].has_classes:
            console.print(f"report: {pathlib.Path(model_dir) / REPORT}")


def score_files(detections, annotations, model_dir, scorer=SCORERS[0]):
    """Scores a COCO result file; writes eval/metrics.json and report.html where a model_dir is given.

    Args:
        detections: path of the result file.
        annotations: path of the COCO annotations that it belongs to.
        model_dir: a folder, or None.
        scorer: as `eval.scorer`.
    """
    if model_dir:
        check_writable(model_dir)
        _check_outputs(model_dir)
    scored = result_file.score_files(detections, annotations, scorer)
    print_notes(scored.notes)
    print_metrics(scored.metrics)
    if model_dir:
        report = write_file_report(model_dir, scored.metrics, scored.truth, scored.results, detections)
        files.write_json(pathlib.Path(model_dir) / "eval" / "metrics.json", scored.metrics)
        console.print(f"report: {report}")


def _check_outputs(model_dir):
    """Raises OSError where an evaluation, which takes long, could not write what it is for."""
    for name in ("eval", "pictures"):
        files.check_writable(pathlib.Path(model_dir) / name)


def _lacks_classes(config):
    """Whether imported weights brought the number of their classes, neither ids nor names."""
    has_classes = KINDS[config.model.kind].has_classes
    return has_classes and not config.data.category_ids and not config.data.class_names
