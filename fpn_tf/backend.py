"""What differs between Keras' backends outside the geometry kernels."""

import functools
import math
import re

import keras
import numpy as np
from keras import ops

from fpn_tf import memory

LARGE_KERNEL = 2**20  # numbers: between a 3x3 kernel of 256 channels and one of 512


def replica_count():
    """Replicas of the current `tf.distribute` strategy; 1 on other backends."""
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def compiled_detector(model):
    """What gives the compiled detector of a model's present weights.

    On TensorFlow one trace serves every batch and image size (Keras' own predict function would
    trace anew for several of them); elsewhere Keras compiles per shape. Where the trace holds the
    weights (see `frozen`), it is made anew after they have changed: to find that out, all of them
    are read, so ask once for many photos.

    Args:
        model: FasterRCNN, FastRCNN or RPN.

    Returns:
        A function without arguments; it gives x -> BatchDetections, on TensorFlow a tf.function.
    """
    if keras.config.backend() != "tensorflow":
        return lambda: model.predict_on_batch
    import tensorflow as tf

    spec = {key: tf.TensorSpec(*shape_and_dtype) for key, shape_and_dtype in model.x_spec().items()}
    options = {"input_signature": [spec], "jit_compile": False, "autograph": False}
    compiled, seen = None, None

    def present():
        nonlocal compiled, seen
        weights = _fingerprint(model)
        if compiled is None or weights != seen:
            compiled, seen = tf.function(frozen(model), **options), weights
            if weights:
                _settle(compiled, spec)
        return compiled

    return present


def _settle(compiled, spec):
    """Calls a tf.function on the smallest input of its spec, and returns memory to the system.

    Only for memory: TensorFlow prepares a graph by copying it many times. What it frees would otherwise
    still be the process's when the maps of the first photo come on top.
    """
    import tensorflow as tf

    with memory.returning_freed():
        compiled(
            {
                key: tf.ones([1, *(side or 64 for side in one.shape[1:])], one.dtype)
                for key, one in spec.items()
            }
        )


def frozen(model, function=None):
    """x -> BatchDetections, to be traced: the model at test time with its present weights.

    Only for speed: on a CPU the 3x3 kernels are constants of the graph. TensorFlow then multiplies
    frozen batch norms into them once, and oneDNN lays them out as its fastest convolution wants
    them, once; a kernel in a variable goes through a slower one (R50: 1.1 times the time with
    AVX-512, 1.5 times with AVX2 alone). See `held` for what stays variable. On a GPU, all does.

    Args:
        model: FasterRCNN or RPN; or a layer, whose `function` is given.
        function: something else to trace that uses these weights.
    """
    function = function or functools.partial(model, training=False)
    variables = held(model)
    if not variables:
        return function
    import tensorflow as tf

    # Read here, or a SavedModel would hold them as variables, too. These share the variables' memory.
    tensors = [tf.convert_to_tensor(variable.value) for variable in variables]

    def with_constants(*inputs):
        constants = [tf.constant(tensor.numpy()) for tensor in tensors]
        with keras.StatelessScope(list(zip(variables, constants))):
            return function(*inputs)

    return with_constants


def held(model):
    """The variables that `frozen` turns into constants: vectors, and kernels that slide over much.

    TensorFlow prepares a graph by copying it, constants and all: each costs its size some fifteen
    times, most of them for good. So what gains least for its size stays variable: 1x1 kernels,
    c5's 3x3 kernels, the largest, which see the smallest map (4 % of R50's time together), and the
    pyramid's own from p4 on, which see a sixteenth of its cells.
    """
    if keras.config.backend() != "tensorflow":
        return []
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return []

    def pays(variable):
        shape = variable.shape
        slides = len(shape) == 4 and max(shape[:2]) > 1 and math.prod(shape) < LARGE_KERNEL
        return len(shape) == 1 or (slides and not re.search("/smoothing[4-9]/", variable.path))

    return [variable for variable in model.variables if pays(variable)]


def _fingerprint(model):
    """Numbers that change when a weight that `frozen` holds does: sums of their bits."""
    arrays = (variable.numpy().reshape(-1) for variable in held(model))
    return [int(array.view(np.uint32).sum(dtype=np.uint32)) for array in arrays]


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


def conv3x3(x, kernel, bias):
    """A 3x3 convolution with padding 1 and a bias: [B, H, W, C] -> [B, H, W, C'].

    Only for speed: on a CPU, TensorFlow's gradient of a 3x3 kernel over a large map runs at a
    third of the processor's rate. Here it is nine matrix products of the map, shifted.

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, C'].
        bias: [C'].
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        if x.dtype == tf.float32 and not tf.config.list_logical_devices("GPU"):
            return _conv3x3_on_cpu(x, kernel, bias)
    return ops.conv(x, kernel, padding="same") + bias


def _conv3x3_on_cpu(x, kernel, bias):
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(x, kernel, bias):
        def gradient(upstream):
            to_x = tf.nn.conv2d_transpose(upstream, kernel, tf.shape(x), 1, "SAME")
            return to_x, _kernel_gradient(x, upstream), tf.reduce_sum(upstream, axis=(0, 1, 2))

        return tf.nn.conv2d(x, kernel, 1, "SAME") + bias, gradient

    return convolve(x, tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))


def _kernel_gradient(x, upstream):
    """The gradient [3, 3, C, C'] of a 3x3 kernel.

    Both maps are laid out as rows of cells with a border between the lines, so that a shift of
    the window is a shift of the rows, which copies nothing. The border of `upstream` is 0.
    """
    import tensorflow as tf

    batch, height, width = tf.unstack(tf.shape(x)[:3])
    channels = [x.shape[-1], upstream.shape[-1]]
    cells = tf.reshape(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1, x.shape[-1]])
    upstream = tf.pad(upstream, [[0, 0], [0, 2], [0, 2], [0, 0]])
    upstream = tf.reshape(upstream, [-1, channels[1]])
    line = width + 2
    count = batch * (height + 2) * line - 2 * line - 2  # of rows that no shift pushes beyond the end
    starts = tf.reshape(tf.range(3)[:, None] * line + tf.range(3), [9, 1])
    begins = tf.unstack(tf.pad(starts, [[0, 0], [0, 1]]))
    size = tf.stack([count, -1])
    upstream = tf.slice(upstream, [0, 0], size)  # not [:count], which is a dozen ops
    products = [tf.matmul(tf.slice(cells, begin, size), upstream, transpose_a=True) for begin in begins]
    return tf.reshape(tf.stack(products), [3, 3, *channels])
