"""An RPN head for each level (FPN paper, sec. 5.1.1)."""

import keras
from keras import ops

from fpn_tf.geometry.levels import levels_of
from fpn_tf.geometry.selection import sizes_of
from fpn_tf.models.heads.rpn import RPNHead, output_shapes, output_specs


@keras.saving.register_keras_serializable("fpn_tf")
class UnsharedRPNHead(keras.layers.Layer):
    """An RPNHead of its own for each level; otherwise as `RPNHead` (FPN paper, sec. 5.1.1)."""

    def __init__(self, num_anchors=3, conv_layers=1, **kwargs):
        super().__init__(**kwargs)
        self.num_anchors, self.conv_layers = num_anchors, conv_layers

    def build(self, input_shape):
        levels_of(input_shape, "p", "UnsharedRPNHead")
        self.heads = {}
        for name, shape in input_shape.items():
            head = RPNHead(self.num_anchors, self.conv_layers, name=name, dtype=self.dtype_policy)
            head.build({name: shape})
            head.built = True
            self.heads[name] = head

    def call(self, pyramid):
        logits, deltas = {}, {}
        for name, feature in pyramid.items():
            level_logits, level_deltas = self.heads[name]({name: feature})
            logits |= level_logits
            deltas |= level_deltas
        return logits, deltas

    def at_anchors(self, pyramid, indices):
        """See `RPNHead.at_anchors`."""
        anchors_before, logits, deltas = 0, 0, 0
        for name, feature in pyramid.items():
            _, height, width, _ = sizes_of(feature)
            count = height * width * self.num_anchors
            index_in_level = indices - anchors_before
            is_of_level = (index_in_level >= 0) & (index_in_level < count)
            index_in_level = ops.where(is_of_level, index_in_level, 0)
            level_logits, level_deltas = self.heads[name].at_anchors({name: feature}, index_in_level)
            logits = logits + ops.where(is_of_level, level_logits, 0.0)
            deltas = deltas + ops.where(is_of_level[..., None], level_deltas, 0.0)
            anchors_before = anchors_before + count
        return logits, deltas

    def compute_output_shape(self, input_shape):
        return output_shapes(input_shape, self.num_anchors)

    def compute_output_spec(self, pyramid):
        return output_specs(self, pyramid)

    def get_config(self):
        return super().get_config() | {"num_anchors": self.num_anchors, "conv_layers": self.conv_layers}
