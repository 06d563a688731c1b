"""TensorFlow's `roi_align`: `crop_and_resize` on edge-padded maps, with a gradient that loses no sums."""

import functools
import math

import tensorflow as tf

from fpn_tf.geometry.bilinear_pooling import boxes_on_map
from fpn_tf.kernels.choice import gpu_is_there
from fpn_tf.kernels.tf_functions import one_function
from fpn_tf.kernels.tf_pooling import pool_by_level, pool_by_size

MOST_SAMPLES = 2**13  # of all channels, that are held at once: 41 RoIs of 7 x 7 bins with 2 x 2 samples


def roi_align(pyramid, boxes, box_levels, output_size=7, sampling_ratio=2, aligned=True):
    """See `fpn_tf.geometry.bilinear_pooling.roi_align`.

    In float32, the results lie within 1e-5 of the largest value of the maps, the gradients within 1e-5 of
    their largest; samples on a border, where a rounding decides whether they are inside, aside.
    """

    def pool_level(level, boxes, image_index):
        feature = tf.cast(pyramid[level], tf.float32)
        rois = _on_map(boxes, level, aligned)
        pool = _align_with_fixed_samples if sampling_ratio else _align_with_own_samples
        return pool(feature, rois, image_index, output_size, sampling_ratio)

    return pool_by_level(pyramid, tf.cast(boxes, tf.float32), box_levels, output_size, pool_level)


def _align_with_fixed_samples(feature, rois, image_index, bins, samples):
    """The same number of samples in every bin: one crop. [M, 4] in cells -> [M, bins, bins, C]."""
    means = bin_means(bins, feature.shape[-1], samples, gpu_is_there())
    return means(feature, _padded(feature, rois), rois, image_index, samples, samples)


def _align_with_own_samples(feature, rois, image_index, bins, _):
    """ceil(side / bins) samples: one crop per number of samples. [M, 4] in cells -> [M, bins, bins, C]."""
    means = bin_means(bins, feature.shape[-1], None, gpu_is_there())
    padded = _padded(feature, rois)
    sides = tf.stack([rois[:, 3], rois[:, 2]], axis=-1)  # (height, width)
    counts = tf.maximum(tf.cast(tf.math.ceil(sides / bins), tf.int32), 1)

    def pool_group(members, rows, columns):
        return means(
            feature, padded, tf.gather(rois, members), tf.gather(image_index, members), rows, columns
        )

    pooled = pool_by_size(counts, pool_group, [bins, bins, feature.shape[-1]])
    # A box without area has no samples at all, and their mean is 0.
    return tf.where(tf.reduce_all(sides > 0, axis=1)[:, None, None, None], pooled, 0.0)


def _padded(feature, rois):
    """[B, H, W, C] -> [B, H + 2, W + 2, C], the border repeated; no gradient flows through it.

    For memory, it waits for the `rois`: the RPN's maps are gone by then.
    """
    return tf.ensure_shape(
        _edge_padded(tf.stop_gradient(feature), rois), [None, None, None, feature.shape[3]]
    )


@one_function(tf.TensorSpec([None] * 4), tf.TensorSpec(None))
def _edge_padded(feature, rois):
    """A gather of cells: half the time of tf.pad's "SYMMETRIC"."""
    del rois  # which it waits for
    batch, height, width, channels = tf.unstack(tf.shape(feature))
    y = tf.clip_by_value(tf.range(height + 2) - 1, 0, height - 1)
    x = tf.clip_by_value(tf.range(width + 2) - 1, 0, width - 1)
    cells = (tf.range(batch)[:, None, None] * height + y[:, None]) * width + x
    return tf.gather(tf.reshape(feature, [-1, channels]), cells)


def _on_map(boxes, level, aligned):
    """Boxes [M, 4] in pixels -> [M, 4] (x1, y1, width, height) in cells of a level."""
    return tf.stack(boxes_on_map(boxes, tf.fill(tf.shape(boxes)[:1], 2.0**level), aligned), -1)


@functools.cache
def bin_means(bins, channels, samples, on_gpu):
    """The one `BinMeans` of these arguments."""
    return BinMeans(bins, channels, samples, on_gpu)


