"""TensorFlow's `norm_in_groups`: traced once for all layers."""

import functools

import tensorflow as tf


def norm_in_groups(x, gamma, beta, groups, epsilon):
    """See `fpn_tf.models.conv_norm.norm_in_groups`; the same numbers.

    For speed: neither it nor its gradient is traced for every layer.
    """
    x = tf.convert_to_tensor(x)
    return tf.ensure_shape(_of_dtype(x.dtype)(x, gamma, beta, groups, epsilon), x.shape)


@functools.cache
def _of_dtype(dtype):
    weights, number = tf.TensorSpec([None]), tf.TensorSpec([])
    signature = [tf.TensorSpec([None] * 4, dtype), weights, weights, tf.TensorSpec([], tf.int32), number]

    @tf.function(input_signature=signature, autograph=False)
    def norm(x, gamma, beta, groups, epsilon):
        images, height, width, channels = tf.unstack(tf.shape(x))
        in_groups = [groups, channels // groups]
        parts = tf.cast(tf.reshape(x, [images, height, width, *in_groups]), tf.float32)
        mean, variance = tf.nn.moments(parts, [1, 2, 4], keepdims=True)
        factor = tf.math.rsqrt(variance + epsilon) * tf.reshape(gamma, in_groups)
        parts = parts * factor + (tf.reshape(beta, in_groups) - mean * factor)
        return tf.reshape(tf.cast(parts, dtype), [images, height, width, channels])

    return norm
