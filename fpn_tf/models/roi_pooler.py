"""ROIAlign and RoI pooling as layers: every box is pooled from the level that fits its size."""

import keras

from fpn_tf.geometry.roi_align import assign_levels, roi_align
from fpn_tf.geometry.roi_pool import roi_pool


class _Pooler(keras.layers.Layer):
    """What both layers share; a subclass gives `pool(maps, boxes, levels)`."""

    def __init__(self, output_size, canonical_size, canonical_level, **kwargs):
        super().__init__(**kwargs)
        self.output_size = output_size
        self.canonical_size, self.canonical_level = canonical_size, canonical_level

    def build(self, pyramid_shape, boxes_shape=None):
        pass

    def call(self, pyramid, boxes):
        boxes = keras.ops.stop_gradient(boxes)
        maps = {int(name[1:]): feature for name, feature in pyramid.items()}
        levels = assign_levels(boxes, sorted(maps), self.canonical_size, self.canonical_level)
        return self.pool(maps, boxes, levels)

    def compute_output_spec(self, pyramid, boxes):
        feature = next(iter(pyramid.values()))
        shape = (*boxes.shape[:2], self.output_size, self.output_size, feature.shape[-1])
        return keras.KerasTensor(shape, dtype=feature.dtype)

    def get_config(self):
        names = ("output_size", "canonical_size", "canonical_level")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("fpn_tf")
class ROIAlign(_Pooler):
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
        super().__init__(output_size, canonical_size, canonical_level, **kwargs)
        self.sampling_ratio, self.aligned, self.inclusive = sampling_ratio, aligned, inclusive

    def pool(self, maps, boxes, levels):
        if self.inclusive:
            boxes = boxes - keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
        return roi_align(maps, boxes, levels, self.output_size, self.sampling_ratio, self.aligned)

    def get_config(self):
        names = ("sampling_ratio", "aligned", "inclusive")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("fpn_tf")
class ROIPool(_Pooler):
    """As `ROIAlign`, by RoI pooling: the maximum of whole cells (Fast R-CNN; what the paper used).

    Args:
        output_size: S, bins along each side.
        canonical_size, canonical_level: see `ROIAlign`.
    """

    def __init__(self, output_size=7, canonical_size=224, canonical_level=4, **kwargs):
        super().__init__(output_size, canonical_size, canonical_level, **kwargs)

    def pool(self, maps, boxes, levels):
        return roi_pool(maps, boxes, levels, self.output_size)
