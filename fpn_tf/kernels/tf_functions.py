"""Functions in TensorFlow's graphs that are traced once in a process, not for every layer that calls them."""

import tensorflow as tf


def one_function(*signature):
    """A tf.function for all layers, which stays a function in their graphs.

    To be traced and optimised once; and for memory: nothing in it runs before its inputs exist.
    """
    attributes = {"_noinline": True}
    return tf.function(input_signature=signature, autograph=False, experimental_attributes=attributes)
