"""A region proposal network as a model of its own: the first half of the detector.

images -> backbone -> neck -> RPN -> proposals
"""

from typing import Any

import keras
from keras import ops

from fpn_tf.models.class_agnostic import ClassAgnosticDetector, above
from fpn_tf.models.heads.rpn import ProposalStage
from fpn_tf.models.necks.feature_pyramid import FeaturePyramid
from fpn_tf.models.old_calls import accepts_config
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import Array, BatchDetections, Outputs
from fpn_tf.targets.box_targets import ground_truth


@keras.saving.register_keras_serializable("fpn_tf")
class RPN(ClassAgnosticDetector):
    """Proposes boxes for whatever may be an object.

    As `fpn_tf.FasterRCNN`, but that the proposals are what it detects: their score is the objectness,
    their class always 1.

    Args:
        backbone, neck, rpn, preprocessor, name, **kwargs: see `fpn_tf.FasterRCNN`.

    Example:

    >>> model = fpn_tf.RPN(backbone="resnet_tiny", neck=fpn_tf.FeaturePyramid(channels=16))
    >>> model.loss_names, model.class_names
    (('rpn_objectness_loss', 'rpn_box_loss'), {1: 'object'})

    Source: Ren et al., arXiv 1506.01497, sec. 3.1; FPN paper, sec. 4.1, Table 1.
    """

    kind = "rpn"
    part_names = ("backbone", "neck", "rpn")

    @accepts_config
    def __init__(
        self,
        backbone: str | keras.Layer = "resnet50",
        neck: keras.Layer | None = None,
        rpn: ProposalStage | None = None,
        preprocessor: Preprocessor | None = None,
        name: str = "rpn",
        **kwargs: Any,
    ):
        dtype = kwargs.get("dtype")
        neck = neck or FeaturePyramid(name="neck", dtype=dtype)
        super().__init__(backbone, neck, preprocessor, name=name, **kwargs)
        self.rpn = rpn or ProposalStage(name="rpn", dtype=dtype)
        self.build()

    def call(self, inputs, training=False):
        outputs = self.propose(inputs, training)
        return outputs if training else self.detections(outputs, inputs)

    def propose(self, inputs: dict[str, Array], training: bool = False) -> Outputs:
        """The inputs -> Outputs."""
        pyramid = self.pyramid(inputs, training)
        rpn_outputs = self.rpn.predict(pyramid, inputs["images"])
        proposals = self.rpn.propose(rpn_outputs, inputs["image_sizes"], training)
        return Outputs(pyramid, rpn_outputs, proposals)

    def compute_losses(
        self, y: dict[str, Array], outputs: Outputs, training: bool = True
    ) -> dict[str, Array]:
        """Outputs and ground truth -> {name: scalar float32}."""
        del training
        return self.rpn.losses(outputs.pyramid, outputs.rpn, ground_truth(y), y["sample_seeds"])

    def detections(self, outputs: Outputs, inputs: dict[str, Array]) -> BatchDetections:
        """Outputs -> BatchDetections: the proposals."""
        boxes, logits, valid, _ = outputs.proposals
        scores = ops.where(valid, ops.sigmoid(logits), 0.0)
        proposals = BatchDetections(boxes, scores, ops.cast(valid, "int32"), valid)
        return above(proposals, inputs.get("score_threshold"))
