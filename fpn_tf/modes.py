"""What `main.py --mode=...` does: one function a mode. A model_dir is the memory between them."""

import itertools
import json
import os
import pathlib

import numpy as np
import rich.box
import rich.table
from absl import logging

from fpn_tf import config as config_lib
from fpn_tf import export as export_lib
from fpn_tf import files, photos, predict, visualize
from fpn_tf.checkpoint import Checkpoints, is_import
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.errors import CheckpointError, ConfigError, DataError, PhotoError
from fpn_tf.evaluation import evaluator
from fpn_tf.pretrained import naming, torchvision
from fpn_tf.pretrained.load import load, save_npz, write_arrays
from fpn_tf.pretrained.model_dir import check_start, load_model_dir
from fpn_tf.training import loop
from fpn_tf.training.progress import console, progress_bar
from fpn_tf.training.strategy import make_strategy

CHANGEABLE = ("train.", "eval.", "data.")  # sections in which a resumed run may differ
FIXED = ("train.seed", "train.batch_size")  # ... but for what decides the order of the data


def train(config, model_dir):
    """Trains in `model_dir`, going on from its newest checkpoint."""
    strategy, config, dataset = _prepare(config, model_dir)
    loop.train(config, dataset, model_dir, strategy)


def train_and_eval(config, model_dir):
    """Trains, evaluates, draws, exports, and says where everything lies."""
    strategy, config, dataset = _prepare(config, model_dir)
    held_out = open_dataset(config.data, "eval")
    if held_out.class_names != dataset.class_names:
        raise ConfigError("data.eval_annotations: its categories differ from those of data.train_annotations")

    def quality(model, step):
        metrics = _evaluate(config, model, held_out, model_dir, step)
        return metrics[evaluator.MAIN_METRIC[config.model.kind]]

    model, step = loop.train(config, dataset, model_dir, strategy, quality)
    metrics = _finished_metrics(pathlib.Path(model_dir) / "eval" / "metrics.json", step)
    if metrics is None:
        metrics = _evaluate(config, model, held_out, model_dir, step)
    draw_pictures(config, model, held_out, model_dir)
    exported = export_lib.export(model, pathlib.Path(model_dir) / "export")
    print_metrics(metrics)
    for name, path in (
        ("configuration", "config.json"),
        ("checkpoints", "checkpoints"),
        ("losses", "train.jsonl"),
        ("metrics, detections", "eval"),
        ("pictures", "pictures"),
        ("SavedModel", exported.relative_to(model_dir)),
    ):
        console.print(f"{name:20s} {pathlib.Path(model_dir) / path}")


