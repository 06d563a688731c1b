"""The building block of every net here: a convolution and the normalisation after it.

Padding is PyTorch's (symmetric), so that torchvision's and Detectron's weights see the pixels
that they were trained on. A frozen batch norm is multiplied into the convolution before it: one
pass over the maps instead of two, in training as well.
"""

import keras
from keras import ops

from fpn_tf.geometry.selection import sizes_of
from fpn_tf.kernels.choice import replaceable

KINDS = ("frozen_bn", "sync_bn", "group_norm")


def symmetric_pad(x, amount, value=0.0):
    """Pads height and width of [B, H, W, C] by `amount` on every side."""
    return ops.pad(x, [[0, 0], [amount, amount], [amount, amount], [0, 0]], constant_values=value)


@keras.saving.register_keras_serializable("fpn_tf")
class Conv3x3(keras.layers.Conv2D):
    """Keras' Conv2D on [B, H, W, C], with `backend.conv3x3` in it where it is a plain 3x3 convolution.

    Args:
        filters, kernel_size, strides, padding, **kwargs: of `keras.layers.Conv2D`; a 3x3 kernel with padding
            "same" is the default.
    """

    def __init__(self, filters, kernel_size=3, strides=1, padding="same", **kwargs):
        super().__init__(filters, kernel_size, strides, padding, **{"data_format": "channels_last"} | kwargs)

    def call(self, x):
        if not self._is_plain():
            return super().call(x)
        x = conv3x3(
            ops.convert_to_tensor(x, self.compute_dtype),
            ops.convert_to_tensor(self.kernel, self.compute_dtype),
        )
        if self.use_bias:
            x = add_bias(x, ops.convert_to_tensor(self.bias, self.compute_dtype))
        return x if self.activation is None else self.activation(x)

    def _is_plain(self):
        options = (self.kernel_size, self.strides, self.dilation_rate, self.padding, self.groups)
        return options == ((3, 3), (1, 1), (1, 1), "same", 1) and self.data_format == "channels_last"


class ConvNorm(keras.layers.Layer):
    """Convolution without bias, normalisation, activation: [B, H, W, C] -> [B, H', W', filters].

    Args:
        filters: output channels.
        kernel_size: odd; padding is kernel_size // 2 on every side.
        strides: H' = ceil(H / strides).
        norm: "frozen_bn" (constants, multiplied into the kernel), "sync_bn" (batch norm over all
            replicas of TensorFlow, PyTorch's momentum) or "group_norm" (at most 32 groups).
        epsilon: added to the variance.
        activation: e.g. "relu", or None.
        groups: parts that the channels are convolved in, each by itself (ResNeXt).
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        norm="frozen_bn",
        epsilon=1e-5,
        activation=None,
        groups=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides, self.groups = filters, kernel_size, strides, groups
        self.norm_kind, self.epsilon = norm, epsilon
        self.activation = keras.activations.get(activation)
        if norm == "group_norm":
            parts = max(g for g in (32, 16, 8, 4, 2, 1) if filters % g == 0)
            self.norm = keras.layers.GroupNormalization(parts, epsilon=epsilon, dtype=self.dtype_policy)
        elif norm == "sync_bn":
            self.norm = keras.layers.BatchNormalization(
                momentum=0.9,
                epsilon=epsilon,
                synchronized=keras.config.backend() == "tensorflow",  # other backends have no replicas
                dtype=self.dtype_policy,
            )
        elif norm not in KINDS:
            raise ValueError(f"norm={norm!r}: expected one of {', '.join(KINDS)}")

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1] // self.groups, self.filters)
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
        kernel, padding = ops.cast(kernel, self.compute_dtype), "same"
        if (self.kernel_size, self.strides, self.groups) == (3, 1, 1):
            return conv3x3(x, kernel)
        if self.strides > 1:  # "same" would pad a stride-2 convolution at the bottom right only
            x, padding = symmetric_pad(x, self.kernel_size // 2), "valid"
        return ops.conv(x, kernel, strides=self.strides, padding=padding, data_format="channels_last")

    def call(self, x, training=False):
        if self.norm_kind == "frozen_bn":
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
            x = self._convolve(x, scaled(self.kernel, scale, x))
            x = add_bias(x, ops.cast(self.beta - self.moving_mean * scale, self.compute_dtype))
        elif self.norm_kind == "group_norm":
            norm = self.norm
            x = self._convolve(x, self.kernel)
            x = norm_in_groups(x, norm.gamma, norm.beta, norm.groups, self.epsilon)
        else:
            x = self.norm(self._convolve(x, self.kernel), training=training)
        return self.activation(x)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [s if s is None else -(-s // self.strides) for s in (height, width)]
        return (batch, *sides, self.filters)


@replaceable
def conv3x3(x, kernel):
    """A 3x3 convolution with stride 1 and padding 1: [B, H, W, C] -> [B, H, W, C'].

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, C'], of x's dtype.
    """
    return ops.conv(x, kernel, padding="same", data_format="channels_last")


@replaceable
def norm_in_groups(x, gamma, beta, groups, epsilon):
    """Group normalisation (Wu and He, arXiv 1803.08494) as in Keras' layer: [B, H, W, C] -> the same.

    Args:
        x: [B, H, W, C]; statistics are float32, whatever its dtype.
        gamma, beta: [C], what the results are multiplied by, and what is added then.
        groups: parts of the channels of an image, each of which gets mean 0 and variance 1.
        epsilon: added to the variance.
    """
    images, height, width, channels = sizes_of(x)
    in_groups = [groups, channels // groups]
    parts = ops.cast(ops.reshape(x, [images, height, width, *in_groups]), "float32")
    mean, variance = ops.moments(parts, axes=(1, 2, 4), keepdims=True)
    gamma, beta = (ops.cast(ops.reshape(weight, in_groups), "float32") for weight in (gamma, beta))
    factor = ops.rsqrt(variance + epsilon) * gamma
    parts = parts * factor + (-mean * factor + beta)
    return ops.reshape(ops.cast(parts, x.dtype), [images, height, width, channels])


@replaceable
def scaled(kernel, scale, x):
    """kernel * scale, [K, K, C, C'] * [C'], to convolve `x` [B, H, W, C] with."""
    del x  # which a kernel of this function waits for
    return kernel * scale


@replaceable
def add_bias(x, bias):
    """x + bias: [B, H, W, C] + [C]."""
    return x + bias


@replaceable
def add(x, y):
    """x + y, of equal shapes."""
    return x + y
