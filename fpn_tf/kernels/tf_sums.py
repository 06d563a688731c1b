"""TensorFlow's forms of small sums and products, fused or kept waiting. `fpn_tf.kernels.choice` says when."""

import tensorflow as tf


def with_decay(gradient, variable, decay):
    """See `fpn_tf.training.optimizer.with_decay`; the same numbers.

    For memory: the product waits for the gradient. Those of all weights would otherwise be held from the
    beginning of a step to its end, a quarter of a gigabyte for R50.
    """
    with tf.control_dependencies([gradient]):
        return gradient + decay * tf.identity(variable)


def momentum_step(variable, velocity, gradient, momentum, learning_rate):
    """See `fpn_tf.training.optimizer.momentum_step`; equal up to a rounding of each sum.

    For speed: TensorFlow's op does it in one pass over the memory, and is one op to trace.
    """
    tf.raw_ops.ResourceApplyMomentum(
        var=variable.handle,
        accum=velocity.value.handle,
        lr=learning_rate,
        grad=gradient,
        momentum=momentum,
    )


def scaled(kernel, scale, x):
    """See `fpn_tf.models.conv_norm.scaled`; the same numbers.

    For memory: the product waits for `x`. Those of all kernels would otherwise be held from the
    beginning, 77 MB for R50.
    """
    with tf.control_dependencies([tf.identity(x)]):
        return kernel * scale


def add_bias(x, bias):
    """See `fpn_tf.models.conv_norm.add_bias`; equal up to a rounding.

    For speed: TensorFlow merges its own op for it, the shortcut's sum and the ReLU of a residual block
    into the convolution before them; a plain sum it would put after the shortcut's.
    """
    return tf.nn.bias_add(x, bias)


def add(x, y):
    """See `fpn_tf.models.conv_norm.add`; the same numbers.

    For speed: TensorFlow merges a plain sum into the convolution before it where it knows the shapes to be
    equal, and this one anywhere.
    """
    return tf.add_n([x, y])