def _prepare(config, model_dir):
    """What every training run begins with: (strategy, config with classes, training Dataset).

    Writes config.json. Raises: UserError, where the run cannot start or go on in `model_dir`.
    """
    settings = config.train
    strategy = make_strategy(settings.num_replicas, settings.batch_size // settings.accumulation_steps)
    _check_writable(model_dir)
    dataset = open_dataset(config.data, "train")
    newest = Checkpoints(model_dir).find()
    if is_import(newest):  # its number of classes may change
        config = with_classes(config_lib.replace(config, **{"model.num_classes": 0}), dataset)
        check_start(config, newest)
    else:
        config = with_classes(config, dataset)
        _check_resume(config, model_dir)
    config_lib.save(config, pathlib.Path(model_dir) / "config.json")
    with_boxes = sum(len(r.boxes) > 0 for r in dataset.records)
    console.print(
        f"{len(dataset.records)} photos, {with_boxes} with boxes "
        f"({dataset.dropped_boxes} boxes without area dropped), "
        f"{len(dataset.class_names)} classes; {strategy.num_replicas_in_sync} replica(s), "
        f"learning rate {settings.peak_learning_rate:g} for {settings.batch_size} images a step"
    )
    return strategy, config, dataset


def evaluate(model_dir, overrides, checkpoint):
    """Evaluates a checkpoint of `model_dir` on its held-out split; writes metrics and pictures."""
    config, model, step = load_model_dir(model_dir, overrides, checkpoint)
    dataset = open_dataset(config.data, "eval")
    config = model.config = _with_ids(config, dataset)
    metrics = _evaluate(config, model, dataset, model_dir, step)
    draw_pictures(config, model, dataset, model_dir)
    print_metrics(metrics)


def score_files(detections, annotations, model_dir):
    """Scores a COCO result file; writes eval/metrics.json where a model_dir is given."""
    metrics = evaluator.score_files(detections, annotations)
    if model_dir:
        files.write_json(pathlib.Path(model_dir) / "eval" / "metrics.json", metrics)
    print_metrics(metrics)


def predict_photos(model_dir, overrides, checkpoint, images, output, min_score):
    """Draws detections on a user's photos."""
    paths = predict.find_photos(images)
    _, model, _ = load_model_dir(model_dir, overrides, checkpoint)
    output = pathlib.Path(output or pathlib.Path(model_dir) / "predictions")
    bar, task = progress_bar(len(paths), 0, "photos")
    with bar:
        read, found = predict.predict(
            model, paths, output, min_score, lambda n: bar.update(task, completed=n)
        )
    console.print(f"{found} detections on {read} of {len(paths)} photos: {output}")


def export(model_dir, overrides, checkpoint, file_format):
    """Exports a checkpoint of `model_dir`: as a SavedModel, or its weights as one file.

    Args:
        model_dir: the folder of a run.
        overrides: `dotted.key=value` texts.
        checkpoint: "newest" or "best".
        file_format: "savedmodel"; "npz", weights and config for `fpn_tf.load`; or "torchvision",
            a state dict that torchvision's model of the same shape loads with `strict=True`: a
            `.pth` where PyTorch is installed, an `.npz` of the same names elsewhere.
    """
    _, model, step = load_model_dir(model_dir, overrides, checkpoint)
    folder = pathlib.Path(model_dir) / "export"
    if file_format == "savedmodel":
        path = export_lib.export(model, folder)
    elif file_format == "npz":
        path = folder / "detector.npz"
        save_npz(model, path)
    else:
        path = _export_torchvision(model, folder)
    console.print(f"exported step {step}: {path}")


def _export_torchvision(model, folder):
    arrays = naming.state_dict(model)
    for key, (theirs, ours) in torchvision.unlike(model.config).items():
        logging.warning("model.%s is %s, torchvision's %s: its detections will differ", key, ours, theirs)
    try:
        import torch
    except ImportError:
        path = folder / "torchvision.npz"
        write_arrays(arrays, path)
        return path
    path = folder / "torchvision.pth"
    with files.written_whole(path) as beside:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, beside)
    return path


def import_weights(weights, model_dir, overrides):
    """Makes a model_dir of a detector's weights, from this project or another library."""
    _check_writable(model_dir)
    if Checkpoints(model_dir).find() is not None:
        raise CheckpointError(f"--model_dir={model_dir}: holds a run already; choose another")
    model = load(weights, overrides)
    config_lib.save(model.config, pathlib.Path(model_dir) / "config.json")
    Checkpoints(model_dir).save(model, None, 0)
    settings = model.config.model
    console.print(
        f"imported {weights}: {settings.backbone}, {settings.num_classes} classes, "
        f"{model.count_params():,} numbers -> {model_dir}"
    )


def with_classes(config, dataset):
    """The config with the data set's classes filled in.

    Raises:
        ConfigError: `model.num_classes` was given and is not the number of classes.
    """
    count, given = len(dataset.class_names), config.model.num_classes
    if given not in (0, count):
        raise ConfigError(
            f"model.num_classes={given}: the training data has {count} classes; expected {count}, or 0"
        )
    changes = {
        "model.num_classes": count,
        "data.class_names": dataset.class_names,
        "data.category_ids": dataset.category_ids,
    }
    return config_lib.replace(config, **changes)


