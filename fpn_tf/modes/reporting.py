"""`eval/report.html`: what the metrics are made of, to be looked at."""

import pathlib

from fpn_tf import files, report_page, visualize
from fpn_tf.evaluation import breakdown, faults
from fpn_tf.evaluation.analysis import analyse
from fpn_tf.evaluation.curves import interpolated
from fpn_tf.evaluation.history import curves_of, logged_lines
from fpn_tf.modes.report_pictures import worst_and_best

REPORT = "eval/report.html"  # below a model_dir
CSS_COLORS = {kind: f"rgb{color}" for kind, color in visualize.FAULT_COLORS.items()}


def write_run_report(model_dir, metrics, dataset, results, image_ids):
    """Writes the report of a run's newest evaluation: its training, its errors, its photos.

    Args:
        model_dir: the folder of the run.
        metrics: {name: number}, see `fpn_tf.evaluation.coco.evaluate`, and of the checkpoint its `step`,
            and its losses under HELD_OUT if they are known.
        dataset: Dataset that was scored.
        results: COCO results.
        image_ids: of the photos that were searched.

    Returns:
        The path of the page.
    """
    analysis, step = analyse(dataset.coco, results, image_ids), metrics["step"]
    sections = [
        _summary(metrics, analysis, {"step": step}),
        _training_section(pathlib.Path(model_dir) / "train.jsonl", metrics),
        *_sections(metrics, analysis),
        *_photo_sections(analysis, dataset),
    ]
    return _write(model_dir, f"{pathlib.Path(model_dir).resolve().name}, step {step}", sections)


def write_file_report(model_dir, metrics, coco, results, source):
    """Writes the report of a file of detections: without training, and without photos.

    Args:
        model_dir: the folder that `eval/` is made in.
        metrics, results: as `write_run_report` takes them.
        coco: ground truth as a COCO dict.
        source: path of the file.

    Returns:
        The path of the page.
    """
    analysis = analyse(coco, results)
    sections = [_summary(metrics, analysis, {"detections of": source}), *_sections(metrics, analysis)]
    return _write(model_dir, pathlib.Path(source).name, sections)


def _write(model_dir, title, sections):
    path = pathlib.Path(model_dir) / REPORT
    files.write_text(path, report_page.page(title, sections))
    return path


def _summary(metrics, analysis, facts):
    facts |= {
        "photos": len(analysis.image_ids),
        "objects": sum(analysis.counts),
        "detections": len(analysis.matches.scores),
        "detections at or above the best thresholds": int(analysis.are_shown.sum()),
    }
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return report_page.summary(numbers, facts)


def _sections(metrics, analysis):
    """The sections that need neither the run nor the photos: a list of HTML texts."""
    objects, names = analysis.objects, analysis.class_names
    as_matched = objects, analysis.matches, analysis.kinds
    shown = objects, analysis.matches, analysis.are_shown
    table = breakdown.confusion(*as_matched, analysis.are_shown, len(names))
    sizes = breakdown.recall_by(objects.areas, breakdown.SIZES, *shown)
    crowding = breakdown.recall_by(breakdown.crowding_of(objects), breakdown.CROWDING, *shown)
    lost = report_page.lost_section(
        faults.ap50(*as_matched),
        faults.ap_lost(*as_matched),
        faults.counts(*as_matched),
        faults.KINDS,
        CSS_COLORS,
    )
    return [
        *([lost] if any(analysis.counts) else []),
        report_page.classes_section(_class_rows(metrics, analysis)),
        report_page.confusion_section(names, table.tolist()),
        report_page.recall_section({"size of the object": sizes, "objects in the photo": crowding}),
    ]


def _class_rows(metrics, analysis):
    """A ClassRow for each class."""
    rows = []
    for name, count, curve, threshold in zip(
        analysis.class_names, analysis.counts, analysis.curves, analysis.thresholds
    ):
        precision = () if curve is None else interpolated(curve)
        ap50 = float(precision.mean()) if len(precision) else None
        ap = metrics["per_class"].get(name) if count else None
        rows.append(report_page.ClassRow(name, count, ap, ap50, threshold, tuple(map(float, precision))))
    return rows


def _training_section(path, metrics):
    """The curves of a train.jsonl, with the newest metrics where it does not have them; empty without one."""
    try:
        lines = logged_lines(path.read_text("utf-8", "replace"))
    except OSError:
        lines = []
    return report_page.curves_section(*curves_of([metrics, *lines])) if lines else ""


def _photo_sections(analysis, dataset):
    """The sections of the worst photos and of the best."""
    worst, best = worst_and_best(analysis, dataset)
    return [
        report_page.pictures_section(
            "Photos with most errors",
            "False detections at or above the best threshold of their class, and the objects that none of "
            "the shown ones finds (missed). What is right bears no label.",
            worst,
            CSS_COLORS,
        ),
        report_page.pictures_section(
            "Best photos", "The fewest errors, then the most objects.", best, CSS_COLORS
        ),
    ]
