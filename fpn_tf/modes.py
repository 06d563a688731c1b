"""What `main.py --mode=...` does: one function a mode. A model_dir is the memory between them."""

import functools
import itertools
import json
import pathlib
import time

import numpy as np
import rich.box
import rich.table
from absl import logging

from fpn_tf import benchmark as benchmarks
from fpn_tf import config as config_lib
from fpn_tf import export as export_lib
from fpn_tf import files, inspection, photos, predict, visualize
from fpn_tf import report as report_lib
from fpn_tf.cluster import make_cluster
from fpn_tf.data import proposals_file
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.errors import ConfigError, DataError, PhotoError
from fpn_tf.evaluation import evaluator
from fpn_tf.pretrained import naming, torchvision
from fpn_tf.pretrained.load import load, save_npz, write_arrays
from fpn_tf.pretrained.model_dir import check_new, load_model_dir, write_model_dir
from fpn_tf.pretrained.parts import joined, rpn_of
from fpn_tf.structures import Detections
from fpn_tf.training import loop
from fpn_tf.training.prepare import check_writable, prepare, with_classes
from fpn_tf.training.progress import console, progress_bar

SERVED = ("faster_rcnn", "rpn")  # kinds of model that give boxes for a photo alone


def train(config, model_dir):
    """Trains in `model_dir`, going on from its newest checkpoint."""
    cluster, config, dataset = prepare(config, model_dir)
    loop.train(config, dataset, model_dir, cluster)


def train_and_eval(config, model_dir):
    """Trains, evaluates, draws, exports, and says where everything lies."""
    cluster, config, dataset = prepare(config, model_dir)
    held_out = open_dataset(config.data, "eval")
    if held_out.class_names != dataset.class_names:
        raise ConfigError("data.eval_annotations: its categories differ from those of data.train_annotations")

    @functools.cache
    def detector(model):
        return evaluator.make_detector(model, held_out, config, cluster)

    def quality(model, step):
        found, seconds = _with_bar(detector(model), held_out)
        metrics = _score(config, held_out, found, seconds, model_dir, step) if cluster.is_chief else {}
        return metrics.get(evaluator.MAIN_METRIC[config.model.kind])

    model, step = loop.train(config, dataset, model_dir, cluster, quality)
    metrics_file = pathlib.Path(model_dir) / "eval" / "metrics.json"
    is_scored = _finished_metrics(metrics_file, step) is not None
    if not cluster.everyones(is_scored)[0]:  # as the chief sees it
        quality(model, step)
    if not cluster.is_chief:
        return
    config, model, step = load_model_dir(model_dir)
    draw_pictures(config, model, held_out, model_dir)
    written = {
        "configuration": "config.json",
        "checkpoints": "checkpoints",
        "losses": "train.jsonl",
        "metrics, detections": "eval",
        "pictures": "pictures",
    }
    if config.model.kind in SERVED:
        exported = export_lib.export(model, pathlib.Path(model_dir) / "export")
        written["SavedModel"] = exported.relative_to(model_dir)
    print_metrics(_finished_metrics(metrics_file, step))
    for name, path in written.items():
        console.print(f"{name:20s} {pathlib.Path(model_dir) / path}")


def evaluate(model_dir, overrides, checkpoint):
    """Evaluates a checkpoint of `model_dir` on its held-out split; writes metrics and pictures."""
    cluster = make_cluster()
    console.quiet = not cluster.is_chief
    with cluster.strategy.scope():
        config, model, step = load_model_dir(model_dir, overrides, checkpoint)
    dataset = open_dataset(config.data, "eval")
    config = model.config = _with_ids(config, dataset)
    net = evaluator.make_detector(model, dataset, config, cluster)
    found, seconds = _with_bar(net, dataset)
    if cluster.is_chief:
        metrics = _score(config, dataset, found, seconds, model_dir, step)
        draw_pictures(config, model, dataset, model_dir)
        print_metrics(metrics)


def propose(model_dir, overrides, checkpoint, split, output):
    """Writes the proposals of a checkpoint's RPN, for a Fast R-CNN (`model.kind=fast_rcnn`).

    Args:
        model_dir: the folder of a run whose model has an RPN.
        overrides: `dotted.key=value` texts; `model.rpn.post_nms_test` is the most per image.
        checkpoint: "newest" or "best".
        split: "train" or "eval", whose images to look at.
        output: file; by default `proposals/<split>.npz` in `model_dir`.
    """
    cluster = make_cluster()
    console.quiet = not cluster.is_chief
    with cluster.strategy.scope():
        config, model, step = load_model_dir(model_dir, overrides, checkpoint)
        rpn = rpn_of(model)
    dataset = open_dataset(config.data, split)
    net = evaluator.make_detector(rpn, dataset, rpn.config, cluster)
    found, _ = _with_bar(net, dataset)
    if not cluster.is_chief:
        return
    path = pathlib.Path(output or pathlib.Path(model_dir) / "proposals" / f"{split}.npz")
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))  # for unreadable photos
    proposals_file.write(path, {r.image_id: found.get(i, nothing) for i, r in enumerate(dataset.records)})
    count = sum(len(part.scores) for part in found.values())
    console.print(f"step {step}: {count} proposals on {len(found)} photos: {path}")


def join(rpn_dir, fast_rcnn_dir, model_dir):
    """Makes one Faster R-CNN of an RPN and a Fast R-CNN that share their trunk (FPN paper, Table 5)."""
    check_writable(model_dir)
    check_new(model_dir)
    write_model_dir(joined(rpn_dir, fast_rcnn_dir), model_dir)
    console.print(f"joined {rpn_dir} and {fast_rcnn_dir} -> {model_dir}")


