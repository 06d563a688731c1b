"""Outputs of a head at a few anchors or cells alone, from the cells around them. Made of `keras.ops`.

The losses see some 256 of hundreds of thousands of anchors; the gradient of these few cells costs next to
nothing, where that of the whole maps costs as much as a fifth of the training step.
"""

from keras import ops

from fpn_tf.geometry.selection import gather_rows, sizes_of


def outputs_at_anchors(head, pyramid, indices):
    """See `fpn_tf.models.heads.rpn.outputs_at_anchors`; equal up to rounding, to 1e-5 of the largest."""
    cells, anchor_of_cell = indices // head.num_anchors, indices % head.num_anchors
    windows, is_inside = neighbourhoods(pyramid, cells, reach=head.conv_layers)
    for conv in head.convs[:-1]:  # each leaves a ring of cells less: [B*S, D, D, C] -> [B*S, D-2, D-2, C]
        windows = ops.relu(_convolve(conv, windows))
        is_inside = is_inside[:, 1:-1, 1:-1]
        windows = windows * is_inside  # the next convolution sees zeros outside of the map, too
    hidden = ops.relu(_on_whole_windows(head.convs[-1], windows))  # [B*S, C]
    samples = sizes_of(indices)[1]
    # [B*S, A] -> [B, S, A] and [B*S, A*4] -> [B, S, A, 4]
    logits = ops.reshape(_on_whole_windows(head.objectness, hidden), [-1, samples, head.num_anchors])
    deltas = ops.reshape(_on_whole_windows(head.deltas, hidden), [-1, samples, head.num_anchors, 4])
    is_sampled = ops.one_hot(anchor_of_cell, head.num_anchors, dtype="float32")  # [B, S, A]
    logits = ops.sum(ops.cast(logits, "float32") * is_sampled, axis=-1)
    return logits, ops.sum(ops.cast(deltas, "float32") * is_sampled[..., None], axis=-2)


def outputs_at_cells(head, pyramid, cells):
    """See `fpn_tf.models.heads.segment.outputs_at_cells`; equal up to rounding, to 1e-5 of the largest."""
    windows, _ = neighbourhoods(pyramid, cells, reach=head.window // 2)
    hidden = ops.relu(_convolve(head.hidden, windows))  # [B*S, 1, 1, units]
    samples = sizes_of(cells)[1]
    scores = ops.reshape(head.score(hidden), [-1, samples])
    segments = ops.reshape(head.segment(hidden), [-1, samples, head.segment_size, head.segment_size])
    return ops.cast(scores, "float32"), ops.cast(segments, "float32")


def neighbourhoods(pyramid, cells, reach):
    """The surroundings of some cells of a pyramid, as small maps.

    Args:
        pyramid: {level name: [B, H, W, C]}.
        cells: [B, S] int32, counted through all levels.
        reach: cells on each side of the one in the middle.

    Returns:
        (maps [B*S, D, D, C], 0 outside of the pyramid's map; inside [B*S, D, D, 1] in their
        dtype, 1 or 0), D = 2 * reach + 1.
    """
    side, samples = 2 * reach + 1, sizes_of(cells)[1]
    cells_before, maps, inside = 0, 0, 0
    for feature in pyramid.values():
        _, height, width, channels = sizes_of(feature)
        numbers, is_inside = _numbers_around(cells - cells_before, height, width, reach)  # [B, S, D, D]
        numbers = ops.reshape(numbers, [-1, samples * side**2])
        values = gather_rows(ops.reshape(feature, [-1, height * width, channels]), numbers)
        is_inside = ops.cast(ops.reshape(is_inside, [-1, side, side, 1]), feature.dtype)
        maps = maps + ops.reshape(values, [-1, side, side, channels]) * is_inside
        inside = inside + is_inside
        cells_before = cells_before + height * width
    return maps, inside


def _numbers_around(cells, height, width, reach):
    """The numbers of the cells around some cells of one map.

    Args:
        cells: [B, S] int32, counted through the map; those of other maps are negative or too large.
        height, width: of the map.
        reach: as in `neighbourhoods`.

    Returns:
        (numbers [B, S, D, D] int32, 0 where there is no cell; which of them are cells, bool).
    """
    is_of_map = (cells >= 0) & (cells < height * width)
    cells = ops.where(is_of_map, cells, 0)
    steps = ops.arange(-reach, reach + 1, dtype="int32")
    y = (cells // width)[..., None, None] + steps[:, None]  # [B, S, D, 1]
    x = (cells % width)[..., None, None] + steps  # [B, S, 1, D]
    is_inside = is_of_map[..., None, None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return ops.where(is_inside, y * width + x, 0), is_inside


def _convolve(conv, windows):
    """A layer's convolution with bias, without padding: [N, D, D, C] -> [N, D-K+1, D-K+1, filters]."""
    kernel, bias = (ops.cast(x, windows.dtype) for x in (conv.kernel, conv.bias))
    return ops.conv(windows, kernel, padding="valid", data_format="channels_last") + bias


def _on_whole_windows(conv, windows):
    """A convolution's outputs on windows as large as its kernel: [N, K, K, C] -> [N, filters].

    One matrix product: as a convolution of many tiny images it and its gradient take several times as long.
    """
    kernel = ops.cast(ops.reshape(conv.kernel, [-1, conv.filters]), windows.dtype)
    rows = ops.reshape(windows, [-1, kernel.shape[0]])
    return ops.matmul(rows, kernel) + ops.cast(conv.bias, windows.dtype)
