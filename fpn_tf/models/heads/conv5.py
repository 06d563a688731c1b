"""The ResNet's fifth stage as a box head (He et al., 1512.03385, sec. 4.1)."""

import keras
from keras import ops

from fpn_tf.models.backbones.resnet import make_stage
from fpn_tf.models.heads.box import BoxHead


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
        x = features
        for block in self.stage:
            x = block(x, training=training)
        return ops.mean(x, axis=(1, 2))  # [B*R, S', S', C'] -> [B*R, C']

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        names = ("num_classes", "backbone", "trainable_stage")
        return config | {name: getattr(self, name) for name in names}
