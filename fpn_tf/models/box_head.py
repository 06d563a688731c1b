"""The second stage: what is in a RoI, and where exactly."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("fpn_tf")
class BoxHead(keras.layers.Layer):
    """RoI features [B, R, S, S, C] -> (logits [B, R, K+1], deltas [B, R, K, 4]), float32.

    Two hidden fully connected layers with ReLU, then class scores (index 0 is background) and
    class-specific deltas.

    Args:
        num_classes: K, without background.
        hidden_units: width of the two hidden layers.

    Source: FPN paper, sec. 4.2.
    """

    def __init__(self, num_classes, hidden_units=1024, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.hidden_units = num_classes, hidden_units

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

        self.fc6 = dense(self.hidden_units, size * size * channels, "fc6", xavier(), "relu")
        self.fc7 = dense(self.hidden_units, self.hidden_units, "fc7", xavier(), "relu")
        self.classifier = dense(self.num_classes + 1, self.hidden_units, "classifier", normal(0.01))
        self.regressor = dense(4 * self.num_classes, self.hidden_units, "regressor", normal(0.001))

    def call(self, features):
        # [B, R, S, S, C] -> [B, R, S*S*C]
        rois, flat = ops.shape(features)[1], self.fc6.kernel.shape[0]
        x = self.fc7(self.fc6(ops.reshape(features, [-1, rois, flat])))
        logits = ops.cast(self.classifier(x), "float32")
        deltas = ops.cast(self.regressor(x), "float32")
        return logits, ops.reshape(deltas, [-1, rois, self.num_classes, 4])  # [B, R, K*4] -> [B, R, K, 4]

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes, "hidden_units": self.hidden_units}
