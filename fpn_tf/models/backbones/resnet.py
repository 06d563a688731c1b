"""ResNet (He et al., 2015): images in, maps c2..c5 out."""

import functools
from typing import Any

import keras
from keras import ops

from fpn_tf.geometry.levels import check_rank
from fpn_tf.models.conv_norm import ConvNorm, symmetric_pad

SPECS = {  # depth -> (bottleneck?, blocks per stage, channels of the stem and of stage c2)
    "tiny": (False, (1, 1, 1, 1), 32),
    18: (False, (2, 2, 2, 2), 64),
    34: (False, (3, 4, 6, 3), 64),
    50: (True, (3, 4, 6, 3), 64),
    101: (True, (3, 4, 23, 3), 64),
    152: (True, (3, 8, 36, 3), 64),
}


class ResidualBlock(keras.layers.Layer):
    """A basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1) block with its shortcut.

    Args:
        filters: output channels.
        width: channels between the convolutions of a bottleneck; None for a basic block.
        strides: of the block.
        groups: of a bottleneck's 3x3.
        stride_in_1x1: a bottleneck strides in its first 1x1 (Caffe), not in its 3x3.
        project: whether the shortcut is a 1x1 convolution.
        norm_options: `norm` and `epsilon` of every ConvNorm.
    """

    def __init__(self, filters, width, strides, groups, stride_in_1x1, project, norm_options, **kwargs):
        super().__init__(**kwargs)
        options = dict(norm_options, dtype=self.dtype_policy)
        if width:
            first, second = (strides, 1) if stride_in_1x1 else (1, strides)
            self.convs = [
                ConvNorm(width, 1, first, activation="relu", name="conv1", **options),
                ConvNorm(width, 3, second, activation="relu", groups=groups, name="conv2", **options),
                ConvNorm(filters, 1, name="conv3", **options),
            ]
        else:
            self.convs = [
                ConvNorm(filters, 3, strides, activation="relu", name="conv1", **options),
                ConvNorm(filters, 3, name="conv2", **options),
            ]
        self.projection = ConvNorm(filters, 1, strides, name="projection", **options) if project else None

    def build(self, input_shape):
        if self.projection is not None:
            self.projection.build(input_shape)
        for conv in self.convs:
            conv.build(input_shape)
            input_shape = conv.compute_output_shape(input_shape)

    def call(self, x, training=False):
        shortcut = x if self.projection is None else self.projection(x, training=training)
        for conv in self.convs:
            x = conv(x, training=training)
        return ops.relu(x + shortcut)

    def compute_output_shape(self, input_shape):
        for conv in self.convs:
            input_shape = conv.compute_output_shape(input_shape)
        return input_shape


def make_stage(level, depth, stride_in_1x1, norm_options, groups, width_per_group, dtype):
    """The residual blocks, unbuilt, that make c`level` of the level before it; arguments of `ResNet`."""
    bottleneck, counts, channels = SPECS[depth]
    blocks, scale = [], 2 ** (level - 2)
    for i in range(counts[level - 2]):
        strides = 2 if level > 2 and i == 0 else 1
        block = ResidualBlock(
            channels * scale * (4 if bottleneck else 1),
            groups * width_per_group * scale if bottleneck else None,
            strides,
            groups,
            stride_in_1x1,
            i == 0 and (strides > 1 or bottleneck),
            norm_options,
            name=f"c{level}_block{i}",
            dtype=dtype,
        )
        blocks.append(block)
    return blocks


