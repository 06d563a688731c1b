"""The training run: data, steps, checkpoints, evaluations."""

import contextlib
import math
import pathlib
import signal

import tensorflow as tf
from absl import logging

from fpn_tf import config as config_lib
from fpn_tf import interrupts
from fpn_tf.checkpoint import CONFIG_FILE, DAMAGED_PREFIX, Checkpoints, check_present
from fpn_tf.checkpoint_state import STEP_PREFIX, state_of
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import open_dataset, training_batches
from fpn_tf.data.plan import usable_indices
from fpn_tf.errors import ClusterError, DataError, InterruptedRunError, NonFiniteLossError
from fpn_tf.evaluation.evaluator import reading_errors
from fpn_tf.training.advice import diagnosis
from fpn_tf.training.progress import Progress, console
from fpn_tf.training.state import start
from fpn_tf.training.step import make_train_step


def train(config, dataset, model_dir, cluster, evaluate=None, get_model=None):
    """Trains from the newest checkpoint in `model_dir`, or from the start.

    Args:
        config: Config.
        dataset: Dataset to train on.
        model_dir: where checkpoints and logs go; every worker sees the same folder.
        cluster: Cluster. The chief alone writes.
        evaluate: model, step -> AP; called by every worker at every `train.eval_every` steps and
            at the end, to keep the best checkpoint. None: no evaluation.
        get_model: config -> model, of an experiment that has parts of its own. None: the model that
            the checkpoint or the config describes.

    Returns:
        (model, step): the trained model (with averaged weights under `train.ema_decay`) and the
        number of steps it has seen.

    Raises:
        InterruptedRunError: after saving, on Ctrl-C, SIGTERM or SIGHUP (of any worker).
        NonFiniteLossError: at a step whose loss or gradient is not finite; nothing is saved.
        CheckpointError: a checkpoint cannot be written or does not fit.
        ClusterError: another worker has gone, or sees other files.
        DataError: after saving, where too many photos are unreadable.
        OSError: after saving, where a log file cannot be written.
    """
    settings = config.train
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    run = _Run(config, dataset, model_dir, cluster, evaluate, get_model)
    with interrupts.noted() as run.caught, cluster.lost_worker:
        run.finish()
    if run.state.averages:
        run.state.optimizer.finalize_variable_values(run.state.model.trainable_variables)
    return run.state.model, run.state.step


