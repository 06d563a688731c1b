"""One optimisation step, on every replica."""

from typing import NamedTuple

import keras
import tensorflow as tf


class StepResult(NamedTuple):
    """The outcome of a step, the same on every worker."""

    losses: dict[str, float]  # means over the global batch, before the update; total_loss is the last
    finite: bool  # whether the gradient was a number throughout
    stop: bool  # whether any worker asked to stop


def make_train_step(model, optimizer, cluster, element_spec, accumulation_steps=1):
    """The compiled step.

    Args:
        model: `fpn_tf.models.detector.Detector`.
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
        losses, gradients = gradients_in_parts(model, optimizer, x, y, replicas, accumulation_steps)
        finite = scales_loss or tf.math.is_finite(tf.linalg.global_norm(gradients))
        optimizer.apply(gradients, model.trainable_variables)
        return losses, tf.cast(finite, tf.float32)

    @tf.function(
        input_signature=[*element_spec, tf.TensorSpec([], tf.bool)], jit_compile=False, autograph=False
    )
    def train_step(x, y, stop):
        per_replica, finite = strategy.run(replica_step, args=(x, y))
        stops = strategy.run(lambda: tf.cast(stop, tf.float32))
        mean, total = tf.distribute.ReduceOp.MEAN, tf.distribute.ReduceOp.SUM
        losses = {name: strategy.reduce(mean, loss, axis=None) for name, loss in per_replica.items()}
        return losses, [strategy.reduce(total, flag, axis=None) for flag in (finite, stops)]

    def step(x, y, stop):
        losses, (finite, stops) = train_step(x, y, tf.constant(stop))
        losses = {name: float(losses[name]) for name in (*model.loss_names, "total_loss")}
        return StepResult(losses, float(finite) == replicas, float(stops) > 0)

    return step


def gradients_in_parts(model, optimizer, x, y, replicas, parts):
    """The losses and gradients of one replica's batch, as means over its micro-batches.

    Args:
        model, optimizer: see `make_train_step`.
        x, y: dicts of tensors [B, ...].
        replicas: how many share the global batch; gradients are summed over them.
        parts: micro-batches.

    Returns:
        ({name: scalar, "total_loss": scalar}, gradients of `model.trainable_variables`).
    """
    values = [v.value for v in model.trainable_variables]
    mean_losses, gradients = None, None
    for part in range(parts):
        part_x, part_y = (_micro_batch(tensors, part, parts) for tensors in (x, y))
        seed_dropout(model, part_y["sample_seeds"])
        with tf.GradientTape() as tape:
            losses = model.compute_losses(part_y, model(part_x, training=True))
            losses = losses | {"total_loss": model.total_loss(losses)}
            # Means over the micro-batch: their mean over parts and replicas is the global one.
            objective = optimizer.scale_loss(losses["total_loss"] / (replicas * parts))
        part_gradients = tape.gradient(objective, values)
        shares = {name: loss / parts for name, loss in losses.items()}
        if part == 0:
            mean_losses, gradients = shares, part_gradients
        else:
            mean_losses = {name: mean_losses[name] + share for name, share in shares.items()}
            gradients = [a + b for a, b in zip(gradients, part_gradients)]
    return mean_losses, gradients


def seed_dropout(model, sample_seeds):
    """Has the model's dropout layers, if there are any, draw what depends on a micro-batch alone.

    Their generators' states are then nothing that a checkpoint has to hold.

    Args:
        model: `fpn_tf.models.detector.Detector`.
        sample_seeds: int32 [B], of the images.
    """
    others = {id(v) for v in (*model.weights, *model.metrics_variables)}
    states = [v for v in model.variables if id(v) not in others]
    for number, state in enumerate(states):
        state.assign(tf.cast(tf.stack([number, sample_seeds[0]]), state.dtype))


def _micro_batch(tensors, part, parts):
    if parts == 1:
        return tensors
    return {key: tf.split(value, parts)[part] for key, value in tensors.items()}