@keras.saving.register_keras_serializable("fpn_tf")
class ResNet(keras.layers.Layer):
    """Normalised images [B, H, W, 3] -> {"c2", "c3", "c4", "c5"}, strides 4, 8, 16, 32.

    Args:
        depth: 18, 34, 50, 101, 152, or "tiny" (one narrow block a stage, for small data sets).
        stride_in_1x1: see `ResidualBlock`; True for Caffe's weights (Detectron, Detectron2).
        norm: see `ConvNorm`.
        epsilon: of the normalisation.
        frozen_stages: 0 nothing, 1 the stem, 2 the stem and c2, ... 5 everything is constant.
        groups: of the bottlenecks' 3x3 convolutions; 32 in a ResNeXt.
        width_per_group: their channels in stage c2 are groups * width_per_group; 8 or 4 in a ResNeXt.
        remat: in training, a block keeps its input alone and is computed again in the backward pass
            (Chen et al., arXiv 1604.06174). Not for sync_bn, whose averages would move twice.
        last_level: 5, or 4 for a backbone that ends with c4.
        **kwargs: of `keras.Layer`.

    Raises:
        ValueError: a depth that there is none of, remat with sync_bn, images that are no [B, H, W, 3].

    Example:

    >>> maps = fpn_tf.ResNet(depth="tiny")(np.zeros((1, 64, 96, 3), "float32"))
    >>> tuple(maps["c2"].shape), tuple(maps["c5"].shape)
    ((1, 16, 24, 32), (1, 2, 3, 256))

    Source: arXiv 1512.03385, table 1, and 1611.05431; stride placement of torchvision by default.
    """

    def __init__(
        self,
        depth: int | str = 50,
        stride_in_1x1: bool = False,
        norm: str = "frozen_bn",
        epsilon: float = 1e-5,
        frozen_stages: int = 0,
        groups: int = 1,
        width_per_group: int = 64,
        remat: bool = False,
        last_level: int = 5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if depth not in SPECS:
            raise ValueError(f"depth={depth!r}: expected one of {', '.join(map(repr, SPECS))}")
        if remat and norm == "sync_bn":
            raise ValueError("remat=True: expected norm frozen_bn or group_norm")
        self.remat = remat
        self.depth, self.stride_in_1x1, self.norm, self.epsilon = depth, stride_in_1x1, norm, epsilon
        self.frozen_stages, self.groups, self.width_per_group = frozen_stages, groups, width_per_group
        self.last_level = last_level
        norm_options: dict[str, Any] = {"norm": norm, "epsilon": epsilon}
        self.stem = ConvNorm(
            SPECS[depth][2], 7, 2, activation="relu", name="stem", dtype=self.dtype_policy, **norm_options
        )
        self.stages = [
            make_stage(level, depth, stride_in_1x1, norm_options, groups, width_per_group, self.dtype_policy)
            for level in range(2, last_level + 1)
        ]
        for part in [[self.stem], *self.stages][:frozen_stages]:
            for layer in part:
                layer.trainable = False

    def build(self, input_shape):
        check_rank(input_shape, "[B, H, W, 3]", "ResNet: images")
        self.stem.build(input_shape)
        shape = self.stem.compute_output_shape(input_shape)
        for stage in self.stages:
            for block in stage:
                block.build(shape)
                shape = block.compute_output_shape(shape)

    def call(self, images, training=False):
        x = self.stem(images, training=training)
        # After the ReLU a border of zeros is as good as one of minus infinity.
        x = ops.max_pool(symmetric_pad(x, 1), 3, 2, padding="valid", data_format="channels_last")
        maps = {}
        for level, stage in enumerate(self.stages, start=2):
            for block in stage:
                step = functools.partial(block, training=training)
                again = self.remat and training and block.trainable  # a frozen one keeps nothing
                x = keras.remat(step)(x) if again else step(x)
            maps[f"c{level}"] = x
        return maps

    def compute_output_shape(self, input_shape):
        check_rank(input_shape, "[B, H, W, 3]", "ResNet: images")
        batch, *size, channels = self.stem.compute_output_shape(input_shape)
        shape = (batch, *(None if side is None else -(-side // 2) for side in size), channels)  # max pooling
        shapes = {}
        for level, stage in enumerate(self.stages, start=2):
            for block in stage:
                shape = block.compute_output_shape(shape)
            shapes[f"c{level}"] = shape
        return shapes

    def get_config(self):
        names = ("depth", "stride_in_1x1", "norm", "epsilon", "frozen_stages", "groups", "width_per_group")
        names += ("remat", "last_level")
        return super().get_config() | {name: getattr(self, name) for name in names}