def _with_ids(config, dataset):
    """The config with the data set's classes, where imported weights brought only their number.

    Raises:
        DataError: the data set has none of the model's category ids.
    """
    if config.model.kind == "rpn":
        return config
    if not config.data.category_ids and len(dataset.category_ids) == config.model.num_classes:
        return with_classes(config, dataset)
    ids = config.data.category_ids or range(1, config.model.num_classes + 1)
    if not set(ids) & set(dataset.category_ids):
        raise DataError(
            f"data.eval_annotations: category ids {dataset.category_ids[:5]}...: "
            f"expected some of the model's, {tuple(ids)[:5]}..."
        )
    return config


def _evaluate(config, model, dataset, model_dir, step):
    truth = evaluator.read_truth(config.eval.annotations) if config.eval.annotations else None
    bar, task = progress_bar(len(dataset.records), 0, "eval")
    with bar:
        found = evaluator.detect_dataset(model, dataset, config, lambda n: bar.update(task, completed=n))
    metrics, results = evaluator.score(dataset, found, config.model.kind, truth)
    evaluator.write(model_dir, metrics, results, step)
    main = evaluator.MAIN_METRIC[config.model.kind]
    console.print(f"step {step}: {main} {metrics[main]:.3f} on {len(found)} photos")
    return metrics


def draw_pictures(config, model, dataset, model_dir):
    """Draws `eval.pictures` held-out photos, evenly chosen: detections beside ground truth."""
    names = predict.class_names(config)
    count = len(dataset.records)
    wanted = min(config.eval.pictures, count)
    for index in (i * count // wanted for i in range(wanted)):
        record = dataset.records[index]
        try:
            photo = photos.decode_rgb(dataset.read_bytes(index), record.name)
        except (PhotoError, OSError):
            continue  # the evaluation has told of it
        if config.model.kind == "rpn":
            record = record._replace(classes=np.ones_like(record.classes))
        [found] = model.detect([photo])
        picture = visualize.draw_comparison(photo, found, record, names)
        visualize.save_picture(picture, pathlib.Path(model_dir) / "pictures" / f"{record.image_id}.png")


def print_metrics(metrics):
    """Prints the numbers, and the AP of every class if there is one, as a table."""
    classes = list(metrics.get("per_class", {}).items())
    numbers = [(name, value) for name, value in metrics.items() if name not in ("per_class", "step")]
    table = rich.table.Table("metric", "value", *(("class", "AP") if classes else ()), box=rich.box.SIMPLE)
    for row in itertools.zip_longest(numbers, classes):
        cells = [("", "") if pair is None else (pair[0], f"{pair[1]:.6f}") for pair in row]
        table.add_row(*itertools.chain.from_iterable(cells if classes else cells[:1]))
    console.print(table)


def _finished_metrics(path, step):
    """What an earlier evaluation of the same step wrote, if it did."""
    try:
        metrics = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return metrics if metrics.get("step") == step else None


def _check_writable(model_dir):
    try:
        pathlib.Path(model_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--model_dir={model_dir}: cannot be made ({error.strerror})") from None
    if not os.access(model_dir, os.W_OK):
        raise ConfigError(f"--model_dir={model_dir}: cannot be written to")


def _check_resume(config, model_dir):
    """Raises CheckpointError where `model_dir` holds a run that this config cannot continue."""
    path = pathlib.Path(model_dir) / "config.json"
    if not path.exists():
        return
    changed = config_lib.differences(config_lib.load(path), config)
    for key, (old, new) in changed.items():
        if key in FIXED or not key.startswith(CHANGEABLE):
            raise CheckpointError(
                f"{path}: has {key}={old}, this run asks for {new}; choose another --model_dir"
            )
    if changed:
        told = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in changed.items())
        console.print(f"changed since the run began: {told}")
