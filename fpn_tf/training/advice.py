"""What a user is told of a doubtful schedule, and of a step that gives no finite loss or gradient."""

import numpy as np

from fpn_tf.data import plan as plans
from fpn_tf.training.optimizer import make_schedule

FEW_PIXELS = 1.0  # boxes with a shorter side make deltas explode


def schedule_findings(train):
    """What is doubtful about a run's learning rate, in lines of text.

    Args:
        train: TrainConfig.
    """
    if 3 * train.warmup_steps <= train.steps:
        return []
    highest = float(np.max(make_schedule(train)(np.arange(train.steps))))
    return [
        f"train.warmup_steps={train.warmup_steps} is more than a third of train.steps={train.steps}: the "
        f"learning rate reaches {highest:.2g} of {train.peak_learning_rate:g}; expected at "
        f"most train.warmup_steps={train.steps // 3}"
    ]


def diagnosis(config, records, step, losses):
    """One line: the step, its losses, the images of its batch, and changes that may help.

    Args:
        config: Config.
        records: the data set's records.
        step: counted from 1.
        losses: {name: float}.
    """
    batch = batch_records(config, records, step)
    terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    ids = ", ".join(str(record.image_id) for record in batch)
    return (
        f"the loss or its gradient is not finite at step {step} ({terms}; image ids {ids}); "
        f"{'; '.join(advice_for(config, batch, step))}"
    )


def batch_records(config, records, step):
    """The records that a step's batch was planned to hold (an unreadable photo has a substitute)."""
    train = config.train
    plan = next(plans.training_plan(records, config.data, train.batch_size, train.seed, step - 1))
    return [records[i] for i in plan.indices]


def advice_for(config, batch, step):
    """Changes that may help, the likeliest first.

    Args:
        config: Config.
        batch: records of the step.
        step: counted from 1.

    Returns:
        A list of texts, not empty.
    """
    train, advice = config.train, []
    for record in batch:
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        if len(sides) and sides.min() < FEW_PIXELS:
            advice.append(
                f"image {record.image_id} has a box with a side of {sides.min():.2g} pixels: remove it"
            )
            break
    usual = train.base_learning_rate * train.batch_size / 16
    rate = train.peak_learning_rate
    if train.optimizer == "sgd" and rate > usual:
        advice.append(
            f"train.learning_rate={rate:g} is much for {train.batch_size} images a step: {usual:g} is usual"
        )
    if step <= max(2 * train.warmup_steps, 100):
        advice.append(f"lengthen train.warmup_steps={train.warmup_steps}")
    if config.model.norm == "frozen_bn" and not config.model.backbone_weights:
        advice.append("name model.backbone_weights: a random backbone with frozen batch norm diverges")
    if not train.clip_norm:
        advice.append("clip the gradient: train.clip_norm=10")
    return advice or [f"lower train.learning_rate={rate:g}"]
