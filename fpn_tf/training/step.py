"""One optimisation step, on every replica."""

from typing import NamedTuple

import keras
import tensorflow as tf

from fpn_tf.structures import Losses, MaskLosses


class StepResult(NamedTuple):
    """What every worker learns of a step."""

    losses: Losses | MaskLosses  # of the whole global batch, before the update
    finite: bool  # whether the gradient was a number throughout
    stop: bool  # whether any worker asked to stop


def make_train_step(model, optimizer, cluster, element_spec, accumulation_steps=1):
    """The compiled step.

    Args:
        model: FasterRCNN or RPN.
        optimizer: a Keras optimizer, built on the model's trainable variables.
        cluster: Cluster.
        element_spec: of the distributed (x, y) batches; one trace serves all their shapes.
        accumulation_steps: micro-batches that a replica's batch is cut into, in order.

    Returns:
        (x, y, stop) -> StepResult; `stop` is this worker's wish.
    """
    strategy, replicas = cluster.strategy, cluster.replicas
    # Loss scaling meets infinite gradients on purpose, and passes over them itself.
    scales_loss = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def replica_step(x, y):
        variables = model.trainable_variables
        values = [v.value for v in variables]
        total, summed = None, None
        for part in range(accumulation_steps):
            px, py = (_micro_batch(t, part, accumulation_steps) for t in (x, y))
            with tf.GradientTape() as tape:
                losses = model.compute_losses(py, model(px, training=True))
                # Means over the micro-batch: their mean over parts and replicas is the global one.
                objective = optimizer.scale_loss(losses.total_loss / (replicas * accumulation_steps))
            gradients = tape.gradient(objective, values)
            shares = [loss / accumulation_steps for loss in losses]
            total = shares if total is None else [a + b for a, b in zip(total, shares)]
            summed = gradients if summed is None else [a + b for a, b in zip(summed, gradients)]
        finite = scales_loss or tf.math.is_finite(tf.linalg.global_norm(summed))
        optimizer.apply(summed, variables)
        return total, tf.cast(finite, tf.float32)

    @tf.function(
        input_signature=[*element_spec, tf.TensorSpec([], tf.bool)], jit_compile=False, autograph=False
    )
    def train_step(x, y, stop):
        per_replica, finite = strategy.run(replica_step, args=(x, y))
        stops = strategy.run(lambda: tf.cast(stop, tf.float32))
        losses = [strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None) for loss in per_replica]
        sums = [strategy.reduce(tf.distribute.ReduceOp.SUM, flag, axis=None) for flag in (finite, stops)]
        return losses, sums

    def step(x, y, stop):
        losses, (finite, stops) = train_step(x, y, tf.constant(stop))
        return StepResult(model.losses_type(*map(float, losses)), float(finite) == replicas, float(stops) > 0)

    return step


def _micro_batch(tensors, part, parts):
    if parts == 1:
        return tensors
    return {key: tf.split(value, parts)[part] for key, value in tensors.items()}
