"""The region proposal network's head: objectness and deltas for every anchor."""

import keras
from keras import ops

from fpn_tf.geometry.selection import neighbourhoods
from fpn_tf.models.conv_norm import Conv3x3


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
            kind = Conv3x3 if kernel_size == 3 else keras.layers.Conv2D
            layer = kind(
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

    def at_anchors(self, pyramid, indices):
        """The head's outputs at a few anchors alone, from the cells around them.

        Numbers are those of `call`, but for rounding. Only for speed: the losses see some 256 of
        hundreds of thousands of anchors, and the gradient of these few cells costs next to
        nothing, where that of the whole maps costs as much as a fifth of the training step.

        Args:
            pyramid: as in `call`.
            indices: [B, S] int32 into the anchors of all levels.

        Returns:
            (logits [B, S], deltas [B, S, 4]), float32.
        """
        cells, anchor = indices // self.num_anchors, indices % self.num_anchors
        hidden, inside = neighbourhoods(pyramid, cells, self.conv_layers)
        for conv in self.convs[:-1]:
            hidden = ops.conv(hidden, ops.cast(conv.kernel, hidden.dtype), padding="valid")
            hidden = ops.relu(hidden + ops.cast(conv.bias, hidden.dtype))
            inside = inside[:, 1:-1, 1:-1]
            hidden = hidden * inside  # the next convolution sees zeros outside of the map, too
        hidden = ops.relu(_on_whole_windows(self.convs[-1], hidden))
        samples = ops.shape(indices)[1]
        # [B*S, A] -> [B, S, A] and [B*S, A*4] -> [B, S, A, 4]
        logits = ops.reshape(_on_whole_windows(self.objectness, hidden), [-1, samples, self.num_anchors])
        deltas = ops.reshape(_on_whole_windows(self.deltas, hidden), [-1, samples, self.num_anchors, 4])
        own = ops.one_hot(anchor, self.num_anchors, dtype="float32")  # [B, S, A]
        logits = ops.sum(ops.cast(logits, "float32") * own, axis=-1)
        return logits, ops.sum(ops.cast(deltas, "float32") * own[..., None], axis=-2)

    def get_config(self):
        return super().get_config() | {"num_anchors": self.num_anchors, "conv_layers": self.conv_layers}


def _on_whole_windows(conv, windows):
    """A convolution's outputs on windows as large as its kernel: [N, K, K, C] -> [N, filters].

    One matrix product; only for speed: as a convolution of many tiny images it and its gradient
    take several times as long.
    """
    kernel = ops.cast(ops.reshape(conv.kernel, [-1, conv.filters]), windows.dtype)
    rows = ops.reshape(windows, [-1, kernel.shape[0]])
    return ops.matmul(rows, kernel) + ops.cast(conv.bias, windows.dtype)


@keras.saving.register_keras_serializable("fpn_tf")
class UnsharedRPNHead(keras.layers.Layer):
    """An RPNHead of its own for each level; otherwise as `RPNHead` (FPN paper, sec. 5.1.1)."""

    def __init__(self, num_anchors=3, conv_layers=1, **kwargs):
        super().__init__(**kwargs)
        self.num_anchors, self.conv_layers = num_anchors, conv_layers

    def build(self, input_shape):
        self.heads = {}
        for name, shape in input_shape.items():
            head = RPNHead(self.num_anchors, self.conv_layers, name=name, dtype=self.dtype_policy)
            head.build({name: shape})
            head.built = True
            self.heads[name] = head

    def call(self, pyramid):
        logits, deltas = {}, {}
        for name, feature in pyramid.items():
            own_logits, own_deltas = self.heads[name]({name: feature})
            logits |= own_logits
            deltas |= own_deltas
        return logits, deltas

    def at_anchors(self, pyramid, indices):
        """See `RPNHead.at_anchors`."""
        before, logits, deltas = 0, 0, 0
        for name, feature in pyramid.items():
            count = ops.shape(feature)[1] * ops.shape(feature)[2] * self.num_anchors
            here = (indices >= before) & (indices < before + count)
            own = self.heads[name].at_anchors({name: feature}, ops.where(here, indices - before, 0))
            logits = logits + ops.where(here, own[0], 0.0)
            deltas = deltas + ops.where(here[..., None], own[1], 0.0)
            before = before + count
        return logits, deltas

    def get_config(self):
        return super().get_config() | {"num_anchors": self.num_anchors, "conv_layers": self.conv_layers}
