"""Faster R-CNN on a feature pyramid: the parts joined.

images -> resnet -> fpn -> rpn_head -> proposal_decoder -> box_head -> detection_decoder
"""

import keras
import numpy as np
from keras import ops

from fpn_tf import config as config_lib
from fpn_tf import losses
from fpn_tf.geometry.noise import noise_of, uniform_noise
from fpn_tf.models.box_head import BoxHead
from fpn_tf.models.detection_decoder import decode_detections
from fpn_tf.models.roi_pooler import ROIAlign
from fpn_tf.models.rpn import GT_STREAM, LEVELS, ROI_STREAM, RPN, ground_truth
from fpn_tf.structures import Losses, Proposals
from fpn_tf.targets.roi_targets import sample_rois


@keras.saving.register_keras_serializable("fpn_tf")
class FasterRCNN(RPN):
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
        config_lib.check(config.model.num_classes >= 1, "model.num_classes=0: expected the number of classes")
        super().__init__(config, **{"name": "faster_rcnn"} | kwargs)

    def build(self, input_shape=None):
        """Creates the weights; they depend on the config alone."""
        if self.built:
            return
        model, roi = self.config.model, self.config.model.roi
        self.roi_pooler = ROIAlign(
            roi.pool_size,
            roi.sampling_ratio,
            roi.aligned,
            roi.canonical_size,
            roi.canonical_level,
            roi.inclusive,
            name="roi_pooler",
            autocast=False,
        )
        self.box_head = BoxHead(
            model.num_classes,
            roi.hidden_units,
            roi.fc_layers,
            roi.conv_layers,
            roi.norm,
            name="box_head",
            dtype=self.dtype_policy,
        )
        size = roi.pool_size
        self.box_head.build((None, None, size, size, model.fpn_channels))
        self.box_head.built = self.roi_pooler.built = True
        super().build()

    def classify(self, pyramid, boxes, training=False):
        """Boxes [B, R, 4] -> the box head's (logits [B, R, K+1], deltas [B, R, K, 4])."""
        pooled_from = {f"p{level}": pyramid[f"p{level}"] for level in LEVELS[:-1]}
        return self.box_head(self.roi_pooler(pooled_from, boxes), training=training)

    def detections(self, outputs, image_sizes):
        """NetOutputs -> BatchDetections."""
        logits, deltas = self.classify(outputs.pyramid, outputs.proposals.boxes)
        return self.decode(logits, deltas, outputs.proposals, image_sizes)

    def decode(self, logits, deltas, proposals, image_sizes):
        """The box head's outputs on Proposals -> BatchDetections."""
        test = self.config.eval
        return decode_detections(
            logits,
            deltas,
            proposals,
            image_sizes,
            self.config.model.roi.box_weights,
            test.score_threshold,
            test.nms_threshold,
            test.max_detections,
            self.config.model.roi.min_size,
        )

    def compute_losses(self, y, outputs, training=True):
        """As `RPN.compute_losses`, with the box head's."""
        objectness_loss, rpn_box_loss = self.rpn_losses(y, outputs)

        config, gt = self.config.model.roi, ground_truth(y)
        proposals = Proposals(*(ops.stop_gradient(x) for x in outputs.proposals))
        # Noise belongs to the anchor that a proposal comes from, not to its rank: two of almost
        # equal scores may change places, and the same boxes are drawn.
        seeds, count = y["sample_seeds"], ops.shape(gt.boxes)[1]
        noise = noise_of(proposals.anchors, seeds, ROI_STREAM), uniform_noise(seeds, count, GT_STREAM)
        noise = ops.concatenate(noise, axis=1)
        targets = sample_rois(proposals, gt, noise, config)
        class_loss, head_box_loss = losses.head_losses(
            *self.classify(outputs.pyramid, targets.rois, training), targets, config.smooth_l1_beta
        )
        parts = (objectness_loss, rpn_box_loss, class_loss, head_box_loss)
        return Losses(*parts, total_loss=sum(parts))

    def category_ids(self):
        """int64 [K]: the data set's id of each class."""
        ids = self.config.data.category_ids or range(1, self.config.model.num_classes + 1)
        return np.asarray(ids, np.int64)

    @property
    def max_detections(self):
        """The most boxes that one image can have."""
        return self.config.eval.max_detections


def make_model(config):
    """The model that `model.kind` names."""
    return RPN(config) if config.model.kind == "rpn" else FasterRCNN(config)
