"""ROIAlign as a layer: every box is pooled from the level that fits its size."""

import keras

from fpn_tf.geometry.roi_align import assign_levels, roi_align
from fpn_tf.geometry.roi_pool import roi_pool


@keras.saving.register_keras_serializable("fpn_tf")
class ROIAlign(keras.layers.Layer):
    """(pyramid {"p2": [B, H, W, C], ...}, boxes [B, R, 4] in pixels) -> [B, R, S, S, C].

    Args:
        output_size: S, bins along each side.
        sampling_ratio: samples per bin along each side; 0 is adaptive.
        aligned: half-cell shift, see `fpn_tf.geometry.roi_align.roi_align`.
        canonical_size: side in pixels of the boxes that `canonical_level` serves.
        canonical_level: k0 of eq. 1.
        inclusive: pool up to x2 - 1, y2 - 1, as Detectron does, whose x2 is the last pixel inside.

    Level l must have stride 2^l. No gradient flows into the boxes.
    """

    def __init__(
        self,
        output_size=7,
        sampling_ratio=2,
        aligned=True,
        canonical_size=224,
        canonical_level=4,
        inclusive=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.output_size, self.sampling_ratio, self.aligned = output_size, sampling_ratio, aligned
        self.canonical_size, self.canonical_level = canonical_size, canonical_level
        self.inclusive = inclusive

    def build(self, pyramid_shape, boxes_shape=None):
        pass

    def call(self, pyramid, boxes):
        boxes = keras.ops.stop_gradient(boxes)
        maps = {int(name[1:]): feature for name, feature in pyramid.items()}
        levels = assign_levels(boxes, sorted(maps), self.canonical_size, self.canonical_level)
        if self.inclusive:
            boxes = boxes - keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
        return roi_align(maps, boxes, levels, self.output_size, self.sampling_ratio, self.aligned)

    def compute_output_spec(self, pyramid, boxes):
        feature = next(iter(pyramid.values()))
        shape = (*boxes.shape[:2], self.output_size, self.output_size, feature.shape[-1])
        return keras.KerasTensor(shape, dtype=feature.dtype)

    def get_config(self):
        names = (
            "output_size",
            "sampling_ratio",
            "aligned",
            "canonical_size",
            "canonical_level",
            "inclusive",
        )
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("fpn_tf")
class ROIPool(keras.layers.Layer):
    """As `ROIAlign`, by RoI pooling: the maximum of whole cells (Fast R-CNN; what the paper used).

    Args:
        output_size: S, bins along each side.
        canonical_size, canonical_level: see `ROIAlign`.
    """

    def __init__(self, output_size=7, canonical_size=224, canonical_level=4, **kwargs):
        super().__init__(**kwargs)
        self.output_size = output_size
        self.canonical_size, self.canonical_level = canonical_size, canonical_level

    def build(self, pyramid_shape, boxes_shape=None):
        pass

    def call(self, pyramid, boxes):
        boxes = keras.ops.stop_gradient(boxes)
        maps = {int(name[1:]): feature for name, feature in pyramid.items()}
        levels = assign_levels(boxes, sorted(maps), self.canonical_size, self.canonical_level)
        return roi_pool(maps, boxes, levels, self.output_size)

    def compute_output_spec(self, pyramid, boxes):
        feature = next(iter(pyramid.values()))
        shape = (*boxes.shape[:2], self.output_size, self.output_size, feature.shape[-1])
        return keras.KerasTensor(shape, dtype=feature.dtype)

    def get_config(self):
        names = ("output_size", "canonical_size", "canonical_level")
        return super().get_config() | {name: getattr(self, name) for name in names}
