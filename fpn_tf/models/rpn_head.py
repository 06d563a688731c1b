"""The region proposal network's head: objectness and deltas for every anchor."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("fpn_tf")
class RPNHead(keras.layers.Layer):
    """{"p2": [B, H, W, C], ...} -> ({"p2": [B, H*W*A], ...}, {"p2": [B, H*W*A, 4], ...}).

    3x3 convolutions with ReLU and two sibling 1x1 convolutions, shared by all levels. The first
    result is the objectness before the sigmoid, the second the deltas; both float32, in the order
    of `fpn_tf.geometry.anchor_grid`.

    Args:
        num_anchors: A, anchors per cell.
        conv_layers: number of 3x3 convolutions; the paper has one, torchvision's v2 two.

    Source: FPN paper, sec. 4.1.
    """

    def __init__(self, num_anchors=3, conv_layers=1, **kwargs):
        super().__init__(**kwargs)
        self.num_anchors, self.conv_layers = num_anchors, conv_layers

    def build(self, input_shape):
        channels = next(iter(input_shape.values()))[-1]

        def conv(filters, kernel_size, name, activation=None):
            layer = keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                activation=activation,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                name=name,
                dtype=self.dtype_policy,
            )
            layer.build((None, None, None, channels))
            return layer

        self.convs = [conv(channels, 3, f"conv{i}", "relu") for i in range(self.conv_layers)]
        self.objectness = conv(self.num_anchors, 1, "objectness")
        self.deltas = conv(4 * self.num_anchors, 1, "deltas")

    def call(self, pyramid):
        logits, deltas = {}, {}
        for name, feature in pyramid.items():
            hidden = feature
            for conv in self.convs:
                hidden = conv(hidden)
            cells = ops.shape(feature)[1] * ops.shape(feature)[2] * self.num_anchors
            # [B, H, W, A] -> [B, H*W*A] and [B, H, W, A*4] -> [B, H*W*A, 4]
            logits[name] = ops.cast(ops.reshape(self.objectness(hidden), [-1, cells]), "float32")
            deltas[name] = ops.cast(ops.reshape(self.deltas(hidden), [-1, cells, 4]), "float32")
        return logits, deltas

    def get_config(self):
        return super().get_config() | {"num_anchors": self.num_anchors, "conv_layers": self.conv_layers}
