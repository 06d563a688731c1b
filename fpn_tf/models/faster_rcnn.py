"""Faster R-CNN on a feature pyramid: the parts joined.

images -> resnet -> fpn -> rpn_head -> proposal_decoder -> box_head -> detection_decoder
"""

import keras

from fpn_tf.models.fast_rcnn import FastRCNN
from fpn_tf.models.mask_proposals import MaskProposals
from fpn_tf.models.roi_stage import ROIStage
from fpn_tf.models.rpn import RPN
from fpn_tf.structures import Losses


@keras.saving.register_keras_serializable("fpn_tf")
class FasterRCNN(ROIStage, RPN):
    """The detector: an RPN, and a box head on its proposals.

    `call(x, training=True)` gives NetOutputs; `call(x)` gives BatchDetections. x and y are those
    of `fpn_tf.RPN`; the four losses of the paper are trained jointly. `sample_seeds` decide which
    anchors and RoIs are drawn.

    Args:
        config: `fpn_tf.Config` with `model.num_classes` set.

    Raises:
        ConfigError: a bad value in the config.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **{"name": "faster_rcnn"} | kwargs)

    def compute_losses(self, y, outputs, training=True):
        """As `RPN.compute_losses`, with the box head's."""
        parts = (*self.rpn_losses(y, outputs), *self.roi_losses(y, outputs, training))
        return Losses(*parts, total_loss=sum(parts))


def make_model(config):
    """The model that `model.kind` names."""
    kinds = {
        "rpn": RPN,
        "fast_rcnn": FastRCNN,
        "faster_rcnn": FasterRCNN,
        "mask_proposals": MaskProposals,
    }
    return kinds[config.model.kind](config)
