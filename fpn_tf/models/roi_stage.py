"""The second stage of a detector: boxes -> pooled maps -> box head -> detections.

A mixin for models on `fpn_tf.models.base.PyramidModel`, wherever their boxes come from.
"""

import numpy as np
from keras import ops

from fpn_tf import config as config_lib
from fpn_tf import losses
from fpn_tf.geometry.noise import noise_of, uniform_noise
from fpn_tf.models.base import GT_STREAM, ROI_STREAM, ground_truth
from fpn_tf.models.box_head import BoxHead, Conv5Head
from fpn_tf.models.detection_decoder import decode_detections
from fpn_tf.models.roi_pooler import ROIAlign, ROIPool
from fpn_tf.structures import Proposals
from fpn_tf.targets.roi_targets import sample_rois


class ROIStage:
    """A RoI pooler and a box head, their losses and their detections."""

    def __init__(self, config, **kwargs):
        config_lib.check(config.model.num_classes >= 1, "model.num_classes=0: expected the number of classes")
        super().__init__(config, **kwargs)

    def build_heads(self):
        super().build_heads()
        roi = self.config.model.roi
        placing = {"canonical_size": roi.canonical_size, "canonical_level": roi.canonical_level}
        if roi.pooling == "max":
            self.roi_pooler = ROIPool(roi.pool_size, **placing, name="roi_pooler", autocast=False)
        else:
            self.roi_pooler = ROIAlign(
                roi.pool_size,
                roi.sampling_ratio,
                roi.aligned,
                **placing,
                inclusive=roi.inclusive,
                name="roi_pooler",
                autocast=False,
            )
        self.box_head = self._make_box_head()
        self.box_head.build((None, None, roi.pool_size, roi.pool_size, self.map_channels))
        self.box_head.built = self.roi_pooler.built = True

    def _make_box_head(self):
        model, roi = self.config.model, self.config.model.roi
        options = {"name": "box_head", "dtype": self.dtype_policy}
        if roi.head == "conv5":
            learns = model.frozen_stages < 5
            return Conv5Head(model.num_classes, self.backbone.get_config(), learns, **options)
        return BoxHead(
            model.num_classes, roi.hidden_units, roi.fc_layers, roi.conv_layers, roi.norm, **options
        )

    def classify(self, pyramid, boxes, training=False):
        """Boxes [B, R, 4] -> the box head's (logits [B, R, K+1], deltas [B, R, K, 4])."""
        # p6 is the RPN's alone.
        pooled_from = {f"p{level}": pyramid[f"p{level}"] for level in self.levels if level <= 5}
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

    def roi_losses(self, y, outputs, training):
        """(head_class_loss, head_box_loss) of a batch, on RoIs drawn from its proposals."""
        config, gt = self.config.model.roi, ground_truth(y)
        proposals = Proposals(*(ops.stop_gradient(x) for x in outputs.proposals))
        # Noise belongs to the anchor that a proposal comes from, not to its rank: two of almost
        # equal scores may change places, and the same boxes are drawn.
        seeds, count = y["sample_seeds"], ops.shape(gt.boxes)[1]
        noise = noise_of(proposals.anchors, seeds, ROI_STREAM), uniform_noise(seeds, count, GT_STREAM)
        noise = ops.concatenate(noise, axis=1)
        targets = sample_rois(proposals, gt, noise, config)
        predicted = self.classify(outputs.pyramid, targets.rois, training)
        return losses.head_losses(*predicted, targets, config.smooth_l1_beta)

    def category_ids(self):
        """int64 [K]: the data set's id of each class."""
        ids = self.config.data.category_ids or range(1, self.config.model.num_classes + 1)
        return np.asarray(ids, np.int64)

    @property
    def max_detections(self):
        """The most boxes that one image can have."""
        return self.config.eval.max_detections
