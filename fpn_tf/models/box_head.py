"""The second stage: what is in a RoI, and where exactly."""

import keras
from keras import ops

from fpn_tf.models.conv_norm import ConvNorm


@keras.saving.register_keras_serializable("fpn_tf")
class BoxHead(keras.layers.Layer):
    """RoI features [B, R, S, S, C] -> (logits [B, R, K+1], deltas [B, R, K, 4]), float32.

    Hidden fully connected layers with ReLU, then class scores (index 0 is background) and
    class-specific deltas. The paper has two of them and nothing before; torchvision's v2 has four
    convolutions and one.

    Args:
        num_classes: K, without background.
        hidden_units: width of the fully connected layers.
        fc_layers: their number, at least 1.
        conv_layers: number of 3x3 convolutions of C channels with ReLU before them.
        norm: of the convolutions, see `fpn_tf.models.conv_norm.ConvNorm`.

    Source: FPN paper, sec. 4.2.
    """

    def __init__(self, num_classes, hidden_units=1024, fc_layers=2, conv_layers=0, norm="sync_bn", **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.hidden_units = num_classes, hidden_units
        self.fc_layers, self.conv_layers, self.norm = fc_layers, conv_layers, norm

    def build(self, input_shape):
        size, channels = input_shape[-2], input_shape[-1]

        def dense(units, inputs, name, initializer, activation=None):
            layer = keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer=initializer,
                name=name,
                dtype=self.dtype_policy,
            )
            layer.build((None, None, inputs))
            return layer

        def xavier():
            return keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")

        def normal(stddev):
            return keras.initializers.RandomNormal(stddev=stddev)

        self.convs = []
        for i in range(self.conv_layers):
            layer = ConvNorm(
                channels, 3, norm=self.norm, activation="relu", name=f"conv{i}", dtype=self.dtype_policy
            )
            layer.build((None, size, size, channels))
            self.convs.append(layer)
        inputs = [size * size * channels] + [self.hidden_units] * (self.fc_layers - 1)
        self.dense = [
            dense(self.hidden_units, n, f"fc{i}", xavier(), "relu") for i, n in enumerate(inputs, start=6)
        ]
        self.classifier = dense(self.num_classes + 1, self.hidden_units, "classifier", normal(0.01))
        self.regressor = dense(4 * self.num_classes, self.hidden_units, "regressor", normal(0.001))

    def call(self, features, training=False):
        rois, x = ops.shape(features)[1], features
        if self.convs:
            x = ops.reshape(x, [-1, *features.shape[2:]])  # [B, R, S, S, C] -> [B*R, S, S, C]
            for conv in self.convs:
                x = conv(x, training=training)
        # [B, R, S, S, C] or [B*R, S, S, C] -> [B, R, S*S*C]
        x = ops.reshape(x, [-1, rois, self.dense[0].kernel.shape[0]])
        for layer in self.dense:
            x = layer(x)
        logits = ops.cast(self.classifier(x), "float32")
        deltas = ops.cast(self.regressor(x), "float32")
        return logits, ops.reshape(deltas, [-1, rois, self.num_classes, 4])  # [B, R, K*4] -> [B, R, K, 4]

    def get_config(self):
        names = ("num_classes", "hidden_units", "fc_layers", "conv_layers", "norm")
        return super().get_config() | {name: getattr(self, name) for name in names}