class _Run:
    """A run: its data, its TrainingState, its checkpoints, on a Cluster."""

    def __init__(self, config, dataset, model_dir, cluster, evaluate, get_model):
        self.config, self.dataset, self.model_dir = config, dataset, model_dir
        self.cluster, self.evaluate = cluster, evaluate
        settings = config.train
        usable_indices(dataset.records, config.data)  # none: an error, before anything starts
        self.checkpoints = Checkpoints(model_dir, settings.keep_checkpoints, settings.keep_every)
        newest = self.checkpoints.find()  # hashes it whole: once is enough
        self.is_rated = newest is not None and "AP" in state_of(newest)
        with cluster.strategy.scope():
            self.state, note = start(config, newest, get_model)
        if note:
            console.print(note)
        if self.state.model.truth_fields:  # that the data set is to be read with
            self.dataset = open_dataset(config.data, "train", self.state.model.truth_fields)
        self.loader = Loader(self.dataset, config.data)
        steps = cluster.gathered_numbers(self.state.step)
        if len(set(steps)) > 1:
            raise ClusterError(
                f"--model_dir={model_dir}: the workers find checkpoints of steps {sorted(set(steps))}; "
                "expected one folder that all of them see"
            )
        if cluster.is_chief:  # nothing speaks against the run any more
            if newest is None and self.checkpoints.steps():
                self.checkpoints.set_aside()
                console.print(
                    f"note: no checkpoint in {self.checkpoints.folder} is whole: the run begins at step 0; "
                    f"they are kept as {DAMAGED_PREFIX}{STEP_PREFIX}*"
                )
            config_lib.save(config, pathlib.Path(model_dir) / CONFIG_FILE)
        self.train_step, self.caught = None, []
        self.saved_step = self.state.step
        self.is_out_of_patience = False

    def finish(self):
        """Takes all steps, going back to a checkpoint where the config asks for it."""
        settings, restores = self.config.train, 0
        if self.evaluation_is_due() and not self.is_rated:
            self.evaluate_now()  # the run was cut off just before it
        self.lose_patience()
        if settings.on_nonfinite == "restore" and not self.state.step:
            self.save()  # the first checkpoint to go back to
        while not self.is_over():
            try:
                with reading_errors(self.loader):
                    self.take_steps()
            except (DataError, OSError):  # photos or a log file: the steps taken are sound
                if self.state.step != self.saved_step:
                    self.save()
                    console.print(f"step {self.state.step} is saved")
                raise
            except NonFiniteLossError as error:
                restores += 1
                if settings.on_nonfinite == "stop" or restores > settings.max_restores:
                    raise
                diverged_step = self.state.step
                self.state.restore(self.checkpoints.find())
                self.state.skipped.add(diverged_step)
                logging.warning("%s; going back to step %d and passing over it", error, self.state.step)
        if self.loader.bad:
            console.print(f"{len(self.loader.bad)} photo(s) could not be read and were skipped")

    def remaining_batches(self):
        """Distributed batches, from that of the next step on."""
        settings, cluster = self.config.train, self.cluster
        batches = training_batches(
            self.loader,
            self.config.data,
            settings.batch_size,
            settings.seed,
            self.state.step,
            cluster.replicas,
            cluster.local_replicas,
        )
        return cluster.distribute(batches)

    def take_steps(self):
        """Takes steps until the last one, a signal, or a loss that is not finite."""
        settings, state = self.config.train, self.state
        batches = self.remaining_batches()
        self.train_step = self.train_step or make_train_step(
            state.model, state.optimizer, self.cluster, batches.element_spec, settings.accumulation_steps
        )
        with Progress(self.model_dir, settings, state.step, self.cluster.is_chief) as progress:
            for x, y in batches:
                stop = False
                if state.step + 1 in state.skipped:
                    state.pass_over()
                else:
                    learning_rate = float(state.optimizer.learning_rate)
                    result = self.train_step(x, y, bool(self.caught))
                    state.step += 1
                    stop = result.stop
                    if not (result.finite and math.isfinite(result.losses["total_loss"])):
                        raise NonFiniteLossError(
                            diagnosis(self.config, self.dataset.records, state.step, result.losses)
                        )
                    progress.step(state.step, result.losses, learning_rate)
                self.after_step(stop or (self.cluster.workers == 1 and bool(self.caught)), progress)
                if self.is_over():
                    return

    def after_step(self, stop, progress):
        """Checkpoint, evaluation and the end, where they are due."""
        settings, step = self.config.train, self.state.step
        last, due = step == settings.steps, self.evaluation_is_due()
        if step % settings.checkpoint_every == 0 or last or stop or due:
            self.save()
        if stop and (due or not last):
            raise self.interruption()
        if due:
            with progress.paused():
                self.evaluate_now()

    def interruption(self):
        """The InterruptedRunError of a run whose current step is saved."""
        step, number = self.state.step, self.caught[0] if self.caught else signal.SIGTERM
        name = number.name if self.caught else "another worker's signal"
        return InterruptedRunError(
            f"{name} at step {step}: saved; the same command goes on from there", number
        )

    def is_over(self):
        """Whether the run has taken its steps, or those that `train.patience` allows."""
        return self.state.step >= self.config.train.steps or self.is_out_of_patience

    def evaluation_is_due(self):
        """Whether the current step's checkpoint is to be evaluated."""
        step, every = self.state.step, self.config.train.eval_every
        is_scheduled = step == self.config.train.steps or (every and step % every == 0)
        return bool(self.evaluate is not None and step and is_scheduled)

    def evaluate_now(self):
        """Evaluates the current step, whose checkpoint is written, and keeps it if it is the best."""
        with self.state.averaged(), self.ended_by_signals():
            quality = self.evaluate(self.state.model, self.state.step)
        if self.cluster.is_chief:
            self.checkpoints.rate(self.state.step, quality)
        if self.caught:
            raise self.interruption()
        self.lose_patience()

    @contextlib.contextmanager
    def ended_by_signals(self):
        """A context that a signal ends at once, the current step being saved. Raises: InterruptedRunError."""
        try:
            with interrupts.raised():
                yield
        except interrupts.Interrupt as error:
            self.caught.append(error.number)
            raise self.interruption() from None

    def lose_patience(self):
        """Ends the run where `train.patience` evaluations have brought no better AP; the chief decides."""
        settings = self.config.train
        if self.evaluate is None or not settings.patience:
            return
        best = self.checkpoints.find("best")
        best_step = self.state.step if best is None else state_of(best)["step"]
        evaluations = (self.state.step - best_step) // settings.eval_every
        is_spent = self.cluster.gathered_numbers(int(evaluations >= settings.patience))[0]
        if is_spent and not self.is_out_of_patience and self.state.step < settings.steps:
            console.print(
                f"AP has not risen in {evaluations} evaluations: ended at step {self.state.step} of "
                f"{settings.steps}; the best is of step {best_step} (--checkpoint=best)"
            )
        self.is_out_of_patience = bool(is_spent)

    def save(self):
        """Writes the checkpoint of the current step.

        Raises:
            CheckpointError: it cannot be written, or the run's folder has gone.
        """
        if self.cluster.is_chief:
            check_present(self.model_dir)
            self.state.save(self.checkpoints)
        self.saved_step = self.state.step
