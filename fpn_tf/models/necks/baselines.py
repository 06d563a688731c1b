"""What the paper compares its pyramid with (Tables 1 and 2): other pyramids for the same detector.

A pyramid is a layer: backbone maps {"c2": [B, H, W, C], ...} -> maps {"p2": ...} of rising stride.
"""

import keras

from fpn_tf.geometry.levels import levels_of
from fpn_tf.models.necks.feature_pyramid import FeaturePyramid, upsample_nearest


@keras.saving.register_keras_serializable("fpn_tf")
class BottomUpPyramid(FeaturePyramid):
    """Lateral and 3x3 convolutions on the backbone's own maps, no top-down path (rows d)."""

    def merge(self, laterals, sizes):
        return laterals


@keras.saving.register_keras_serializable("fpn_tf")
class TopDownPyramid(FeaturePyramid):
    """The coarsest map alone, upsampled again and again: no lateral connections (rows e)."""

    def lateral_levels(self, levels):
        return levels[-1:]

    def merge(self, laterals, sizes):
        merged = dict(laterals)
        for k in reversed(self.levels[:-1]):
            merged[k] = upsample_nearest(merged[k + 1], sizes[k])
        return merged


@keras.saving.register_keras_serializable("fpn_tf")
class FinestLevel(FeaturePyramid):
    """The finest map of a feature pyramid and no other (rows f)."""

    def __init__(self, channels=256, norm=None, **kwargs):
        kwargs.pop("extra_level", None)
        super().__init__(channels, extra_level=False, norm=norm, **kwargs)

    def output_levels(self, levels):
        return levels[:1]


@keras.saving.register_keras_serializable("fpn_tf")
class SingleMap(keras.layers.Layer):
    """One of the backbone's maps as it is, such as {"p4": c4} (rows a and b): nothing is learned.

    Args:
        level: of the map.
    """

    laterals, smoothings, norm = (), (), None

    def __init__(self, level, **kwargs):
        super().__init__(**kwargs)
        self.level = level

    def build(self, input_shape):
        if self.level not in levels_of(input_shape, "c", "SingleMap"):
            raise ValueError(f"SingleMap: got maps {sorted(input_shape)}; expected c{self.level} among them")

    def call(self, maps, training=False):
        return {f"p{self.level}": maps[f"c{self.level}"]}

    def compute_output_shape(self, input_shape):
        return {f"p{self.level}": input_shape[f"c{self.level}"]}

    def get_config(self):
        return super().get_config() | {"level": self.level}


def make_neck(kind, channels, norm=None, **kwargs):
    """The pyramid that `model.neck` names.

    Args:
        kind: one of `fpn_tf.catalogue.NECKS`.
        channels: of the maps; a single map of the backbone keeps its own.
        norm: of the convolutions, see `FeaturePyramid`.
        **kwargs: of the layer.
    """
    if kind in ("c4", "c5"):
        return SingleMap(int(kind[1:]), **kwargs)
    kinds = {
        "fpn": FeaturePyramid,
        "bottom_up": BottomUpPyramid,
        "top_down": TopDownPyramid,
        "finest": FinestLevel,
    }
    return kinds[kind](channels, norm=norm, **kwargs)
