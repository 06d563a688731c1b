"""3x3 convolutions with a quarter of the multiplications, from TensorFlow's ops: F(4x4, 3x3).

Tiles of 4x4 outputs are computed together, each from a window of 6x6 inputs: both windows and kernel
are transformed by small matrices, multiplied cell by cell (a matrix product over the channels for
each of the 36), and transformed back.

Source: Lavin and Gray, arXiv 1509.09308. The points of interpolation are not theirs: of those tried,
0, ±5/8, ±3/2 and infinity round best.

In float32, of normally distributed numbers, the error's root mean square is at most `ERROR` of the exact
result's, and the largest error at most three times as much of the largest result; so are the gradients'.
The bound leaves twice what was measured for 4 to 1024 channels with AVX2 and with SSE4.1, 4e-7 to 1.5e-6;
wider vectors make shorter sums. That is up to 7 times the error of a direct convolution, which varies more:
8e-8 to 4e-7, and 1e-5 for the gradient of a kernel that one thread sums over a large map.
"""

import numpy as np
import tensorflow as tf

from fpn_tf.kernels.tf_functions import one_function

ERROR = 3e-6  # of the root mean square
POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
TILE, WINDOW = 4, 6  # cells along a side
MOST_HELD = 2**23  # transformed inputs at once: 32 MiB


def _transforms():
    """The matrices that transform windows [36, 36], kernels [36, 9] and products [16, 36]."""

    def at_points(count):
        """[6, count]: polynomials of so many coefficients, evaluated at the points and at infinity."""
        finite = np.vander(POINTS, count, increasing=True)
        return np.vstack([finite, np.eye(count)[-1:]])

    kernel = at_points(WINDOW - TILE + 1)
    scale = np.abs(kernel).max(axis=1, keepdims=True)  # between kernel and window; both stay near 1
    one_axis = np.linalg.inv(at_points(WINDOW)).T * scale, kernel / scale, at_points(TILE).T
    return [np.kron(matrix, matrix).astype("float32") for matrix in one_axis]


OF_WINDOWS, OF_KERNEL, OF_PRODUCTS = _transforms()

MAP, KERNEL = tf.TensorSpec([None] * 4), tf.TensorSpec([3, 3, None, None])


def conv3x3(x, kernel):
    """See `fpn_tf.models.conv_norm.conv3x3`; float32. Both gradients are by Winograd's algorithm, too.

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, C'].
    """
    x, kernel = (tf.ensure_shape(t, t.shape) for t in map(tf.convert_to_tensor, (x, kernel)))
    return tf.ensure_shape(_differentiable(x, kernel), [*x.shape[:3], kernel.shape[3]])


@tf.function(input_signature=[MAP, KERNEL], autograph=False)
def _differentiable(x, kernel):
    """`_winograd_convolve` with its gradient.

    A function for all layers, traced once: TensorFlow keeps every gradient that is registered, and with it
    all tensors of the graph that it was registered in.
    """

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            return _map_gradient(upstream, kernel), _kernel_gradient(x, upstream)

        return _winograd_convolve(x, kernel), gradient

    return convolve(x, kernel)


@one_function(MAP, KERNEL)
def _winograd_convolve(x, kernel):
    """[B, H, W, C] and [3, 3, C, C'] -> [B, H, W, C']."""
    channels, filters = tf.unstack(tf.shape(kernel)[2:])
    kernels = tf.reshape(tf.matmul(OF_KERNEL, tf.reshape(kernel, [9, -1])), [-1, channels, filters])

    def lines_of(rows):
        products = tf.matmul(_transformed_windows(x, rows), kernels)
        tiles = tf.matmul(OF_PRODUCTS, tf.reshape(products, [WINDOW**2, -1]))
        tiles = tf.reshape(tiles, [TILE, TILE, tf.size(rows), -1, tf.shape(kernels)[2]])
        lines = tf.transpose(tiles, [2, 0, 3, 1, 4])
        return tf.reshape(lines, [TILE * tf.size(rows), -1, tf.shape(kernels)[2]])

    parts = tf.map_fn(lines_of, _parts(x), parallel_iterations=1, fn_output_signature=tf.float32)
    batch, height, width = tf.unstack(tf.shape(x)[:3])
    lines, columns = TILE * _tiles(height), TILE * _tiles(width)
    parts = tf.reshape(parts, [-1, columns, filters])[: batch * lines]
    return tf.reshape(parts, [batch, lines, columns, filters])[:, :height, :width]


