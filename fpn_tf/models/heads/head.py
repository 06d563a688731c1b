"""What somebody's own head on RoIs has to be."""

from typing import Any

import keras

from fpn_tf.structures import Array, BatchDetections, Pyramid, ROITargets, TruthField


@keras.saving.register_keras_serializable("fpn_tf")
class Head(keras.layers.Layer):
    """A further head of a `fpn_tf.FasterRCNN`: says more about a box than its class and place.

    A subclass gives `predict` and `losses`, names its losses in `loss_names`, and names in
    `truth_fields` what it wants to know of every annotation. Its weights are created by what
    `predict` calls. It is registered, so that it can be saved.

    Args:
        **kwargs: of `keras.Layer`.

    Attributes:
        loss_names: of what `losses` gives.
        truth_fields: {name of a field of the annotations: TruthField}; `rois.fields[name]` has its
            values, [B, R, *shape], meaningful where `rois.classes > 0`.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class ColourHead(fpn_tf.Head):
    ...     loss_names = ("colour_loss",)
    ...     truth_fields = {"colour": fpn_tf.TruthField()}  # a whole number in every annotation
    ...
    ...     def __init__(self, colours=4, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.colours, self.pool = colours, fpn_tf.ROIAlign(7)
    ...         self.classifier = keras.layers.Dense(colours)
    ...
    ...     def predict(self, pyramid, boxes, training=False):
    ...         features = self.pool(pyramid, boxes)  # [B, R, 7, 7, C]
    ...         return {"colour": self.classifier(keras.ops.mean(features, axis=(2, 3)))}
    ...
    ...     def losses(self, pyramid, rois, training=True):
    ...         logits, colours = self.predict(pyramid, rois.rois)["colour"], rois.fields["colour"]
    ...         loss = keras.losses.sparse_categorical_crossentropy(colours, logits, from_logits=True)
    ...         is_counted = rois.valid & (rois.classes > 0)
    ...         return {"colour_loss": fpn_tf.losses.mean_per_image(loss, is_counted)}
    ...
    ...     def get_config(self):
    ...         return super().get_config() | {"colours": self.colours}
    >>> model = fpn_tf.FasterRCNN(backbone="resnet_tiny", num_classes=3, heads=[ColourHead()])
    >>> model.loss_names[-1]
    'colour_loss'
    """

    loss_names: tuple[str, ...] = ()
    truth_fields: dict[str, TruthField] = {}  # noqa: RUF012  (a subclass has its own)

    def __init__(self, **kwargs: Any):
        super().__init__(**{"autocast": False} | kwargs)

    def predict(self, pyramid: Pyramid, boxes: Array, training: bool = False) -> dict[str, Array]:
        """What is said of boxes.

        Args:
            pyramid: {"p2": [B, H, W, C], ...}.
            boxes: [B, R, 4], pixels of the resized images.
            training: whether batch norm and the like learn.

        Returns:
            {name: [B, R, ...]}.
        """
        raise NotImplementedError(f"{type(self).__name__}.predict: expected of every head")

    def losses(self, pyramid: Pyramid, rois: ROITargets, training: bool = True) -> dict[str, Array]:
        """The losses on the sampled RoIs.

        Args:
            pyramid: as in `predict`.
            rois: ROITargets.
            training: as in `predict`.

        Returns:
            {name: scalar}, of `loss_names`. Divide by each image's own count, then average over
            images (`fpn_tf.losses.mean_per_image`): then replicas and micro-batches change nothing.
        """
        raise NotImplementedError(f"{type(self).__name__}.losses: expected of every head")

    def extend(self, detections: BatchDetections, pyramid: Pyramid) -> BatchDetections:
        """BatchDetections with what this head says of them in `extra`."""
        return detections._replace(extra={**detections.extra, **self.predict(pyramid, detections.boxes)})

    def call(self, pyramid, boxes, training=False):
        return self.predict(pyramid, boxes, training)
