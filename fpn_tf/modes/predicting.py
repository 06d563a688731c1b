"""`--mode=predict`: detections on a user's photos."""

import pathlib

from fpn_tf import predict
from fpn_tf.evaluation.kinds import check_served
from fpn_tf.photo_paths import find_photos, left_out
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.training.progress import console, progress_bar

SHOWN = 3  # photos that a line names


def predict_photos(model_dir, overrides, checkpoint, images, output, min_score):
    """Draws detections on a user's photos.

    Args:
        model_dir: the folder of a run.
        overrides: `dotted.key=value` texts.
        checkpoint: "newest" or "best".
        images: a folder, a file or a glob pattern.
        output: folder; by default `predictions` in `model_dir`.
        min_score: the lowest score that is drawn.

    Raises:
        ConfigError: the model is of a kind that is not served.
        DataError: no photo matches `images`, none can be read, or a file of the user's stands where a
            picture would be written.
        InterruptedRunError: on Ctrl-C, SIGTERM or SIGHUP.
    """
    paths, others = find_photos(images), left_out(images)
    if others:
        console.print(f"note: left out: {others}", markup=False)
    outputs = predict.outputs_for(paths, output or pathlib.Path(model_dir) / "predictions")
    config, model, _ = load_model_dir(model_dir, overrides, checkpoint)
    check_served(config.model.kind, "predict")
    bar, task = progress_bar(len(paths), 0, "photos")
    with bar:
        summary = predict.predict_files(
            model, paths, outputs, min_score, lambda n: bar.update(task, completed=n)
        )
    for line in _lines(summary, len(paths), min_score, outputs.detections.parent):
        console.print(line, markup=False)


def _lines(summary, count, min_score, folder):
    """What a Summary of `count` files says, as lines of text."""
    yield (
        f"{summary.detections} detections on {summary.photos_read} of {count} photos, {summary.drawn} of "
        f"them drawn (score >= {min_score:g}): {folder}"
    )
    best = {path: "none" if score is None else f"{score:.3f}" for path, score in summary.best_undrawn.items()}
    if best:
        scores = ", ".join(f"{path} {score}" for path, score in list(best.items())[:SHOWN])
        more = ", ..." if len(best) > SHOWN else ""
        yield f"note: nothing is drawn on {len(best)} photos; their best scores: {scores}{more}"
