"""What differs between Keras' backends outside the geometry kernels."""

import functools

import keras
from keras import ops


def replica_count():
    """Replicas of the current `tf.distribute` strategy; 1 on other backends."""
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def compiled_detector(model):
    """The model at test time, compiled.

    On TensorFlow one trace serves every batch and image size (Keras' own predict function would
    trace anew for several of them); elsewhere Keras compiles per shape.

    Args:
        model: FasterRCNN, FastRCNN or RPN.

    Returns:
        x -> BatchDetections; on TensorFlow a tf.function.
    """
    if keras.config.backend() != "tensorflow":
        return model.predict_on_batch
    import tensorflow as tf

    spec = {key: tf.TensorSpec(*shape_and_dtype) for key, shape_and_dtype in model.x_spec().items()}
    at_test_time = functools.partial(model, training=False)
    return tf.function(at_test_time, input_signature=[spec], jit_compile=False, autograph=False)


def with_decay(gradient, variable, decay):
    """gradient + decay * w.

    Only for memory: the product waits for the gradient. Those of all weights would otherwise be
    there from the beginning of a step to its end, a quarter of a gigabyte for R50.
    """
    if keras.config.backend() != "tensorflow":
        return gradient + decay * ops.convert_to_tensor(variable)
    import tensorflow as tf

    with tf.control_dependencies([gradient]):
        return gradient + decay * tf.identity(variable)


def momentum_step(variable, velocity, gradient, momentum, learning_rate):
    """v = momentum * v + gradient; w -= learning_rate * v.

    Only for speed: TensorFlow's op does it in one pass over the memory, and is one op to trace.

    Args:
        variable: w, as Keras hands it to `Optimizer.update_step`.
        velocity: v, a Keras variable.
        gradient: of w's shape and dtype.
        momentum: float.
        learning_rate: scalar of that dtype.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=velocity.value.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=momentum,
        )
    else:
        velocity.assign(momentum * velocity + gradient)
        variable.assign_sub(learning_rate * velocity)


def scaled(kernel, scale, x):
    """kernel * scale, to convolve `x` with.

    Only for memory: the product waits for `x`. Those of all kernels would otherwise be there from
    the beginning, 77 MB for R50.
    """
    if keras.config.backend() != "tensorflow":
        return kernel * scale
    import tensorflow as tf

    with tf.control_dependencies([tf.identity(x)]):
        return kernel * scale


def add_bias(x, bias):
    """x + bias: [B, H, W, C] + [C].

    Only for speed: TensorFlow merges its own op for it, the shortcut's sum and the ReLU of a
    residual block into the convolution before them; a plain sum it would put after the shortcut's.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.bias_add(x, bias)
    return x + bias


def add(x, y):
    """x + y, of equal shapes.

    Only for speed: TensorFlow merges a plain sum into the convolution before it where it knows the
    shapes to be equal, and this one anywhere.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.add_n([x, y])
    return x + y


def conv3x3(x, kernel):
    """A 3x3 convolution with stride 1 and padding 1: [B, H, W, C] -> [B, H, W, C'].

    Only for speed: on a CPU, TensorFlow multiplies four times as often as it must. With few
    channels that takes no longer than transforming them (see `fpn_tf.winograd`).

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, C'], of x's dtype.
    """
    if keras.config.backend() == "tensorflow" and min(kernel.shape[2:]) >= 64 and x.dtype == "float32":
        import tensorflow as tf

        if not tf.config.list_logical_devices("GPU"):  # cuDNN chooses an algorithm itself
            from fpn_tf import winograd

            return winograd.conv3x3(x, tf.convert_to_tensor(kernel))
    return ops.conv(x, kernel, padding="same")
