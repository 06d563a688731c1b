"""Windows: what segmentation heads look at, one around every cell of every level."""

from keras import ops

from fpn_tf.structures import Windows


def window_grid(map_sizes, canonical_sizes, padding):
    """The windows of all heads, head by head, finest level first, row by row.

    Args:
        map_sizes: {level: (H, W)}, numbers or scalar tensors; level l has stride 2^l.
        canonical_sizes: for each head, the size in pixels of the objects that it is for on level 2.
        padding: share of that size by which the region of a segment is larger.

    Returns:
        Windows.
    """
    centers, scales, strides, sizes = [], [], [], []
    for canonical in canonical_sizes:
        for level, (height, width) in map_sizes.items():
            y = (ops.cast(ops.arange(height, dtype="int32"), "float32") + 0.5) * 2.0**level
            x = (ops.cast(ops.arange(width, dtype="int32"), "float32") + 0.5) * 2.0**level
            y, x = ops.meshgrid(y, x, indexing="ij")
            centers.append(ops.reshape(ops.stack([x, y], axis=-1), [-1, 2]))
            ones = ops.ones_like(centers[-1][:, 0])
            scales.append(ops.cast(ones * len(sizes), "int32"))
            strides.append(ones * 2.0**level)
            sizes.append(canonical * 2.0 ** (level - 2))
    centers, scales, strides = (ops.concatenate(x, axis=0) for x in (centers, scales, strides))
    side = ops.take(ops.convert_to_tensor(sizes, "float32"), scales, axis=0)
    half = side[:, None] * (1 + padding) / 2
    regions = ops.concatenate([centers - half, centers + half], axis=-1)
    return Windows(centers, regions, scales, strides, tuple(sizes))
