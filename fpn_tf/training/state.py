"""The state of a training run, and how it is restored from a checkpoint."""

import contextlib
import math

import keras
import numpy as np
from absl import logging

from fpn_tf import checkpoint
from fpn_tf.checkpoint import is_import
from fpn_tf.checkpoint_state import state_of
from fpn_tf.pretrained.backbone_files import load_backbone_weights
from fpn_tf.pretrained.custom_parts import model_of
from fpn_tf.pretrained.model_dir import start_from_import
from fpn_tf.pretrained.naming import head_stage_of
from fpn_tf.pretrained.parts import start_from
from fpn_tf.training.optimizer import make_optimizer


class TrainingState:
    """A model, its optimizer, the step they are at.

    Attributes:
        model: `fpn_tf.models.detector.Detector`.
        optimizer: Keras optimizer.
        step: steps taken so far.
        skipped: steps whose batch was passed over, since it gave no finite loss.
    """

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        optimizer.build(model.trainable_variables)
        self.step, self.skipped = 0, set()

    @property
    def averages(self):
        """Whether the optimizer keeps a moving average of the weights."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer).use_ema

    @contextlib.contextmanager
    def averaged(self):
        """A context in which the model has the moving average of its weights, where one is kept."""
        if not self.averages or not self.step:
            yield
            return
        weights = self.model.trainable_variables
        trained_values = [np.array(w) for w in weights]
        self.optimizer.finalize_variable_values(weights)
        try:
            yield
        finally:
            for weight, value in zip(weights, trained_values):
                weight.assign(value)

    def pass_over(self):
        """Counts a step without taking it: the schedule goes on."""
        self.step += 1
        self.optimizer.iterations.assign_add(1)

    def save(self, checkpoints):
        """Writes the checkpoint of the current step. Raises: CheckpointError."""
        copies = 2 if self.averages else 1
        variables = [*self.model.weights * copies, *self.optimizer.variables]
        size = 4 * sum(math.prod(v.shape) for v in variables)  # all are float32, or as small
        checkpoints.save(self.step, self._write, size, skipped=sorted(self.skipped))

    def _write(self, folder):
        with self.averaged():
            checkpoint.write_model(self.model, folder)
        if self.averages:
            checkpoint.write_weights(self.model, folder / checkpoint.TRAINING_FILE)
        checkpoint.write_optimizer(self.optimizer, folder)

    def restore(self, folder):
        """Returns to a checkpoint. Raises: CheckpointError, where it is another model's."""
        averages = (folder / checkpoint.TRAINING_FILE).exists()
        file = checkpoint.TRAINING_FILE if averages else checkpoint.WEIGHTS_FILE
        self.step = checkpoint.read_weights(self.model, folder, file)
        checkpoint.read_optimizer(self.optimizer, folder)
        self.skipped |= set(state_of(folder).get("skipped", ()))


def start(config, newest, get_model=None):
    """The TrainingState of a new run, or of one that goes on.

    Args:
        config: Config.
        newest: folder of the checkpoint to go on from, or None.
        get_model: config -> model, of an experiment that has parts of its own, or None.

    Returns:
        (TrainingState, a note for the user or "").

    Raises:
        UserError: weights that are absent or do not fit.
    """
    keras.utils.set_random_seed(config.train.seed)
    if newest is None:
        model, note = new_model(config, get_model)
        return TrainingState(model, make_optimizer(config.train)), note
    state = TrainingState(model_of(config, newest, get_model), make_optimizer(config.train))
    if is_import(newest):
        return state, start_from_import(state.model, newest)
    state.restore(newest)
    return state, f"going on from {newest} (step {state.step} of {config.train.steps})"


def new_model(config, get_model=None):
    """A model with fresh weights, but for those that the config or an experiment brings.

    Returns:
        (model, a note for the user or "").
    """
    model, settings = model_of(config, get_model=get_model), config.train
    if settings.initial_model_dir:
        return model, start_from(model, settings.initial_model_dir)
    if get_model is not None:  # which gives its weights, too
        return model, ""
    if config.model.norm == "frozen_bn" and not config.model.backbone_weights:
        logging.warning(
            "model.backbone_weights is empty: a random backbone whose batch norm is frozen hardly learns; "
            "give weights, or set model.norm=group_norm and model.frozen_stages=0"
        )
    load_backbone_weights(model.backbone, config.model, head_stage_of(model))
    return model, ""
