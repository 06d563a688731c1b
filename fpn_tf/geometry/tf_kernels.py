"""TensorFlow's kernels for `nms` and `roi_align`: the fast path on CPU and GPU.

They are exact; only the way differs. Imported by the public functions alone, when Keras runs on
TensorFlow.
"""

import math

import tensorflow as tf

from fpn_tf.geometry.roi_align import boxes_on_map
from fpn_tf.geometry.roi_pool import bins_on_map

SAMPLES = 2**13  # of all channels, that are held at once: 41 RoIs of 7 x 7 bins with 2 x 2 samples


def gather_rows(x, indices):
    """See `fpn_tf.geometry.selection.gather_rows`; one op where Keras makes twenty.

    Its own gradient has fewer ops than TensorFlow's, which a step that is traced waits for.
    """

    @tf.custom_gradient
    def gather(x):
        def gradient(upstream):
            batch, count = tf.unstack(tf.shape(x)[:2])
            first = tf.range(batch) * count
            rows = tf.reshape(indices + first[:, None], [-1])
            upstream = tf.reshape(upstream, tf.concat([[-1], tf.shape(x)[2:]], 0))
            return tf.reshape(tf.math.unsorted_segment_sum(upstream, rows, batch * count), tf.shape(x))

        return tf.gather(x, indices, batch_dims=1), gradient

    x = tf.convert_to_tensor(x)
    return gather(x) if x.dtype.is_floating else tf.gather(x, indices, batch_dims=1)


def nms(boxes, scores, valid, iou_threshold, max_output):
    """See `fpn_tf.geometry.nms.nms`; a C++/CUDA kernel on every row."""
    lowest = scores.dtype.min
    scores = tf.where(valid, scores, lowest)

    def one_row(row):
        # Not tf.image.non_max_suppression_padded: that is a loop of small ops, many times slower.
        indices, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=row[0],
            scores=row[1],
            max_output_size=max_output,
            iou_threshold=iou_threshold,
            score_threshold=lowest,
            pad_to_max_output_size=True,
        )
        return indices, tf.range(max_output) < count

    signature = (tf.TensorSpec([max_output], tf.int32), tf.TensorSpec([max_output], tf.bool))
    return tf.map_fn(one_row, (boxes, scores), fn_output_signature=signature)


