"""`fpn_tf.CocoMetrics`: COCO's numbers after every epoch of `fit`."""

from typing import Any

import keras

from fpn_tf.config import SCORERS
from fpn_tf.evaluation.api import open_scored, score
from fpn_tf.evaluation.scorers import check_scorer
from fpn_tf.structures import FilePath


class CocoMetrics(keras.callbacks.Callback):
    """Scores the model on held-out photos at the end of each epoch, and adds the numbers to the logs.

    The logs have COCO's 12 numbers by name (`AP`, `AP50`, ...) and `AP/<class>`, so that callbacks that
    come after this one can watch them: Keras' EarlyStopping and ModelCheckpoint, with mode="max".

    Args:
        annotations: path of a COCO-format JSON file.
        images: folder that holds each image's `file_name`.
        scorer: as `fpn_tf.evaluate` takes it.

    Raises:
        ConfigError: the scorer is not installed.
        DataError: when training begins: as `fpn_tf.evaluate`.

    Example:

    >>> stopping = keras.callbacks.EarlyStopping("AP", mode="max", patience=3)
    >>> callbacks = [fpn_tf.CocoMetrics("val.json", "photos"), stopping]  # of model.fit
    """

    def __init__(self, annotations: FilePath, images: FilePath, scorer: str = SCORERS[0]):
        super().__init__()
        check_scorer(scorer, "scorer")
        self.annotations, self.images, self.scorer = annotations, images, scorer
        self.dataset: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.dataset = open_scored(self.model, self.annotations, self.images)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        metrics = score(self.model, self.dataset, self.scorer)
        logs |= {name: value for name, value in metrics.items() if name != "per_class"}
        logs |= {f"AP/{name}": value for name, value in metrics.get("per_class", {}).items()}