def inspect(config, model_dir):
    """Tells what the data sets of a config hold and what is doubtful about them."""
    check_writable(model_dir)
    folder = pathlib.Path(model_dir) / "inspect"
    for split in ("train", "eval"):
        if not (getattr(config.data, f"{split}_annotations") or config.data.tfds_name):
            continue
        found, written = inspection.inspect(open_dataset(config.data, split), config, folder, split)
        console.print(f"{split}:")
        for table in inspection.tables(found):
            console.print(table)
        for finding in found.findings or ["nothing doubtful"]:
            console.print(f"note: {finding}")
        console.print(f"written: {', '.join(map(str, written))}\n")


def benchmark(config, model_dir, size, batch_sizes, precisions, repeats):
    """Times the stages of a config's detector; tables on the screen, benchmark.json in `model_dir`."""
    check_writable(model_dir)
    if not config.model.num_classes:
        raise ConfigError("model.num_classes=0: --mode=benchmark opens no data; expected a number of classes")
    found = benchmarks.benchmark(config, size, batch_sizes, precisions, repeats)
    for table in benchmarks.tables(found):
        console.print(table)
    path = pathlib.Path(model_dir) / "benchmark.json"
    files.write_json(path, found)
    console.print(f"written: {path}")


def report(pattern, table, output):
    """Prints our figures beside those of the paper's table; writes them as Markdown.

    Args:
        pattern: glob pattern of model_dirs.
        table: its number.
        output: file; None: none is written.
    """
    told = report_lib.lines(table, report_lib.collect(pattern))
    console.print(report_lib.as_text(table, told))
    markdown = report_lib.as_markdown(table, told)
    if output:
        files.write_text(output, markdown)
        console.print(f"written: {output}")
    else:
        print(markdown)


def score_files(detections, annotations, model_dir):
    """Scores a COCO result file; writes eval/metrics.json where a model_dir is given."""
    metrics = evaluator.score_files(detections, annotations)
    if model_dir:
        files.write_json(pathlib.Path(model_dir) / "eval" / "metrics.json", metrics)
    print_metrics(metrics)


def predict_photos(model_dir, overrides, checkpoint, images, output, min_score):
    """Draws detections on a user's photos."""
    paths = predict.find_photos(images)
    _, model, _ = _served(*load_model_dir(model_dir, overrides, checkpoint), "predict")
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
    _, model, step = _served(*load_model_dir(model_dir, overrides, checkpoint), "export")
    folder = pathlib.Path(model_dir) / "export"
    if file_format == "savedmodel":
        path = export_lib.export(model, folder)
    elif file_format == "npz":
        path = folder / "detector.npz"
        save_npz(model, path)
    else:
        path = _export_torchvision(model, folder)
    console.print(f"exported step {step}: {path}")


def _served(config, model, step, mode):
    """The arguments. Raises: ConfigError, for a model of another kind than `SERVED`."""
    if config.model.kind not in SERVED:
        raise ConfigError(f"--mode={mode}: model.kind={config.model.kind}: expected {' or '.join(SERVED)}")
    return config, model, step


def _export_torchvision(model, folder):
    for key, theirs in {"pyramid": "fpn", "rpn.shared_head": True, "roi.head": "fc"}.items():
        ours = functools.reduce(getattr, key.split("."), model.config.model)
        if ours != theirs:
            raise ConfigError(f"--format=torchvision: model.{key}={ours}: expected {theirs}, all it has")
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
    check_writable(model_dir)
    check_new(model_dir)
    model = load(weights, overrides)
    write_model_dir(model, model_dir)
    settings = model.config.model
    console.print(
        f"imported {weights}: {settings.backbone}, {settings.num_classes} classes, "
        f"{model.count_params():,} numbers -> {model_dir}"
    )


def _with_ids(config, dataset):
    """The config with the data set's classes, where imported weights brought only their number.

    Raises:
        DataError: the data set has none of the model's category ids.
    """
    if config.model.kind in config_lib.CLASSLESS:
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


def _with_bar(detect, dataset):
    """Runs a detector over a data set, with a bar.

    Returns:
        ({index: Detections}, seconds per photo): without the first batch, which is traced; reading
        and resizing included. None where there is one batch.
    """
    bar, task = progress_bar(len(dataset.records), 0, "eval")
    told = []  # (photos done, time) after each batch

    def on_batch(count):
        told.append((count, time.perf_counter()))
        bar.update(task, completed=count)

    with bar:
        found = detect(on_batch)
    (first, start), (last, end) = told[0], told[-1]
    return found, (end - start) / (last - first) if last > first else None


def _score(config, dataset, found, seconds, model_dir, step):
    """Scores detections and writes metrics, results and speed. Returns: the metrics."""
    truth = evaluator.read_truth(config.eval.annotations) if config.eval.annotations else None
    metrics, results = evaluator.score(dataset, found, config.model.kind, truth)
    evaluator.write(model_dir, metrics, results, step, seconds)
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
        if config.model.kind in config_lib.CLASSLESS:
            record = record._replace(classes=np.ones_like(record.classes))
        given = {} if record.proposals is None else {"proposals": [record.proposals]}
        [found] = model.detect([photo], **given)
        if config.model.kind == "mask_proposals":
            picture = visualize.draw_mask_comparison(photo, found, record)
        else:
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