class BinMeans:
    """Means of rows x columns bilinear samples in each of bins x bins parts of every RoI.

    A function of tensors with a gradient of its own. It is traced once for all that use it: TensorFlow keeps
    every gradient that is registered, and with it all tensors of the graph that it was registered in.

    Args:
        bins: parts of each side.
        channels: C of the map.
        samples: rows and columns in a part, or None where they are known when it runs.
        on_gpu: decides how sums are computed that go back to the map.
    """

    def __init__(self, bins, channels, samples, on_gpu):
        self.bins, self.channels, self.samples = bins, channels, samples
        self.spread = _spread_by_segments if on_gpu else _spread_by_product
        a_map, rois = tf.TensorSpec([None, None, None, channels]), tf.TensorSpec([None, 4])
        index, count = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)
        signature = [a_map, a_map, rois, index, count, count]
        options = {"autograph": False, "experimental_attributes": {"_noinline": True}}
        self._differentiable = tf.function(self._with_gradient, input_signature=signature, **options)

    def __call__(self, feature, padded, rois, image_index, rows, columns):
        """The means, [M, bins, bins, C].

        Args:
            feature: [B, H, W, C] float32. The gradient goes to it.
            padded: [B, H + 2, W + 2, C], see `_padded`. The samples are read from it.
            rois: [M, 4] float32 (x1, y1, width, height) in cells of `feature`.
            image_index: [M] int32.
            rows, columns: samples in a part, numbers or int32 scalars.
        """
        feature = tf.ensure_shape(feature, feature.shape)  # so that its gradient has that shape, too
        return self._differentiable(feature, padded, rois, image_index, rows, columns)

    def _with_gradient(self, feature, padded, rois, image_index, rows, columns):
        shape = tf.shape(feature)

        @tf.custom_gradient
        def means(feature):
            def gradient(upstream):
                return self.backward(upstream, shape, rois, image_index, rows, columns)

            return self.forward(padded, rois, image_index, rows, columns), gradient

        return means(feature)

    def forward(self, padded, rois, image_index, rows, columns):
        """From the padded map to the means.

        A sample up to one cell outside reads the border's value and one further out reads 0, which are
        ROIAlign's rules, and `crop_and_resize` does the rest once its corner convention is met. It crops
        some RoIs at a time, for their samples would outweigh all maps together.
        """
        size = tf.stack([self.bins * rows, self.bins * columns])
        corners = _corners(padded, rois, size)
        part_size = tf.maximum(MOST_SAMPLES // tf.reduce_prod(size), 1)
        parts = tf.maximum((tf.shape(rois)[0] + part_size - 1) // part_size, 1)

        def crop_next(i, means):
            part = slice(i * part_size, (i + 1) * part_size)
            crops = tf.image.crop_and_resize(padded, corners[part], image_index[part], size)
            return i + 1, means.write(i, self._mean_of_samples(crops, rows, columns))

        shape = [None, self.bins, self.bins, self.channels]
        means = tf.TensorArray(tf.float32, parts, infer_shape=False, element_shape=shape)
        _, means = tf.while_loop(lambda i, _: i < parts, crop_next, (0, means), parallel_iterations=1)
        return means.concat()

    def _mean_of_samples(self, crops, rows, columns):
        """[N, bins * rows, bins * columns, C] -> [N, bins, bins, C]."""
        if self.samples:  # one op, many times as fast as the mean over two axes
            return tf.nn.avg_pool2d(crops, self.samples, self.samples, "VALID")
        shape = tf.stack([-1, self.bins, rows, self.bins, columns, self.channels])
        return tf.reduce_mean(tf.reshape(crops, shape), axis=(2, 4))

    def backward(self, upstream, shape, rois, image_index, rows, columns):
        """From gradients of the means [M, bins, bins, C] to that of the map, [B, H, W, C].

        Not by `crop_and_resize`'s own gradient. On a CPU it lets threads add to the same cell at once and
        loses some of the sums (TensorFlow 2.21: gradients wrong by percents); on a GPU it adds in any
        order, and op determinism refuses it.
        """
        entries = _entries(shape, rois, image_index, self.bins, rows, columns)
        return self.spread(upstream, shape, *entries)


def _corners(padded, rois, size):
    """Rois as `crop_and_resize` wants them: first and last sample as shares of the map."""
    x1, y1, width, height = tf.unstack(rois, axis=-1)
    last = tf.cast(tf.shape(padded)[1:3] - 1, tf.float32)
    parts = tf.cast(size, tf.float32)

    def ends(start, side, count, limit):
        half = side / count / 2
        return (start + half + 1) / limit, (start + side - half + 1) / limit

    top, bottom = ends(y1, height, parts[0], last[0])
    left, right = ends(x1, width, parts[1], last[1])
    return tf.stack([top, left, bottom, right], axis=-1)


def _spread_by_product(upstream, shape, cells, bin_numbers, weights):
    """The transpose of `BinMeans.forward`, as a sparse matrix product: the CPU's way.

    TensorFlow's product runs on one thread: the channels are cut into parts, which run side by side.

    Args:
        upstream: [M, bins, bins, C], gradients of the means.
        shape: int32 [4], of the map.
        cells, bin_numbers, weights: see `_entries`.

    Returns:
        The gradient of the map.
    """
    count = tf.size(upstream) // shape[3]  # of bins in all
    indices = tf.cast(tf.stack([cells, bin_numbers], axis=1), tf.int64)
    dense_shape = tf.cast(tf.stack([tf.reduce_prod(shape[:3]), count]), tf.int64)
    matrix = tf.SparseTensor(indices, weights, dense_shape)
    parts = tf.split(tf.reshape(upstream, [count, shape[3]]), math.gcd(upstream.shape[-1], 4), axis=1)
    spread = [tf.sparse.sparse_dense_matmul(matrix, part) for part in parts]
    return tf.reshape(tf.concat(spread, axis=1), shape)


def _spread_by_segments(upstream, shape, cells, bin_numbers, weights):
    """`_spread_by_product` as sums over equal cells: the GPU's way, which can be deterministic."""
    rows = tf.gather(tf.reshape(upstream, [-1, shape[3]]), bin_numbers) * weights[:, None]
    return tf.reshape(tf.math.unsorted_segment_sum(rows, cells, tf.reduce_prod(shape[:3])), shape)


def _entries(shape, rois, image_index, bins, rows, columns):
    """What `BinMeans.forward` does, as a sparse matrix: which cell enters which bin's mean, how much.

    Returns:
        (cells int32, bin_numbers int32, weights float32), each [E]; both count through all.
    """
    x1, y1, width, height = tf.unstack(rois, axis=-1)
    y, y_weight = _axis_weights(y1, height, bins, rows, shape[1])  # [M, bins, 2 * rows]
    x, x_weight = _axis_weights(x1, width, bins, columns, shape[2])
    row = image_index[:, None, None] * shape[1] + y
    cells = row[:, :, None, :, None] * shape[2] + x[:, None, :, None, :]
    weights = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
    count = tf.shape(rois)[0] * bins * bins
    bin_numbers = tf.reshape(tf.range(count), [-1, bins, bins, 1, 1]) + tf.zeros_like(cells)
    return tuple(tf.reshape(values, [-1]) for values in (cells, bin_numbers, weights))


def _axis_weights(start, side, bins, count, size):
    """The cells that each bin's samples lie between along one axis, and their weights.

    Args:
        start, side: [M] float32 in cells.
        bins: parts of the side.
        count: samples in a part.
        size: cells of the axis.

    Returns:
        (cells int32, weights float32), each [M, bins, 2 * count].
    """
    total = bins * count
    steps = (tf.range(tf.cast(total, tf.float32)) + 0.5) / tf.cast(total, tf.float32)
    position = start[:, None] + side[:, None] * steps  # [M, total]
    last = tf.cast(size - 1, tf.float32)
    inside = tf.cast((position >= -1) & (position <= last + 1), tf.float32) / tf.cast(count, tf.float32)
    position = tf.clip_by_value(position, 0, last)
    low = tf.floor(position)
    fraction = position - low
    cells = tf.stack([low, tf.minimum(low + 1, last)], axis=-1)
    weights = tf.stack([(1 - fraction) * inside, fraction * inside], axis=-1)
    shape = tf.stack([-1, bins, 2 * count])  # [M, bins * count, 2] -> [M, bins, 2 * count]
    return tf.reshape(tf.cast(cells, tf.int32), shape), tf.reshape(weights, shape)
