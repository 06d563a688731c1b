"""The feature pyramid (FPN paper, sec. 3): laterals, top-down path, smoothing."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from fpn_tf.geometry.levels import consecutive_levels_of
from fpn_tf.geometry.selection import sizes_of
from fpn_tf.models.conv_norm import Conv3x3, ConvNorm, add
from fpn_tf.structures import Array


def xavier_fill():
    """Caffe2's XavierFill, which Detectron and its descendants use for new layers; drawn anew for each."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")


def upsample_nearest(x, size):
    """Doubles height and width of [B, H, W, C] by repetition and crops to `size` (H', W').

    H' is 2H or 2H - 1 (an odd map of a size that is no multiple of the stride).
    """
    images, height, width, channels = sizes_of(x)
    # Keras' own `repeat` is three times as many ops to trace.
    x = ops.reshape(ops.tile(x[:, :, None], [1, 1, 2, 1, 1]), [images, 2 * height, width, channels])
    x = ops.reshape(ops.tile(x[:, :, :, None], [1, 1, 1, 2, 1]), [images, 2 * height, 2 * width, channels])
    return x[:, : size[0], : size[1]]


@keras.saving.register_keras_serializable("fpn_tf")
class FeaturePyramid(keras.layers.Layer):
    """Backbone maps {"c2": [B, H, W, C], ...} -> {"p2": [B, H, W, channels], ..., "p6"}.

    A 1x1 lateral convolution on every map, the coarser map repeated twofold and added, a 3x3
    convolution on every sum, no non-linearity. The last level (p6 above c5) is p5 at every second
    cell, for the RPN alone.

    Args:
        channels: d in the paper.
        extra_level: whether to add the last level.
        norm: of every convolution, see `fpn_tf.models.conv_norm.ConvNorm`; None: a bias instead,
            as in the paper.
        **kwargs: of `keras.Layer`.

    Any run of levels with each half the size of the one before will do (rounded up).

    Raises:
        TypeError, ValueError: maps that are no such run, see `fpn_tf.geometry.levels`.

    Example:

    >>> maps = fpn_tf.ResNet(depth="tiny")(np.zeros((1, 64, 64, 3), "float32"))
    >>> pyramid = fpn_tf.FeaturePyramid(channels=16)(maps)
    >>> sorted(pyramid), tuple(pyramid["p3"].shape)
    (['p2', 'p3', 'p4', 'p5', 'p6'], (1, 8, 8, 16))

    Source: FPN paper, sec. 3 and footnote 2.
    """

    def __init__(self, channels: int = 256, extra_level: bool = True, norm: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.extra_level, self.norm = channels, extra_level, norm

    def build(self, input_shape):
        self.levels = consecutive_levels_of(input_shape, "c", type(self).__name__)

        def conv(kernel_size, kind, level, channels):
            options = {"name": f"{kind}{level}", "dtype": self.dtype_policy}
            if self.norm:
                layer = ConvNorm(self.channels, kernel_size, norm=self.norm, **options)
            else:
                kind_of = Conv3x3 if kernel_size == 3 else keras.layers.Conv2D
                layer = kind_of(
                    self.channels,
                    kernel_size,
                    padding="same",
                    data_format="channels_last",
                    kernel_initializer=xavier_fill(),
                    **options,
                )
            layer.build((None, None, None, channels))
            return layer

        self.laterals = [
            conv(1, "lateral", k, input_shape[f"c{k}"][-1]) for k in self.lateral_levels(self.levels)
        ]
        self.smoothings = [conv(3, "smoothing", k, self.channels) for k in self.output_levels(self.levels)]

    def call(self, maps, training=False):
        options = {"training": training} if self.norm else {}
        lateral_levels, output_levels = self.lateral_levels(self.levels), self.output_levels(self.levels)
        laterals = {k: conv(maps[f"c{k}"], **options) for conv, k in zip(self.laterals, lateral_levels)}
        merged = self.merge(laterals, {k: sizes_of(maps[f"c{k}"])[1:3] for k in self.levels})
        pyramid = {f"p{k}": conv(merged[k], **options) for conv, k in zip(self.smoothings, output_levels)}
        if self.extra_level:
            top = self.levels[-1]
            pyramid[f"p{top + 1}"] = pyramid[f"p{top}"][:, ::2, ::2]
        return pyramid

    def compute_output_shape(self, input_shape):
        levels = consecutive_levels_of(input_shape, "c", type(self).__name__)
        shapes = {f"p{k}": (*input_shape[f"c{k}"][:3], self.channels) for k in self.output_levels(levels)}
        if self.extra_level:
            batch, *size, _ = input_shape[f"c{levels[-1]}"]
            half = (None if side is None else -(-side // 2) for side in size)
            shapes[f"p{levels[-1] + 1}"] = (batch, *half, self.channels)
        return shapes

    # What other pyramids do otherwise (see `fpn_tf.models.necks.baselines`) -----------------------------

    def lateral_levels(self, levels: Sequence[int]) -> Sequence[int]:
        """Those of the backbone's levels that a lateral convolution reads."""
        return levels

    def output_levels(self, levels: Sequence[int]) -> Sequence[int]:
        """Those of the backbone's levels that the pyramid has a map of."""
        return levels

    def merge(self, laterals: dict[int, Array], sizes: dict[int, Any]) -> dict[int, Array]:
        """{level: lateral map} and {level: (H, W)} -> {level: map} before the 3x3 convolutions."""
        merged: dict[int, Array] = {}
        for k in reversed(self.levels):
            above = merged.get(k + 1)
            merged[k] = laterals[k] if above is None else add(laterals[k], upsample_nearest(above, sizes[k]))
        return merged

    def get_config(self):
        names = ("channels", "extra_level", "norm")
        return super().get_config() | {name: getattr(self, name) for name in names}