@one_function(MAP, KERNEL)
def _map_gradient(upstream, kernel):
    """[B, H, W, C'] and [3, 3, C, C'] -> [B, H, W, C]: a convolution with the kernel turned around."""
    return _winograd_convolve(upstream, tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2]))


@one_function(MAP, MAP)
def _kernel_gradient(x, upstream):
    """[B, H, W, C] and [B, H, W, C'] -> [3, 3, C, C']: backwards, from the products to the kernel."""
    channels, filters = tf.shape(x)[3], tf.shape(upstream)[3]

    def add_rows(total, rows):
        tiles = tf.reshape(_cells(upstream, rows, TILE, border=0), [TILE**2, -1])
        of_products = tf.matmul(OF_PRODUCTS, tiles, transpose_a=True)
        of_products = tf.reshape(of_products, [WINDOW**2, -1, filters])  # [36, tiles, C']
        # [36, tiles, C]^T [36, tiles, C'] -> [36, C, C']
        return total + tf.matmul(_transformed_windows(x, rows), of_products, transpose_a=True)

    nothing = tf.zeros([WINDOW**2, channels, filters])
    of_transformed = tf.foldl(add_rows, _parts(x), nothing, parallel_iterations=1)
    of_kernel = tf.matmul(OF_KERNEL, tf.reshape(of_transformed, [WINDOW**2, -1]), transpose_a=True)
    return tf.reshape(of_kernel, [3, 3, channels, filters])


def is_in(graph):
    """Whether a graph convolves by Winograd's algorithm."""
    name = _winograd_convolve.python_function.__name__
    return any(name in function.signature.name for function in graph.as_graph_def().library.function)


def _tiles(cells):
    """How many tiles cover so many cells along one axis."""
    return -(-cells // TILE)


def _parts(x):
    """Only for memory: the rows of tiles, through all images, in parts of at most `MOST_HELD`.

    Returns:
        [parts, R] int32. The last ones may lie beyond the last image.
    """
    batch, height, width, channels = tf.unstack(tf.shape(x))
    rows = batch * _tiles(height)
    most = tf.maximum(MOST_HELD // (WINDOW**2 * _tiles(width) * channels), 1)
    parts = -(-rows // most)
    together = -(-rows // parts)
    return tf.reshape(tf.range(parts * together), [parts, together])


def _transformed_windows(x, rows):
    """[B, H, W, C] -> [36, tiles, C], of all tiles in the given rows."""
    windows = _cells(x, rows, WINDOW, border=1)
    return tf.reshape(tf.matmul(OF_WINDOWS, tf.reshape(windows, [WINDOW**2, -1])), tf.shape(windows))


def _cells(x, rows, side, border):
    """The cells of every tile: [B, H, W, C] -> [side * side, tiles, C]; 0 outside of the map.

    Args:
        x: [B, H, W, C].
        rows: [R] int32, of tiles, counted through all images.
        side: cells along a side of what is read for a tile.
        border: how many of them lie before the tile.
    """
    _, height, width, channels = tf.unstack(tf.shape(x))
    image, row = rows // _tiles(height), rows % _tiles(height)
    steps = tf.range(side)[:, None] - border
    y = row * TILE + steps  # [side, R]
    x_of_cells = tf.range(_tiles(width)) * TILE + steps  # [side, columns]
    # All four axes: [side, side, R, columns]
    y, x_of_cells = y[:, None, :, None], x_of_cells[None, :, None, :]
    inside = (y >= 0) & (y < height) & (x_of_cells >= 0) & (x_of_cells < width)
    numbers = (image[:, None] * height + y) * width + x_of_cells
    numbers = tf.reshape(tf.where(inside, numbers, -1), [side**2, -1, 1])
    return tf.gather_nd(tf.reshape(x, [-1, channels]), numbers, bad_indices_policy="IGNORE")
