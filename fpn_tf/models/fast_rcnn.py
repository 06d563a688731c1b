"""Fast R-CNN on a feature pyramid: a detector of fixed proposals (FPN paper, Table 2).

images, proposals -> backbone -> neck -> box head -> detections
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fpn_tf.geometry.selection import sizes_of
from fpn_tf.models.detector import Detector, photos_of
from fpn_tf.models.heads.box import BoxStage
from fpn_tf.models.necks.feature_pyramid import FeaturePyramid
from fpn_tf.models.old_calls import accepts_config
from fpn_tf.photo_forms import Photo
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import Array, BatchDetections, Detections, Outputs, Proposals
from fpn_tf.targets.box_targets import ground_truth


@keras.saving.register_keras_serializable("fpn_tf")
class FastRCNN(Detector):
    """Classifies and refines boxes that come with the images.

    As `fpn_tf.FasterRCNN`, but that the inputs hold the proposals, best first:

        {..., "proposal_boxes": float32 [B, P, 4], "proposal_valid": bool [B, P]}

    Args:
        backbone, num_classes, neck, box_head, preprocessor, name, **kwargs: see `fpn_tf.FasterRCNN`.

    Raises:
        ValueError: the number of classes is missing, or said twice in two ways.

    Example:

    >>> model = fpn_tf.FastRCNN(backbone="resnet_tiny", num_classes=3)
    >>> model.num_classes, model.loss_names
    (3, ('head_class_loss', 'head_box_loss'))

    Source: Girshick, arXiv 1504.08083; FPN paper, Table 2.
    """

    kind = "fast_rcnn"
    part_names = ("backbone", "neck", "box_head")

    @accepts_config
    def __init__(
        self,
        backbone: str | keras.Layer = "resnet50",
        num_classes: int | None = None,
        neck: keras.Layer | None = None,
        box_head: BoxStage | None = None,
        preprocessor: Preprocessor | None = None,
        name: str = "fast_rcnn",
        **kwargs: Any,
    ):
        dtype = kwargs.get("dtype")
        neck = neck or FeaturePyramid(name="neck", dtype=dtype)
        super().__init__(backbone, neck, preprocessor, name=name, **kwargs)
        self.box_head = BoxStage.for_classes(num_classes, box_head, name="box_head", dtype=dtype)
        self.build()

    def x_spec(self) -> dict[str, tuple]:
        more = {"proposal_boxes": ((None, None, 4), "float32"), "proposal_valid": ((None, None), "bool")}
        return super().x_spec() | more

    def call(self, inputs, training=False):
        outputs = self.propose(inputs, training)
        return outputs if training else self.detections(outputs, inputs)

    def propose(self, inputs: dict[str, Array], training: bool = False) -> Outputs:
        """The inputs -> Outputs, whose `rpn` is None."""
        boxes, valid = ops.cast(inputs["proposal_boxes"], "float32"), inputs["proposal_valid"]
        images, count = sizes_of(valid)
        rank = ops.broadcast_to(ops.arange(count, dtype="int32"), [images, count])
        proposals = Proposals(boxes, ops.zeros_like(boxes[..., 0]), valid, rank)
        return Outputs(self.pyramid(inputs, training), None, proposals)

    def compute_losses(
        self, y: dict[str, Array], outputs: Outputs, training: bool = True
    ) -> dict[str, Array]:
        """Outputs and ground truth -> {name: scalar float32}."""
        rois = self.box_head.sample(outputs.proposals, ground_truth(y), y["sample_seeds"])
        return self.box_head.losses(outputs.pyramid, rois, training)

    def detections(self, outputs: Outputs, inputs: dict[str, Array]) -> BatchDetections:
        """Outputs -> BatchDetections."""
        threshold = inputs.get("score_threshold")
        return self.box_head.detect(outputs.pyramid, outputs.proposals, inputs["image_sizes"], threshold)

    def detect(  # type: ignore[override]  # it cannot do without boxes
        self, images: Sequence[Photo], proposals: Sequence[Array], score_threshold: float | None = None
    ) -> list[Detections]:
        """As `Detector.detect`, among given boxes.

        Args:
            images: a list of photos.
            proposals: for each photo its boxes [P, 4], in the photo's pixels.
            score_threshold: see there.

        Returns:
            A list of Detections, one per photo.

        Raises:
            ValueError: something that is no photo, or not one set of boxes for each.
            PhotoError: a file that cannot be read as one.
        """
        detections = []
        for photo, boxes in zip(photos_of(images), proposals, strict=True):
            size = photo.shape[:2]
            shown = self.preprocessor.boxes_shown(boxes, size, self.preprocessor.shown_size(size))
            detections.append(self.detect_one(photo, score_threshold, **fixed(shown)))
        return detections


def fixed(boxes):
    """The boxes of one image [P, 4] as the inputs of a batch of one."""
    boxes = np.asarray(boxes, np.float32).reshape(1, -1, 4)
    padded = np.zeros((1, max(boxes.shape[1], 1), 4), np.float32)
    padded[:, : boxes.shape[1]] = boxes
    valid = np.arange(padded.shape[1])[None] < boxes.shape[1]
    return {"proposal_boxes": padded, "proposal_valid": valid}
