"""Fast R-CNN on a feature pyramid: a detector of fixed proposals (FPN paper, Table 2).

images, proposals -> resnet -> fpn -> box_head -> detection_decoder
"""

import keras
import numpy as np
from keras import ops

from fpn_tf.models.base import PyramidModel
from fpn_tf.models.roi_stage import ROIStage
from fpn_tf.structures import Losses, NetOutputs, Proposals


@keras.saving.register_keras_serializable("fpn_tf")
class FastRCNN(ROIStage, PyramidModel):
    """Classifies and refines boxes that come with the images.

    As `fpn_tf.FasterRCNN`, but that x holds the proposals, best first:

        x = {..., "proposal_boxes": float32 [B, P, 4], "proposal_valid": bool [B, P]}

    Args:
        config: `fpn_tf.Config` with `model.num_classes` set.

    Raises:
        ConfigError: a bad value in the config.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **{"name": "fast_rcnn"} | kwargs)

    def x_spec(self):
        more = {"proposal_boxes": ((None, None, 4), "float32"), "proposal_valid": ((None, None), "bool")}
        return super().x_spec() | more

    def forward(self, inputs, training):
        """x -> NetOutputs, whose `rpn` is None."""
        boxes, valid = ops.cast(inputs["proposal_boxes"], "float32"), inputs["proposal_valid"]
        rank = ops.broadcast_to(ops.arange(ops.shape(boxes)[1], dtype="int32"), ops.shape(valid))
        proposals = Proposals(boxes, ops.zeros_like(boxes[..., 0]), valid, rank)
        return NetOutputs(self.pyramid(inputs, training), None, proposals)

    def compute_losses(self, y, outputs, training=True):
        """The losses of a batch; those of an RPN are 0."""
        class_loss, box_loss = self.roi_losses(y, outputs, training)
        nothing = ops.zeros(())
        return Losses(nothing, nothing, class_loss, box_loss, class_loss + box_loss)

    def detect(self, images, proposals):
        """As `PyramidModel.detect`, among given boxes.

        Args:
            images: photos as uint8 [H, W, 3] RGB arrays.
            proposals: for each photo its boxes [P, 4], in the photo's pixels.
        """
        detector = self.detector()
        return [
            self._detect_one(detector, np.asarray(image), i, lambda scale, b=boxes: fixed(b * scale))
            for i, (image, boxes) in enumerate(zip(images, proposals, strict=True))
        ]


def fixed(boxes):
    """The boxes of one image [P, 4] as the inputs of a batch of one."""
    boxes = np.asarray(boxes, np.float32).reshape(1, -1, 4)
    padded = np.zeros((1, max(boxes.shape[1], 1), 4), np.float32)
    padded[:, : boxes.shape[1]] = boxes
    valid = np.arange(padded.shape[1])[None] < boxes.shape[1]
    return {"proposal_boxes": padded, "proposal_valid": valid}
