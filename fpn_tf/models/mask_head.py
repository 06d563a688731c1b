"""The segmentation head: a score and a mask for the window around every cell."""

import keras
from keras import ops

from fpn_tf.geometry.selection import neighbourhoods


@keras.saving.register_keras_serializable("fpn_tf")
class MaskHead(keras.layers.Layer):
    """{"p2": [B, H, W, C], ...} -> {"p2": [B, H*W], ...}, the scores before the sigmoid, float32.

    A small network on windows of cells, shared by all levels: one hidden layer with ReLU, then a
    score and a mask. The masks are had from `at_cells`.

    Args:
        window: cells on each side of what the network sees, odd.
        hidden_units: of the hidden layer.
        mask_size: M, cells on each side of a mask.

    Source: FPN paper, sec. 6.1 and appendix.
    """

    def __init__(self, window=5, hidden_units=512, mask_size=14, **kwargs):
        super().__init__(**kwargs)
        self.window, self.hidden_units, self.mask_size = window, hidden_units, mask_size

    def build(self, input_shape):
        channels = next(iter(input_shape.values()))[-1]

        def conv(filters, kernel_size, name, inputs, initializer, activation=None):
            layer = keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                activation=activation,
                kernel_initializer=initializer,
                name=name,
                dtype=self.dtype_policy,
            )
            layer.build((None, None, None, inputs))
            return layer

        units = self.hidden_units
        he = keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal")
        self.hidden = conv(units, self.window, "hidden", channels, he, "relu")
        self.score = conv(1, 1, "score", units, keras.initializers.RandomNormal(stddev=0.01))
        self.mask = conv(self.mask_size**2, 1, "mask", units, keras.initializers.RandomNormal(stddev=0.01))

    def call(self, pyramid):
        scores = {}
        for name, feature in pyramid.items():
            cells = ops.shape(feature)[1] * ops.shape(feature)[2]
            # [B, H, W, 1] -> [B, H*W]
            scores[name] = ops.cast(ops.reshape(self.score(self.hidden(feature)), [-1, cells]), "float32")
        return scores

    def at_cells(self, pyramid, cells):
        """The outputs at some cells alone, from the windows around them.

        Args:
            pyramid: as in `call`.
            cells: [B, S] int32, counted through all levels.

        Returns:
            (scores [B, S], masks [B, S, M, M]), float32, before the sigmoid.
        """
        windows, _ = neighbourhoods(pyramid, cells, self.window // 2)
        kernel, bias = (ops.cast(x, windows.dtype) for x in (self.hidden.kernel, self.hidden.bias))
        hidden = ops.relu(ops.conv(windows, kernel, padding="valid") + bias)  # [B*S, 1, 1, units]
        samples = ops.shape(cells)[1]
        scores = ops.reshape(self.score(hidden), [-1, samples])
        masks = ops.reshape(self.mask(hidden), [-1, samples, self.mask_size, self.mask_size])
        return ops.cast(scores, "float32"), ops.cast(masks, "float32")

    def get_config(self):
        names = ("window", "hidden_units", "mask_size")
        return super().get_config() | {name: getattr(self, name) for name in names}
