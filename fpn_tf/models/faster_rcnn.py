"""Faster R-CNN on a feature pyramid, the page to read first: every stage is a part, joined here.

images -> backbone -> neck -> RPN -> proposals -> box head (and further heads) -> detections
"""

from collections.abc import Sequence
from typing import Any

import keras

from fpn_tf.models.detector import Detector
from fpn_tf.models.heads.box import BoxStage
from fpn_tf.models.heads.head import Head
from fpn_tf.models.heads.rpn import ProposalStage
from fpn_tf.models.necks.feature_pyramid import FeaturePyramid
from fpn_tf.models.old_calls import accepts_config
from fpn_tf.models.serialization import part_config
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import Array, BatchDetections, Outputs, TruthField
from fpn_tf.targets.box_targets import ground_truth


@keras.saving.register_keras_serializable("fpn_tf")
class FasterRCNN(Detector):
    """The detector: an RPN, a box head on its proposals, and any further heads on the same RoIs.

    `call(inputs, training=True)` gives Outputs, `call(inputs)` BatchDetections; the inputs are those
    of `fpn_tf.models.detector.Detector`. `fit`, `evaluate` and `train_on_batch` train and score the
    losses on

        y = {"boxes": float32 [B, G, 4], "classes": int32 [B, G] (1..K), "valid": bool [B, G],
             "sample_seeds": int32 [B], and a value per box for each of `truth_fields`}

    `sample_seeds` decide which anchors and RoIs are drawn.

    Args:
        backbone: see `Detector`.
        num_classes: K, without background; where a `box_head` is given, it says that itself.
        neck: a layer {"c2": ...} -> {"p2": ...}; by default `FeaturePyramid()`.
        rpn: `ProposalStage`; by default the paper's.
        box_head: `BoxStage`; by default the paper's.
        heads: further parts on the sampled RoIs, see `fpn_tf.Head`.
        preprocessor: `Preprocessor`; by default 800 pixels, at most 1333.
        name: of the model.
        **kwargs: of `keras.Model`; `dtype` may be a mixed-precision policy.

    Raises:
        ValueError: the number of classes is missing, or said twice in two ways.

    Example:

    >>> small = fpn_tf.Preprocessor(short_side=64, max_side=96)
    >>> model = fpn_tf.FasterRCNN(backbone="resnet_tiny", num_classes=3, preprocessor=small)
    >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    >>> [detections] = model.detect([np.zeros((64, 96, 3), "uint8")], score_threshold=0.5)
    >>> len(detections)
    0

    Source: FPN paper, sec. 4; Ren et al., arXiv 1506.01497.
    """

    kind = "faster_rcnn"
    part_names = ("backbone", "neck", "rpn", "box_head")

    @accepts_config
    def __init__(
        self,
        backbone: str | keras.Layer = "resnet50",
        num_classes: int | None = None,
        neck: keras.Layer | None = None,
        rpn: ProposalStage | None = None,
        box_head: BoxStage | None = None,
        heads: Sequence[Head] = (),
        preprocessor: Preprocessor | None = None,
        name: str = "faster_rcnn",
        **kwargs: Any,
    ):
        dtype = kwargs.get("dtype")
        neck = neck or FeaturePyramid(name="neck", dtype=dtype)
        super().__init__(backbone, neck, preprocessor, name=name, **kwargs)
        self.rpn = rpn or ProposalStage(name="rpn", dtype=dtype)
        self.box_head = BoxStage.for_classes(num_classes, box_head, name="box_head", dtype=dtype)
        self.heads: list[Any] = list(heads)
        self.build()

    def build_stages(self, pyramid):
        super().build_stages(pyramid)
        boxes = keras.KerasTensor((None, None, 4), dtype="float32")
        for head in self.heads:
            head(pyramid, boxes)  # creates its weights

    # The forward pass, the losses, the detections -----------------------------------------------

    def call(self, inputs, training=False):
        outputs = self.propose(inputs, training)
        return outputs if training else self.detections(outputs, inputs)

    def propose(self, inputs: dict[str, Array], training: bool = False) -> Outputs:
        """The inputs -> Outputs: what training and detection both need."""
        pixels = self.preprocessor.pixels(inputs)
        pyramid = self.neck(self.backbone(pixels, training=training), training=training)
        rpn_outputs = self.rpn.predict(pyramid, inputs["images"])
        proposals = self.rpn.propose(rpn_outputs, inputs["image_sizes"], training)
        return Outputs(pyramid, rpn_outputs, proposals)

    def compute_losses(
        self, y: dict[str, Array], outputs: Outputs, training: bool = True
    ) -> dict[str, Array]:
        """Outputs and ground truth -> {name: scalar float32}, means over the images of the batch."""
        truth, seeds = ground_truth(y, self.truth_fields), y["sample_seeds"]
        losses = self.rpn.losses(outputs.pyramid, outputs.rpn, truth, seeds)
        rois = self.box_head.sample(outputs.proposals, truth, seeds)
        for head in (self.box_head, *self.heads):
            losses |= head.losses(outputs.pyramid, rois, training)
        return losses

    def detections(self, outputs: Outputs, inputs: dict[str, Array]) -> BatchDetections:
        """Outputs -> BatchDetections."""
        threshold = inputs.get("score_threshold")
        detections = self.box_head.detect(
            outputs.pyramid, outputs.proposals, inputs["image_sizes"], threshold
        )
        for head in self.heads:
            detections = head.extend(detections, outputs.pyramid)
        return detections

    # What its parts say about themselves ----------------------------------------------------------

    @property
    def stages(self) -> tuple[Any, ...]:
        return (self.rpn, self.box_head, *self.heads)

    @property
    def truth_fields(self) -> dict[str, TruthField]:
        return {name: field for head in self.heads for name, field in head.truth_fields.items()}

    def get_config(self):
        return super().get_config() | {"heads": part_config(self.heads)}
