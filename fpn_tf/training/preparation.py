"""Whether a run can start, or go on, in a model_dir, and what it begins with."""

import contextlib
import pathlib

from fpn_tf import config as config_lib
from fpn_tf import files
from fpn_tf.checkpoint import Checkpoints, is_import
from fpn_tf.checkpoint_state import is_checkpoint
from fpn_tf.cluster import make_cluster
from fpn_tf.data.anchor_fit import anchor_findings
from fpn_tf.data.findings import annotation_findings
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.survey import check_files
from fpn_tf.errors import CheckpointError, ConfigError
from fpn_tf.pretrained.model_dir import check_start
from fpn_tf.training import run_lock
from fpn_tf.training.advice import schedule_findings
from fpn_tf.training.progress import console

CHANGEABLE = ("train.", "eval.", "data.", "export.")  # sections in which a resumed run may differ
FIXED = (  # ... but for what decides the order of the data, the classes, the optimizer's variables
    "data.class_names",
    "data.category_ids",
    "train.seed",
    "train.batch_size",
    "train.optimizer",
    "train.precision",
    "train.ema_decay",
)


@contextlib.contextmanager
def prepared(config, model_dir):
    """A context for a training run, with its checks first; `model_dir` is its own as long as it lasts.

    Of a run that is refused nothing is left but the folder, which is made to know whether it can be.

    Args:
        config: Config.
        model_dir: the folder of the run, new or not.

    Yields:
        (Cluster, config with classes, training Dataset).

    Raises:
        UserError: the run cannot start or go on in `model_dir`, or another one trains there.
    """
    cluster = _cluster_of(config.train)
    check_writable(model_dir)
    with run_lock.held(model_dir, cluster.is_chief):
        yield cluster, *_checked(config, model_dir, cluster)


def _cluster_of(settings):
    """The Cluster of a run, whose chief alone speaks from now on.

    Args:
        settings: TrainConfig.

    Raises:
        ConfigError: the replicas cannot share the batch.
    """
    cluster = make_cluster(settings.num_replicas, settings.batch_size // settings.accumulation_steps)
    console.quiet = not cluster.is_chief
    parts = cluster.replicas * settings.accumulation_steps
    if settings.batch_size % parts:
        raise ConfigError(
            f"train.batch_size={settings.batch_size}: expected a multiple of "
            f"{cluster.replicas} replicas * {settings.accumulation_steps} micro-batches"
        )
    return cluster


def _checked(config, model_dir, cluster):
    """(Config with classes, training Dataset), what is doubtful about them printed. Raises: UserError."""
    settings = config.train
    _check_start(config.train.initial_model_dir, model_dir)
    dataset = open_dataset(config.data, "train")
    for note in dataset.notes:
        console.print(f"note: {note}")
    newest = Checkpoints(model_dir).find()
    if newest is None or is_import(newest):  # a run that goes on has printed them
        findings = annotation_findings(dataset) + anchor_findings(dataset, config)
        for finding in findings + check_files(dataset, config.data):
            console.print(f"note: {finding}")
    if is_import(newest):  # its number of classes may change
        config = with_classes(config_lib.replace(config, **{"model.num_classes": 0}), dataset)
        check_start(config, newest)
    elif newest is not None:
        config = with_classes(_with_classes_open(config, model_dir), dataset)
        _check_resume(config, model_dir)
    else:  # there is nothing to go on from, whatever a config.json says
        config = with_classes(config, dataset)
    for finding in schedule_findings(settings):
        console.print(f"note: {finding}")
    console.print(
        f"{len(dataset.records)} photos, {len(dataset.records.boxes)} boxes, "
        f"{len(dataset.class_names)} classes; {cluster.replicas} replica(s) of {cluster.workers} "
        f"process(es), learning rate {settings.peak_learning_rate:g} for {settings.batch_size} images a step"
    )
    return config, dataset


def open_held_out(config):
    """The Dataset of the held-out split; what is doubtful in its annotations is printed.

    Raises:
        DataError: it is absent or of another form.
    """
    dataset = open_dataset(config.data, "eval")
    for note in [*dataset.notes, *annotation_findings(dataset)]:
        console.print(f"note, held-out set: {note}")
    return dataset


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


def check_writable(model_dir):
    """Makes the folder of a run. Raises: ConfigError, where it cannot be made, written to, or be a run's."""
    if is_checkpoint(model_dir):
        raise ConfigError(f"--model_dir={model_dir}: is a checkpoint; expected the folder of a run")
    try:
        pathlib.Path(model_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--model_dir={model_dir}: cannot be made ({error.strerror})") from None
    try:
        files.check_writable(model_dir)
    except OSError as error:
        raise ConfigError(f"--model_dir={model_dir}: cannot be written to ({error.strerror})") from None


def _with_classes_open(config, model_dir):
    """The config without the number of classes that it has of its run: `_check_resume` tells of others."""
    path = pathlib.Path(model_dir) / "config.json"
    count = config_lib.load(path).model.num_classes if path.exists() else None
    return (
        config_lib.replace(config, **{"model.num_classes": 0})
        if config.model.num_classes == count
        else config
    )


def _check_start(initial_model_dir, model_dir):
    """Raises ConfigError where a run is to begin with weights of its own: it would go on instead."""
    start, folder = pathlib.Path(initial_model_dir).resolve(), pathlib.Path(model_dir).resolve()
    if initial_model_dir and folder in (start, start.parents[1] if is_checkpoint(start) else None):
        raise ConfigError(
            f"train.initial_model_dir={initial_model_dir}: is the run's own folder; expected another "
            "--model_dir for the new run"
        )


def _check_resume(config, model_dir):
    """Raises CheckpointError where `model_dir` holds a run that this config cannot continue."""
    path = pathlib.Path(model_dir) / "config.json"
    if not path.exists():
        return
    changed = config_lib.differences(config_lib.load(path), config)
    refused = {k: v for k, v in changed.items() if k in FIXED or not k.startswith(CHANGEABLE)}
    if refused:
        values = ", ".join(f"{k}={old} (this run asks for {new})" for k, (old, new) in refused.items())
        raise CheckpointError(
            f"{path}: has {values}; choose another --model_dir (with train.initial_model_dir={model_dir} "
            "it begins with the weights of this one)"
        )
    if changed:
        changes = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in changed.items())
        console.print(f"changed since the run began: {changes}")
