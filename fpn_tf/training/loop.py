"""The training run: data, steps, checkpoints, and what is told on the way."""

import contextlib
import math
import signal
import threading
import time

import keras
import numpy as np
from absl import logging

from fpn_tf.checkpoint import Checkpoints, is_import
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import training_batches
from fpn_tf.data.plan import usable_indices
from fpn_tf.errors import InterruptedRunError, NonFiniteLossError
from fpn_tf.evaluation.evaluator import errors_of
from fpn_tf.models.faster_rcnn import make_model
from fpn_tf.pretrained.backbone import load_backbone_weights
from fpn_tf.pretrained.model_dir import start_from_import
from fpn_tf.structures import Losses
from fpn_tf.training.optimizer import make_optimizer
from fpn_tf.training.progress import RunLog, console, progress_bar, status
from fpn_tf.training.step import make_train_step


@contextlib.contextmanager
def caught_signals():
    """Yields a list that fills with the names of SIGINT and SIGTERM instead of their dying.

    A second Ctrl-C dies at once.
    """
    caught = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread alone
        return

    def note(number, frame):
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def new_model(config):
    """A FasterRCNN with fresh weights, those of the backbone from `model.backbone_weights`."""
    if config.model.norm == "frozen_bn" and not config.model.backbone_weights:
        logging.warning(
            "model.backbone_weights is empty: a random backbone whose batch norm is frozen hardly learns; "
            "give weights, or set model.norm=group_norm and model.frozen_stages=0"
        )
    model = make_model(config)
    load_backbone_weights(model.backbone, config.model)
    return model


def train(config, dataset, model_dir, strategy, evaluate=None):
    """Trains from the newest checkpoint in `model_dir`, or from the start.

    Args:
        config: Config.
        dataset: Dataset to train on.
        model_dir: where checkpoints and logs go.
        strategy: tf.distribute.Strategy.
        evaluate: model, step -> AP; called every `train.eval_every` steps and at the end, to keep
            the best checkpoint. None: no evaluation.

    Returns:
        (model, step): the trained model and the number of steps it has seen.

    Raises:
        InterruptedRunError: after saving, on Ctrl-C or SIGTERM.
        NonFiniteLossError: at the first loss that is not finite; nothing is saved.
        DataError: too many unreadable photos.
    """
    settings = config.train
    checkpoints = Checkpoints(model_dir, settings.keep_checkpoints)
    newest = checkpoints.find()
    with strategy.scope():
        keras.utils.set_random_seed(settings.seed)
        model = new_model(config) if newest is None else make_model(config)
        optimizer = make_optimizer(settings)
        optimizer.build(model.trainable_variables)
        first_step = 0
        if is_import(newest):
            console.print(start_from_import(model, newest))
        elif newest is not None:
            first_step = checkpoints.restore(newest, model, optimizer)
    if first_step:
        console.print(f"going on from {newest} (step {first_step} of {settings.steps})")
    if first_step >= settings.steps:
        return model, first_step

    usable_indices(dataset.records, config.data)  # none: an error, before anything starts
    loader = Loader(dataset, config.data)
    replicas = strategy.num_replicas_in_sync

    def batches(context):
        return training_batches(loader, config.data, settings.batch_size, settings.seed, first_step, replicas)

    distributed = strategy.distribute_datasets_from_function(batches)
    train_step = make_train_step(
        model, optimizer, strategy, distributed.element_spec, settings.accumulation_steps
    )
    log = RunLog(model_dir, first_step)
    bar, task = progress_bar(settings.steps, first_step, "train")
    with caught_signals() as caught, errors_of(loader), bar:
        pending, since = [], time.monotonic()
        for step, (x, y) in enumerate(distributed, start=first_step + 1):
            learning_rate = float(optimizer.learning_rate)
            losses = Losses(*(float(loss) for loss in train_step(x, y)))
            if not math.isfinite(losses.total_loss):
                raise NonFiniteLossError(_advice(step, losses, learning_rate))
            pending.append(losses)
            bar.update(task, completed=step)
            last = step == settings.steps
            if step % settings.log_every == 0 or last:
                speed = len(pending) * settings.batch_size / (time.monotonic() - since)
                means = dict(zip(Losses._fields, np.mean(pending, axis=0).tolist()))
                log.write(step, means | {"learning_rate": learning_rate, "images_per_second": speed})
                told = status(means, learning_rate, speed)
                bar.update(task, status=told)
                if not console.is_terminal:
                    console.print(f"step {step}/{settings.steps}  {told}".replace("\n", "  "))
                pending, since = [], time.monotonic()
            due = evaluate is not None and (last or (settings.eval_every and step % settings.eval_every == 0))
            if step % settings.checkpoint_every == 0 or last or caught or due:
                checkpoints.save(model, optimizer, step)
            if caught and not last:
                raise InterruptedRunError(
                    f"{caught[0]} at step {step}: saved; the same command goes on from there"
                )
            if due:
                checkpoints.keep_best(step, evaluate(model, step))
                since = time.monotonic()
            if last:
                break
    if loader.bad:
        console.print(f"{len(loader.bad)} photo(s) could not be read and were skipped")
    return model, settings.steps


def _advice(step, losses, learning_rate):
    terms = ", ".join(f"{name} {value:.4g}" for name, value in losses._asdict().items())
    return (
        f"the loss is not finite at step {step} ({terms}; learning rate {learning_rate:.3g}); "
        "lower train.learning_rate or lengthen train.warmup_steps"
    )
