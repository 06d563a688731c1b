"""TensorFlow's `gather_rows`."""

import functools

import tensorflow as tf


def gather_rows(x, indices):
    """See `fpn_tf.geometry.selection.gather_rows`; the same numbers, and gradients up to the order of sums.

    For speed: few ops to trace, forwards and backwards.
    """
    x, indices = tf.convert_to_tensor(x), tf.convert_to_tensor(indices)
    if not x.dtype.is_floating:
        return tf.gather(x, indices, batch_dims=1)
    shape = tf.shape(x)
    rows = indices + tf.range(shape[0])[:, None] * shape[1]  # [B, S], counted through all images
    table = tf.reshape(x, [shape[0] * shape[1], tf.reduce_prod(shape[2:])])  # [B, N, ...] -> [B*N, D]
    values = _rows_of_table(x.dtype)(table, tf.reshape(rows, [-1]))  # [B*S, D]
    values = tf.reshape(values, tf.concat([tf.shape(indices), shape[2:]], 0))
    return tf.ensure_shape(values, [*indices.shape, *x.shape[2:]])


@functools.cache
def _rows_of_table(dtype):
    """(table [T, D], rows [R] int32) -> [R, D], with a gradient of its own.

    Traced once for all that use it: TensorFlow keeps every gradient that is registered, and with it all
    tensors of the graph that it was registered in.
    """

    signature = [tf.TensorSpec([None, None], dtype), tf.TensorSpec([None], tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def gather(table, rows):
        count = tf.shape(table)[0]

        @tf.custom_gradient
        def differentiable(table):
            def gradient(upstream):
                return tf.math.unsorted_segment_sum(upstream, rows, count)

            return tf.gather(table, rows), gradient

        return differentiable(table)

    return gather
