"""Segment proposals on a feature pyramid (FPN paper, sec. 6, Table 6).

images -> backbone -> neck -> segment heads -> segments of the highest scores
"""

from typing import Any

import keras
import numpy as np

from fpn_tf.models.class_agnostic import ClassAgnosticDetector, above
from fpn_tf.models.heads.segment import SegmentStage
from fpn_tf.models.necks.feature_pyramid import FeaturePyramid
from fpn_tf.models.old_calls import accepts_config
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import Array, BatchSegments, Outputs, SegmentDetections, Size
from fpn_tf.targets.box_targets import ground_truth


@keras.saving.register_keras_serializable("fpn_tf")
class SegmentProposals(ClassAgnosticDetector):
    """Proposes segments for whatever may be an object, without classes.

    `call(inputs)` gives BatchSegments, the windows of the highest scores; nothing is suppressed. y holds
    besides what `fpn_tf.FasterRCNN` wants

        y = {..., "segments": uint8 [B, G, S, S], see `fpn_tf.data.segments.in_box`,
             "image_sizes": as in the inputs}

    Args:
        backbone, neck, preprocessor, name, **kwargs: see `fpn_tf.FasterRCNN`.
        segment_head: `fpn_tf.models.heads.segment.SegmentStage`; by default the paper's.

    Example:

    >>> model = fpn_tf.SegmentProposals(backbone="resnet_tiny", neck=fpn_tf.FeaturePyramid(channels=16))
    >>> model.loss_names, model.max_detections
    (('segment_score_loss', 'segment_loss'), 1000)

    Source: FPN paper, sec. 6 and appendix.
    """

    kind = "segment_proposals"
    part_names = ("backbone", "neck", "segment_head")

    @accepts_config
    def __init__(
        self,
        backbone: str | keras.Layer = "resnet50",
        neck: keras.Layer | None = None,
        segment_head: SegmentStage | None = None,
        preprocessor: Preprocessor | None = None,
        name: str = "segment_proposals",
        **kwargs: Any,
    ):
        dtype = kwargs.get("dtype")
        neck = neck or FeaturePyramid(name="neck", dtype=dtype)
        super().__init__(backbone, neck, preprocessor, name=name, **kwargs)
        self.segment_head = segment_head or SegmentStage(name="segment_head", dtype=dtype)
        self.build()

    def call(self, inputs, training=False):
        outputs = self.propose(inputs, training)
        return outputs if training else self.detections(outputs, inputs)

    def propose(self, inputs: dict[str, Array], training: bool = False) -> Outputs:
        """The inputs -> Outputs of which there is a pyramid alone."""
        return Outputs(self.pyramid(inputs, training), None, None)

    def compute_losses(
        self, y: dict[str, Array], outputs: Outputs, training: bool = True
    ) -> dict[str, Array]:
        """Outputs and ground truth -> {name: scalar float32}."""
        del training
        return self.segment_head.losses(
            outputs.pyramid, ground_truth(y), y["segments"], y["image_sizes"], y["sample_seeds"]
        )

    def detections(self, outputs: Outputs, inputs: dict[str, Array]) -> BatchSegments:
        """Outputs -> BatchSegments."""
        segments = self.segment_head.detect(outputs.pyramid, inputs["image_sizes"])
        return above(segments, inputs.get("score_threshold"))

    def in_photo(self, batch: Any, number: int, shown_size: Size, photo_size: Size) -> SegmentDetections:
        """One image's part of a batch's segments as SegmentDetections of the photo it was made from."""
        valid = batch.valid[number]
        scale = np.asarray([photo_size[1] / shown_size[1], photo_size[0] / shown_size[0]] * 2, np.float32)
        regions, segments = batch.regions[number][valid] * scale, batch.segments[number][valid]
        limit = np.asarray([photo_size[1], photo_size[0]] * 2, np.float32)
        boxes = np.clip(tight_boxes(regions, segments), 0, limit)
        classes = np.ones(len(segments), np.int64)
        return SegmentDetections(
            boxes, batch.scores[number][valid], classes, self.class_names, regions=regions, segments=segments
        )


def tight_boxes(regions, segments):
    """[D, 4] around the cells >= .5 of segments [D, M, M] on regions [D, 4]; the region where none is."""
    inside = segments >= 0.5
    size, corners = segments.shape[-1], []
    for axis in (1, 2):  # columns, then rows
        filled = inside.any(axis=axis)
        first, last = filled.argmax(axis=1), size - filled[:, ::-1].argmax(axis=1)
        corners.append((np.where(filled.any(axis=1), first, 0), np.where(filled.any(axis=1), last, size)))
    (x1, x2), (y1, y2) = corners
    sides = np.concatenate([regions[:, 2:] - regions[:, :2]] * 2, axis=1)
    origin = np.concatenate([regions[:, :2]] * 2, axis=1)
    return (origin + sides * np.stack([x1, y1, x2, y2], axis=1) / size).astype(np.float32)
