"""A model's losses on held-out photos, beside its detections there.

They are those of training, with three differences: nothing is learned meanwhile (batch norm and dropout
are as at test time), proposals are as many as at test time, and what is drawn depends on the photo
alone. So two evaluations differ by the weights alone, and their curve can be compared with itself.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from fpn_tf.data.pipeline import truth_keys


class BatchLosses(NamedTuple):
    """The losses of a batch."""

    losses: dict  # {name: float32 [1]}, means over its photos
    photos: Any  # float32 [1], how many they are; 0 of a blank image


def losses_of(model, batch, outputs, has_classes):
    """The BatchLosses of a batch.

    Args:
        model: `fpn_tf.models.detector.Detector`.
        batch: of `fpn_tf.data.pipeline.evaluation_batches`.
        outputs: what `model.propose` gives of it at test time.
        has_classes: whether the model knows classes; it learns nothing from objects of others.
    """
    y = {key: batch[key] for key in truth_keys(model.truth_fields, batch)}
    if has_classes:
        y["valid"] = ops.logical_and(y["valid"], y["classes"] <= model.num_classes)
    losses = model.compute_losses(y, outputs, training=False)
    losses = losses | {"total_loss": model.total_loss(losses)}
    photos = ops.sum(ops.cast(batch["indices"] >= 0, "float32"), keepdims=True)
    return BatchLosses({name: ops.reshape(value, [1]) for name, value in losses.items()}, photos)


def mean_losses(of_batches):
    """The means over all photos: {name: float}, of what is finite.

    Args:
        of_batches: a list of BatchLosses of NumPy arrays, with a row of each replica.
    """
    photos = np.concatenate([batch.photos for batch in of_batches])
    means = {}
    for name in of_batches[0].losses:
        values = np.concatenate([batch.losses[name] for batch in of_batches])[photos > 0]
        mean = np.average(values.astype(float), weights=photos[photos > 0]) if values.size else math.nan
        means[name] = float(mean)
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
