"""A region proposal network on a feature pyramid: the first half of the detector, and a model itself.

images -> resnet -> fpn -> rpn_head -> proposal_decoder
"""

import keras
from keras import ops

from fpn_tf import losses
from fpn_tf.geometry.anchor_grid import anchor_grid, cell_anchors
from fpn_tf.geometry.noise import uniform_noise
from fpn_tf.models.base import RPN_STREAM, PyramidModel, ground_truth
from fpn_tf.models.proposal_decoder import decode_proposals
from fpn_tf.models.rpn_head import RPNHead, UnsharedRPNHead
from fpn_tf.structures import BatchDetections, Losses, NetOutputs, RPNOutputs
from fpn_tf.targets.rpn_targets import assign_rpn_targets


@keras.saving.register_keras_serializable("fpn_tf")
class RPN(PyramidModel):
    """Proposes boxes for whatever may be an object; `fpn_tf.FasterRCNN` goes on from it.

    `call(x, training=True)` gives NetOutputs; `call(x)` gives BatchDetections, here the proposals:
    their score is the objectness, their class always 1. With

        x = {"images": [B, H, W, 3] RGB of 0..255, H and W multiples of 32, padding at the bottom
                 right; uint8, or float32 where `data.resize` does not round,
             "image_sizes": int32 [B, 2], (height, width) of the image proper}
        y = {"boxes": float32 [B, G, 4], "classes": int32 [B, G] (1..K), "valid": bool [B, G],
             "sample_seeds": int32 [B]}

    `fit`, `evaluate` and `train_on_batch` train and score the losses. `sample_seeds` decide which
    anchors are drawn: use other seeds at every step.

    Args:
        config: `fpn_tf.Config`.

    Raises:
        ConfigError: a bad value in the config.
    """

    def build_heads(self):
        super().build_heads()
        rpn = self.config.model.rpn
        self.cell_anchors = cell_anchors(
            self.levels, rpn.anchor_sizes, rpn.anchor_ratios, rpn.anchor_rounding
        )
        kind = RPNHead if rpn.shared_head else UnsharedRPNHead
        self.rpn_head = kind(
            self.config.model.anchors_per_cell, rpn.conv_layers, name="rpn_head", dtype=self.dtype_policy
        )
        self.rpn_head.build({f"p{level}": (None, None, None, self.map_channels) for level in self.levels})
        self.rpn_head.built = True

    def forward(self, inputs, training):
        """Images -> NetOutputs: what both training and detection need."""
        pyramid = self.pyramid(inputs, training)
        logits, deltas = self.rpn_head(pyramid)
        rpn = RPNOutputs(logits, deltas, self.anchors(pyramid, ops.shape(inputs["images"])[1:3]))
        return NetOutputs(pyramid, rpn, self.propose(rpn, inputs["image_sizes"], training))

    def propose(self, rpn, image_sizes, training=False):
        """RPNOutputs -> Proposals, as many as the config says for training or for detection."""
        config = self.config.model.rpn
        if training:
            limits = config.pre_nms_train, config.post_nms_train
        else:
            limits = config.pre_nms_test, config.post_nms_test
        return decode_proposals(rpn, image_sizes, *limits, config)

    def anchors(self, pyramid, canvas):
        """{level name: [H*W*A, 4]} for the maps of a pyramid over a canvas of (height, width)."""
        anchors = {}
        for level, cell in self.cell_anchors.items():
            size = ops.shape(pyramid[f"p{level}"])[1:3]
            stride = 2**level
            if self.config.model.rpn.strides_from_sizes:
                stride = tuple(side // cells for side, cells in zip(canvas, size))
            anchors[f"p{level}"] = anchor_grid(size, stride, cell)
        return anchors

    def detections(self, outputs, image_sizes):
        """NetOutputs -> BatchDetections: the proposals."""
        boxes, logits, valid, _ = outputs.proposals
        scores = ops.where(valid, ops.sigmoid(logits), 0.0)
        return BatchDetections(boxes, scores, ops.cast(valid, "int32"), valid)

    def rpn_losses(self, y, outputs):
        """(rpn_objectness_loss, rpn_box_loss) of a batch; see `compute_losses`."""
        config = self.config.model.rpn
        anchors = ops.concatenate(list(outputs.rpn.anchors.values()), axis=0)
        noise = uniform_noise(y["sample_seeds"], ops.shape(anchors)[0], RPN_STREAM)
        targets = assign_rpn_targets(anchors, ground_truth(y), noise, config)
        sampled = self.rpn_head.at_anchors(outputs.pyramid, targets.indices)
        return losses.rpn_losses(*sampled, targets, config.smooth_l1_beta)

    def compute_losses(self, y, outputs, training=True):
        """The losses of a batch.

        Args:
            y: as in the class docstring.
            outputs: NetOutputs of the same batch.
            training: whether the box head's batch norm (if there is one) learns.

        Returns:
            Losses, means over the images of the batch; those of a box head are 0 without one.
        """
        del training
        objectness_loss, box_loss = self.rpn_losses(y, outputs)
        nothing = ops.zeros(())
        return Losses(objectness_loss, box_loss, nothing, nothing, objectness_loss + box_loss)

    @property
    def max_detections(self):
        """The most boxes that one image can have."""
        return self.config.model.rpn.post_nms_test
