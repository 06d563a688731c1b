"""The second stage: what is in a RoI, and where exactly."""

import keras
from keras import ops

from fpn_tf.models.conv_norm import ConvNorm
from fpn_tf.models.resnet import make_stage


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
        units = self.build_hidden(input_shape)

        def normal(stddev):
            return keras.initializers.RandomNormal(stddev=stddev)

        self.classifier = self._dense(self.num_classes + 1, units, "classifier", normal(0.01))
        self.regressor = self._dense(4 * self.num_classes, units, "regressor", normal(0.001))

    def build_hidden(self, input_shape):
        """Makes what lies before the two predictors. Returns: its number of outputs."""
        size, channels = input_shape[-2], input_shape[-1]
        self.convs = []
        for i in range(self.conv_layers):
            layer = ConvNorm(
                channels, 3, norm=self.norm, activation="relu", name=f"conv{i}", dtype=self.dtype_policy
            )
            layer.build((None, size, size, channels))
            self.convs.append(layer)
        inputs = [size * size * channels] + [self.hidden_units] * (self.fc_layers - 1)
        self.dense = [
            self._dense(
                self.hidden_units,
                n,
                f"fc{i}",
                keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
                "relu",
            )
            for i, n in enumerate(inputs, start=6)
        ]
        return self.hidden_units

    def _dense(self, units, inputs, name, initializer, activation=None):
        layer = keras.layers.Dense(
            units, activation=activation, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
        )
        layer.build((None, None, inputs))
        return layer

    def hidden(self, features, training):
        """RoI features [B, R, S, S, C] -> [B, R, units], what both predictors read."""
        rois, x = ops.shape(features)[1], features
        if self.convs:
            x = ops.reshape(x, [-1, *features.shape[2:]])  # [B, R, S, S, C] -> [B*R, S, S, C]
            for conv in self.convs:
                x = conv(x, training=training)
        # [B, R, S, S, C] or [B*R, S, S, C] -> [B, R, S*S*C]
        x = ops.reshape(x, [-1, rois, self.dense[0].kernel.shape[0]])
        for layer in self.dense:
            x = layer(x)
        return x

    def call(self, features, training=False):
        rois = ops.shape(features)[1]
        x = self.hidden(features, training)
        logits = ops.cast(self.classifier(x), "float32")
        deltas = ops.cast(self.regressor(x), "float32")
        return logits, ops.reshape(deltas, [-1, rois, self.num_classes, 4])  # [B, R, K*4] -> [B, R, K, 4]

    def get_config(self):
        names = ("num_classes", "hidden_units", "fc_layers", "conv_layers", "norm")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("fpn_tf")
class Conv5Head(BoxHead):
    """The fifth stage of a ResNet on every RoI of c4, then the mean over its cells.

    As `BoxHead`, with that in place of the fully connected layers; the stage halves the map.

    Args:
        num_classes: K, without background.
        backbone: arguments of the `fpn_tf.ResNet` that ends with c4.
        trainable_stage: whether the stage learns.

    Source: He et al., 1512.03385, sec. 4.1; FPN paper, row (a) of Table 2.
    """

    convs, dense = (), ()  # which a BoxHead has instead

    def __init__(self, num_classes, backbone, trainable_stage=True, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.backbone, self.trainable_stage = backbone, trainable_stage
        self.stage = make_stage(
            5,
            backbone["depth"],
            backbone["stride_in_1x1"],
            {"norm": backbone["norm"], "epsilon": backbone["epsilon"]},
            backbone["groups"],
            backbone["width_per_group"],
            self.dtype_policy,
        )
        for block in self.stage:
            block.trainable = trainable_stage

    def build_hidden(self, input_shape):
        shape = (None, *input_shape[-3:])
        for block in self.stage:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        return shape[-1]

    def hidden(self, features, training):
        rois = ops.shape(features)[1]
        x = ops.reshape(features, [-1, *features.shape[2:]])  # [B, R, S, S, C] -> [B*R, S, S, C]
        for block in self.stage:
            x = block(x, training=training)
        x = ops.mean(x, axis=(1, 2))
        return ops.reshape(x, [-1, rois, x.shape[-1]])  # [B*R, C'] -> [B, R, C']

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        names = ("num_classes", "backbone", "trainable_stage")
        return config | {name: getattr(self, name) for name in names}