def roi_align_fixed(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with the same number of samples in every bin: one crop per level."""

    def pool_level(level, boxes, image_index):
        feature, rois = tf.cast(pyramid[level], tf.float32), _on_map(boxes, level, aligned)
        samples = (sampling_ratio, sampling_ratio)
        return _bin_means(feature, _padded(feature, rois), rois, image_index, output_size, *samples)

    return _pool_by_level(pyramid, boxes, box_levels, output_size, pool_level)


def roi_align_adaptive(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with ceil(side / bins) samples: one crop per level and number of samples.

    `sampling_ratio` is not read (it is 0).
    """
    del sampling_ratio

    def pool_level(level, boxes, image_index):
        feature, rois = tf.cast(pyramid[level], tf.float32), _on_map(boxes, level, aligned)
        padded = _padded(feature, rois)
        sides = tf.stack([rois[:, 3], rois[:, 2]], axis=-1)  # (height, width) in cells
        counts = tf.maximum(tf.cast(tf.math.ceil(sides / output_size), tf.int32), 1)

        def pool_group(members, rows, columns):
            here = tf.gather(rois, members), tf.gather(image_index, members)
            return _bin_means(feature, padded, *here, output_size, rows, columns)

        pooled = _pool_by_size(counts, pool_group, [output_size, output_size, feature.shape[-1]])
        # A box without area has no samples at all, and their mean is 0.
        return tf.where(tf.reduce_all(sides > 0, axis=1)[:, None, None, None], pooled, 0.0)

    return _pool_by_level(pyramid, boxes, box_levels, output_size, pool_level)


def roi_pool(pyramid, boxes, box_levels, output_size):
    """See `fpn_tf.geometry.roi_pool.roi_pool`: one gather per level and number of cells in a bin."""

    def pool_level(level, boxes, image_index):
        feature = tf.cast(pyramid[level], tf.float32)
        height, width, channels = tf.shape(feature)[1], tf.shape(feature)[2], feature.shape[-1]
        cells = tf.reshape(feature, [-1, channels])
        top, bottom, left, right = bins_on_map(boxes, 2.0**level, height, width, output_size)  # [M, S] each
        counts = tf.stack([tf.reduce_max(bottom - top, 1), tf.reduce_max(right - left, 1)], axis=1)

        def pool_group(members, rows, columns):
            here = [tf.gather(side, members)[..., None] for side in (top, bottom, left, right)]
            y = tf.minimum(here[0] + tf.range(rows), here[1] - 1)  # [M, S, rows], the last again
            x = tf.minimum(here[2] + tf.range(columns), here[3] - 1)
            index = tf.gather(image_index, members)[:, None, None] * height + tf.maximum(y, 0)
            index = index[:, :, None, :, None] * width + tf.maximum(x, 0)[:, None, :, None, :]
            filled = (here[1] > here[0])[:, :, None] & (here[3] > here[2])[:, None]  # [M, S, S, 1]
            return tf.where(filled, tf.reduce_max(tf.gather(cells, index), axis=(3, 4)), 0.0)

        return _pool_by_size(tf.maximum(counts, 1), pool_group, [output_size, output_size, channels])

    return _pool_by_level(pyramid, boxes, box_levels, output_size, pool_level)


def _padded(feature, rois):
    """[B, H, W, C] -> [B, H + 2, W + 2, C], the border repeated; no gradient flows through it.

    A gather of cells: half the time of tf.pad's "SYMMETRIC". Only for memory, it waits for the
    `rois`: the RPN's maps are gone by then.
    """
    batch, height, width = tf.unstack(tf.shape(feature)[:3])
    with tf.control_dependencies([rois]):
        y = tf.clip_by_value(tf.range(height + 2) - 1, 0, height - 1)
        x = tf.clip_by_value(tf.range(width + 2) - 1, 0, width - 1)
        cells = (tf.range(batch)[:, None, None] * height + y[:, None]) * width + x
    return tf.gather(tf.reshape(tf.stop_gradient(feature), [-1, feature.shape[-1]]), cells)


def _on_map(boxes, level, aligned):
    """Boxes [M, 4] in pixels -> [M, 4] (x1, y1, width, height) in cells of a level."""
    return tf.stack(boxes_on_map(boxes, tf.fill(tf.shape(boxes)[:1], 2.0**level), aligned), -1)


def _pool_by_size(counts, pool_group, shape):
    """Pools together what has as many cells or samples in a bin: a gather has one shape throughout.

    Args:
        counts: [M, 2] int32, rows and columns of each RoI's bins, at least 1.
        pool_group: (members [N] int32 of the M, rows, columns) -> [N, *shape].
        shape: of a pooled map.

    Returns:
        [M, *shape] float32.
    """
    unique, group = tf.unique(counts[:, 0] * 65536 + counts[:, 1])  # one key for each pair

    def next_group(i, pooled):
        members = tf.where(group == i)[:, 0]
        found = pool_group(members, unique[i] // 65536, unique[i] % 65536)
        return i + 1, tf.tensor_scatter_nd_update(pooled, members[:, None], found)

    pooled = tf.zeros([tf.shape(counts)[0], *shape])
    groups = tf.size(unique)
    return tf.while_loop(lambda i, _: i < groups, next_group, (0, pooled))[1]


def _pool_by_level(pyramid, boxes, box_levels, output_size, pool_level):
    """Splits the boxes by level, pools each level's, and puts the results back in order.

    `pool_level` is (level, boxes [M, 4], image_index [M] int32) -> [M, S, S, C] float32.
    """
    levels = sorted(pyramid)
    channels = pyramid[levels[0]].shape[-1]
    batch, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
    flat_boxes = tf.reshape(boxes, [-1, 4])
    flat_levels = tf.reshape(box_levels, [-1])
    image_index = tf.repeat(tf.range(batch), count)
    pooled, members = [], []
    for level in levels:
        here = tf.where(flat_levels == level)[:, 0]
        pooled.append(pool_level(level, tf.gather(flat_boxes, here), tf.gather(image_index, here)))
        members.append(here)
    order = tf.math.invert_permutation(tf.concat(members, 0))
    pooled = tf.gather(tf.concat(pooled, 0), order)
    pooled = tf.reshape(pooled, [batch, count, output_size, output_size, channels])
    return tf.cast(pooled, pyramid[levels[0]].dtype)


def _bin_means(feature, padded, rois, image_index, bins, rows, columns):
    """Means of rows x columns bilinear samples in each of bins x bins parts of every roi.

    They are read from `padded`, whose border is repeated once: a sample up to one cell outside
    then reads the border's value and one further out reads 0, which are ROIAlign's rules, and
    `crop_and_resize` does the rest once its corner convention is met. It crops some RoIs at a
    time, for their samples would outweigh all maps together.

    Its gradient is not used. On a CPU it lets threads add to the same cell at once and loses some
    of the sums (TensorFlow 2.21: gradients wrong by percents); on a GPU it adds in any order, and
    op determinism refuses it. `_spread` goes back instead, to `feature`.

    Args:
        feature: [B, H, W, C] float32.
        padded: [B, H + 2, W + 2, C], see `_padded`.
        rois: [M, 4] float32 (x1, y1, width, height) in cells of `feature`.
        image_index: [M] int32.
        bins: parts of each side.
        rows, columns: samples in a part, numbers or int32 scalars.

    Returns:
        [M, bins, bins, C].
    """
    channels = feature.shape[-1]

    def means():
        size = tf.stack([bins * rows, bins * columns])
        corners = _corners(padded, rois, size)
        together = tf.maximum(SAMPLES // tf.reduce_prod(size), 1)
        parts = tf.maximum((tf.shape(rois)[0] + together - 1) // together, 1)

        def next_part(i, found):
            part = slice(i * together, (i + 1) * together)
            crops = tf.image.crop_and_resize(padded, corners[part], image_index[part], size)
            return i + 1, found.write(i, mean_of_samples(crops))

        options = {"infer_shape": False, "element_shape": [None, bins, bins, channels]}
        loop = (0, tf.TensorArray(tf.float32, parts, **options))
        return tf.while_loop(lambda i, _: i < parts, next_part, loop, parallel_iterations=1)[1].concat()

    def mean_of_samples(crops):
        if isinstance(rows, int):  # one op, many times as fast as the mean over two axes
            return tf.nn.avg_pool2d(crops, (rows, columns), (rows, columns), "VALID")
        parts = tf.stack([-1, bins, rows, bins, columns, channels])
        return tf.reduce_mean(tf.reshape(crops, parts), axis=(2, 4))

    spread = _spread_by_segments if tf.config.list_logical_devices("GPU") else _spread_by_product

    @tf.custom_gradient
    def means_with_own_gradient(feature):
        def gradient(upstream):
            entries = _entries(tf.shape(feature), rois, image_index, bins, rows, columns)
            return spread(upstream, tf.shape(feature), *entries)

        return means(), gradient

    return means_with_own_gradient(feature)


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
    """The transpose of `_bin_means`, as a sparse matrix product: the CPU's way.

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
    """What `_bin_means` does, as a sparse matrix: which cell enters which bin's mean, how much.

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
