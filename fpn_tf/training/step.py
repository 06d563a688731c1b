"""One optimisation step, on every replica."""

import tensorflow as tf

from fpn_tf.structures import Losses


def make_train_step(model, optimizer, strategy, element_spec, accumulation_steps=1):
    """The compiled step.

    Args:
        model: FasterRCNN.
        optimizer: a Keras optimizer, built on the model's trainable variables.
        strategy: tf.distribute.Strategy.
        element_spec: of the distributed (x, y) batches; one trace serves all their shapes.
        accumulation_steps: micro-batches that a replica's batch is cut into, in order.

    Returns:
        (x, y) -> Losses of the whole global batch, before the update.
    """
    replicas = strategy.num_replicas_in_sync

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
        optimizer.apply(summed, variables)
        return total

    @tf.function(input_signature=element_spec, jit_compile=False)
    def train_step(x, y):
        per_replica = strategy.run(replica_step, args=(x, y))
        return Losses(
            *(strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None) for loss in per_replica)
        )

    return train_step


def _micro_batch(tensors, part, parts):
    if parts == 1:
        return tensors
    return {key: tf.split(value, parts)[part] for key, value in tensors.items()}
