"""ResNet (He et al., 2015): images in, maps c2..c5 out.

Padding is PyTorch's (symmetric), so that torchvision's and Detectron's weights see the pixels
that they were trained on. A frozen batch norm is multiplied into the convolution before it: one
pass over the maps instead of two, in training as well.
"""

import keras
from keras import ops

SPECS = {  # name -> (bottleneck?, blocks per stage, channels of the stem and of stage c2)
    "resnet_tiny": (False, (1, 1, 1, 1), 32),
    "resnet18": (False, (2, 2, 2, 2), 64),
    "resnet34": (False, (3, 4, 6, 3), 64),
    "resnet50": (True, (3, 4, 6, 3), 64),
    "resnet101": (True, (3, 4, 23, 3), 64),
}


def symmetric_pad(x, amount, value=0.0):
    """Pads height and width of [B, H, W, C] by `amount` on every side."""
    return ops.pad(x, [[0, 0], [amount, amount], [amount, amount], [0, 0]], constant_values=value)


class ConvNorm(keras.layers.Layer):
    """Convolution without bias, normalisation, activation: [B, H, W, C] -> [B, H', W', filters].

    Args:
        filters: output channels.
        kernel_size: odd; padding is kernel_size // 2 on every side.
        strides: H' = ceil(H / strides).
        norm: "frozen_bn" (constants, multiplied into the kernel), "sync_bn" (batch norm over all
            replicas) or "group_norm" (at most 32 groups).
        epsilon: added to the variance.
        activation: e.g. "relu", or None.
    """

    def __init__(
        self, filters, kernel_size, strides=1, norm="frozen_bn", epsilon=1e-5, activation=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.norm_kind, self.epsilon = norm, epsilon
        self.activation = keras.activations.get(activation)
        if norm == "group_norm":
            groups = max(g for g in (32, 16, 8, 4, 2, 1) if filters % g == 0)
            self.norm = keras.layers.GroupNormalization(groups, epsilon=epsilon, dtype=self.dtype_policy)
        elif norm == "sync_bn":
            self.norm = keras.layers.BatchNormalization(
                epsilon=epsilon, synchronized=True, dtype=self.dtype_policy
            )
        elif norm != "frozen_bn":
            raise ValueError(f"norm={norm!r}: expected frozen_bn, sync_bn or group_norm")

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initializer, autocast=False)
        if self.norm_kind == "frozen_bn":
            constants = {"gamma": "ones", "beta": "zeros", "moving_mean": "zeros", "moving_variance": "ones"}
            for name, start in constants.items():
                weight = self.add_weight(
                    name=name, shape=(self.filters,), initializer=start, trainable=False, autocast=False
                )
                setattr(self, name, weight)
        else:
            self.norm.build((None, None, None, self.filters))

    @property
    def norm_weights(self):
        """The variables (gamma, beta, moving_mean, moving_variance); the last two if it has them."""
        owner = self if self.norm_kind == "frozen_bn" else self.norm
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return {name: getattr(owner, name) for name in names if hasattr(owner, name)}

    def _convolve(self, x, kernel):
        padding = "same"
        if self.strides > 1:  # "same" would pad a stride-2 convolution at the bottom right only
            x, padding = symmetric_pad(x, self.kernel_size // 2), "valid"
        return ops.conv(x, ops.cast(kernel, self.compute_dtype), strides=self.strides, padding=padding)

    def call(self, x, training=False):
        if self.norm_kind == "frozen_bn":
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
            x = self._convolve(x, self.kernel * scale)
            x = x + ops.cast(self.beta - self.moving_mean * scale, self.compute_dtype)
        else:
            x = self.norm(self._convolve(x, self.kernel), training=training)
        return self.activation(x)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [s if s is None else -(-s // self.strides) for s in (height, width)]
        return (batch, *sides, self.filters)


class ResidualBlock(keras.layers.Layer):
    """A basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1) block with its shortcut.

    Args:
        channels: of the inner convolutions; a bottleneck puts out four times as many.
        strides: of the block.
        bottleneck: which of the two.
        stride_in_1x1: a bottleneck strides in its first 1x1 (Caffe), not in its 3x3.
        norm_options: `norm` and `epsilon` of every ConvNorm.
    """

    def __init__(self, channels, strides, bottleneck, stride_in_1x1, norm_options, project, **kwargs):
        super().__init__(**kwargs)
        options = dict(norm_options, dtype=self.dtype_policy)
        if bottleneck:
            first, second = (strides, 1) if stride_in_1x1 else (1, strides)
            self.convs = [
                ConvNorm(channels, 1, first, activation="relu", name="conv1", **options),
                ConvNorm(channels, 3, second, activation="relu", name="conv2", **options),
                ConvNorm(4 * channels, 1, name="conv3", **options),
            ]
        else:
            self.convs = [
                ConvNorm(channels, 3, strides, activation="relu", name="conv1", **options),
                ConvNorm(channels, 3, name="conv2", **options),
            ]
        filters = self.convs[-1].filters
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


@keras.saving.register_keras_serializable("fpn_tf")
class ResNet(keras.layers.Layer):
    """Normalised images [B, H, W, 3] -> {"c2", "c3", "c4", "c5"}, strides 4, 8, 16, 32.

    Args:
        depth: 18, 34, 50, 101, or "tiny" (one narrow block a stage, for small data sets).
        stride_in_1x1: see `ResidualBlock`; True for Caffe's weights (Detectron, Detectron2).
        norm: see `ConvNorm`.
        epsilon: of the normalisation.
        frozen_stages: 0 nothing, 1 the stem, 2 the stem and c2, ... 5 everything is constant.

    Source: arXiv 1512.03385, table 1; stride placement of torchvision by default.
    """

    def __init__(
        self, depth=50, stride_in_1x1=False, norm="frozen_bn", epsilon=1e-5, frozen_stages=0, **kwargs
    ):
        super().__init__(**kwargs)
        name = "resnet_tiny" if depth == "tiny" else f"resnet{depth}"
        if name not in SPECS:
            raise ValueError(f"depth={depth!r}: expected 18, 34, 50, 101 or 'tiny'")
        self.depth, self.stride_in_1x1, self.norm, self.epsilon = depth, stride_in_1x1, norm, epsilon
        self.frozen_stages = frozen_stages
        bottleneck, counts, channels = SPECS[name]
        norm_options = {"norm": norm, "epsilon": epsilon}
        self.stem = ConvNorm(
            channels, 7, 2, activation="relu", name="stem", dtype=self.dtype_policy, **norm_options
        )
        self.stages = []
        for stage, count in enumerate(counts):
            blocks = []
            for i in range(count):
                strides = 2 if stage > 0 and i == 0 else 1
                block = ResidualBlock(
                    channels * 2**stage,
                    strides,
                    bottleneck,
                    stride_in_1x1,
                    norm_options,
                    project=i == 0 and (strides > 1 or bottleneck),
                    name=f"c{stage + 2}_block{i}",
                    dtype=self.dtype_policy,
                )
                blocks.append(block)
            self.stages.append(blocks)
        for part in [[self.stem], *self.stages][:frozen_stages]:
            for layer in part:
                layer.trainable = False

    def build(self, input_shape):
        self.stem.build(input_shape)
        shape = self.stem.compute_output_shape(input_shape)
        for stage in self.stages:
            for block in stage:
                block.build(shape)
                shape = block.compute_output_shape(shape)

    def call(self, images, training=False):
        x = self.stem(images, training=training)
        # After the ReLU a border of zeros is as good as one of minus infinity.
        x = ops.max_pool(symmetric_pad(x, 1), 3, 2, padding="valid")
        maps = {}
        for level, stage in enumerate(self.stages, start=2):
            for block in stage:
                x = block(x, training=training)
            maps[f"c{level}"] = x
        return maps

    def get_config(self):
        names = ("depth", "stride_in_1x1", "norm", "epsilon", "frozen_stages")
        return super().get_config() | {name: getattr(self, name) for name in names}
