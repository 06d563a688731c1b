"""What a training run carries from step to step, and how it comes back from a checkpoint."""

import contextlib
import math

import keras
import numpy as np
from absl import logging

from fpn_tf import checkpoint
from fpn_tf.checkpoint import is_import, state_of
from fpn_tf.models.faster_rcnn import make_model
from fpn_tf.pretrained.backbone import load_backbone_weights
from fpn_tf.pretrained.model_dir import start_from_import
from fpn_tf.pretrained.parts import start_from
from fpn_tf.training.optimizer import make_optimizer


class TrainingState:
    """A model, its optimizer, the step they are at.

    Attributes:
        model: FasterRCNN or RPN.
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
        """While it lasts, the model has the moving average of its weights, if there is one."""
        if not self.averages or not self.step:
            yield
            return
        weights = self.model.trainable_variables
        own = [np.array(w) for w in weights]
        self.optimizer.finalize_variable_values(weights)
        try:
            yield
        finally:
            for weight, value in zip(weights, own):
                weight.assign(value)

    def pass_over(self):
        """Counts a step without taking it: the schedule goes on."""
        self.step += 1
        self.optimizer.iterations.assign_add(1)

    def save(self, checkpoints):
        """Writes the checkpoint of the current step. Raises: CheckpointError."""
        copies = 2 if self.averages else 1
        numbers = [*self.model.weights * copies, *self.optimizer.variables]
        size = 4 * sum(math.prod(v.shape) for v in numbers)  # all are float32, or as small
        checkpoints.save(self.step, self._write, size, skipped=sorted(self.skipped))

    def _write(self, folder):
        with self.averaged():
            checkpoint.write_model(self.model, folder)
        if self.averages:
            self.model.save_weights(folder / checkpoint.TRAINING_FILE)
        checkpoint.write_optimizer(self.optimizer, folder)

    def restore(self, folder):
        """Returns to a checkpoint. Raises: CheckpointError, where it is another model's."""
        averages = (folder / checkpoint.TRAINING_FILE).exists()
        file = checkpoint.TRAINING_FILE if averages else checkpoint.WEIGHTS_FILE
        self.step = checkpoint.read_weights(self.model, folder, file)
        checkpoint.read_optimizer(self.optimizer, folder)
        self.skipped |= set(state_of(folder).get("skipped", ()))


def start(config, newest):
    """The TrainingState of a new run, or of one that goes on.

    Args:
        config: Config.
        newest: folder of the checkpoint to go on from, or None.

    Returns:
        (TrainingState, what to tell the user or "").

    Raises:
        UserError: weights that are absent or do not fit.
    """
    keras.utils.set_random_seed(config.train.seed)
    if newest is None:
        model, told = new_model(config)
        return TrainingState(model, make_optimizer(config.train)), told
    state = TrainingState(make_model(config), make_optimizer(config.train))
    if is_import(newest):
        return state, start_from_import(state.model, newest)
    state.restore(newest)
    return state, f"going on from {newest} (step {state.step} of {config.train.steps})"


def new_model(config):
    """A model with fresh weights, but for those that the config names a source of.

    Returns:
        (model, what to tell the user or "").
    """
    model, settings = make_model(config), config.train
    if settings.start_from:
        return model, start_from(model, settings.start_from)
    if config.model.norm == "frozen_bn" and not config.model.backbone_weights:
        logging.warning(
            "model.backbone_weights is empty: a random backbone whose batch norm is frozen hardly learns; "
            "give weights, or set model.norm=group_norm and model.frozen_stages=0"
        )
    head_stage = getattr(getattr(model, "box_head", None), "stage", ())
    load_backbone_weights(model.backbone, config.model, head_stage)
    return model, ""
