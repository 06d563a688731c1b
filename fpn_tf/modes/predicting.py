"""`--mode=predict`: detections on a user's photos."""

import pathlib

from fpn_tf import predict
from fpn_tf.evaluation.kinds import check_served
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.training.progress import console, progress_bar


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
        DataError: no photo matches `images`, or none can be read.
    """
    paths = predict.find_photos(images)
    config, model, _ = load_model_dir(model_dir, overrides, checkpoint)
    check_served(config.model.kind, "predict")
    output = pathlib.Path(output or pathlib.Path(model_dir) / "predictions")
    bar, task = progress_bar(len(paths), 0, "photos")
    with bar:
        photos_read, count = predict.predict_files(
            model, paths, output, min_score, lambda n: bar.update(task, completed=n)
        )
    console.print(f"{count} detections on {photos_read} of {len(paths)} photos: {output}")
