"""TensorFlow's `sizes_of` and `gather_rows`."""

import functools
import math

import tensorflow as tf


def sizes_of(x):
    """See `fpn_tf.geometry.selection.sizes_of`; for speed: two ops to trace, where Keras' has thirteen."""
    known = tuple(x.shape)
    if None not in known or not tf.is_tensor(x):  # Keras' symbolic tensors have no other sizes
        return known
    return tuple(now if size is None else size for size, now in zip(known, tf.unstack(tf.shape(x))))


def gather_rows(x, indices):
    """See `fpn_tf.geometry.selection.gather_rows`; the same numbers, and gradients up to the order of sums.

    For speed: few ops to trace, forwards and backwards.
    """
    x, indices = tf.convert_to_tensor(x), tf.convert_to_tensor(indices)
    if not x.dtype.is_floating:
        return tf.gather(x, indices, batch_dims=1)
    if x.shape.rank == 3:
        values = _rows(x.dtype)(x, indices)
    else:
        images, count, *rest = sizes_of(x)
        values = _rows(x.dtype)(tf.reshape(x, [images, count, math.prod(rest)]), indices)
        values = tf.reshape(values, [*sizes_of(indices), *rest])
    return tf.ensure_shape(values, [*indices.shape, *x.shape[2:]])


@functools.cache
def _rows(dtype):
    """(x [B, N, D], indices [B, S] int32) -> [B, S, D], with a gradient of its own.

    Traced once for all that use it: TensorFlow keeps every gradient that is registered, and with it all
    tensors of the graph that it was registered in.
    """

    signature = [tf.TensorSpec([None, None, None], dtype), tf.TensorSpec([None, None], tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def gather(x, indices):
        images, count, width = tf.unstack(tf.shape(x))
        rows = indices + tf.range(images)[:, None] * count  # [B, S], counted through all images

        @tf.custom_gradient
        def differentiable(table):
            def gradient(upstream):
                return tf.math.unsorted_segment_sum(upstream, rows, images * count)

            return tf.gather(table, rows), gradient

        return differentiable(tf.reshape(x, [images * count, width]))

    return gather
