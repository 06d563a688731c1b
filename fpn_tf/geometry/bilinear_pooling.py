"""ROIAlign over a pyramid (Mask R-CNN, sec. 3), as a function and as a layer.

Every box is pooled from the level that fits its size. With a fixed number of samples per bin the samples
are gathered; with adaptive sampling, whose number follows each box, maps are multiplied with the
interpolation matrices of each box. Exact against torchvision's and Detectron2's kernels.
"""

from typing import Any

import keras
from keras import ops

from fpn_tf.geometry.boxes import box_area
from fpn_tf.geometry.levels import check_rank, levels_of
from fpn_tf.geometry.selection import gather_rows, sizes_of
from fpn_tf.kernels.choice import plain_is_asked_for, replaceable
from fpn_tf.structures import Array


class Pooler(keras.layers.Layer):
    """The base of `ROIAlign` and `ROIPool`; a subclass gives `pool(maps, boxes, levels)`."""

    def __init__(self, output_size: int, canonical_size: float, canonical_level: int, **kwargs: Any):
        name = type(self).__name__
        if not isinstance(output_size, int) or output_size < 1:
            raise ValueError(
                f"output_size={output_size!r}: expected one int, the bins along each side; call {name}(7)"
            )
        super().__init__(**kwargs)
        self.output_size = output_size
        self.canonical_size, self.canonical_level = canonical_size, canonical_level
        # TensorFlow's kernels have shapes that XLA cannot know.
        self.supports_jit = keras.config.backend() != "tensorflow" or plain_is_asked_for()

    def build(self, pyramid_shape, boxes_shape):
        self.check(pyramid_shape, boxes_shape)

    def check(self, pyramid_shape: Any, boxes_shape: Any) -> None:
        """Raises TypeError or ValueError for shapes that are not those of a pyramid and its boxes."""
        levels_of(pyramid_shape, "p", type(self).__name__)
        check_rank(boxes_shape, "[B, R, 4]", f"{type(self).__name__}: boxes")

    def call(self, pyramid, boxes):
        boxes = keras.ops.stop_gradient(boxes)
        maps = {int(name[1:]): feature for name, feature in pyramid.items()}
        levels = assign_levels(boxes, sorted(maps), self.canonical_size, self.canonical_level)
        return self.pool(maps, boxes, levels)

    def compute_output_shape(self, pyramid_shape, boxes_shape):
        channels = next(iter(pyramid_shape.values()))[-1]
        return (*boxes_shape[:2], self.output_size, self.output_size, channels)

    def compute_output_spec(self, pyramid, boxes):
        self.check(keras.tree.map_structure(lambda x: x.shape, pyramid), boxes.shape)
        shapes = {name: feature.shape for name, feature in pyramid.items()}
        dtype = next(iter(pyramid.values())).dtype
        return keras.KerasTensor(self.compute_output_shape(shapes, boxes.shape), dtype=dtype)

    def get_config(self):
        names = ("output_size", "canonical_size", "canonical_level")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("fpn_tf")
class ROIAlign(Pooler):
    """(pyramid {"p2": [B, H, W, C], ...}, boxes [B, R, 4] in pixels) -> [B, R, S, S, C].

    Args:
        output_size: S, bins along each side.
        sampling_ratio: samples per bin along each side; 0 is adaptive.
        aligned: half-cell shift, see `fpn_tf.geometry.bilinear_pooling.roi_align`.
        canonical_size: side in pixels of the boxes that `canonical_level` serves.
        canonical_level: k0 of eq. 1.
        inclusive: pool up to x2 - 1, y2 - 1, as Detectron does, whose x2 is the last pixel inside.
        **kwargs: of `keras.Layer`.

    Level l must have stride 2^l. No gradient flows into the boxes.

    Raises:
        TypeError, ValueError: anything but maps by name, p2, p3, ..., and boxes [B, R, 4].

    Example:

    >>> pyramid = {"p2": np.zeros((1, 16, 24, 8), "float32"), "p3": np.ones((1, 8, 12, 8), "float32")}
    >>> boxes = np.array([[[4, 4, 30, 40], [0, 0, 96, 64]]], "float32")
    >>> pooled = fpn_tf.ROIAlign(7, canonical_size=56, canonical_level=3)(pyramid, boxes)
    >>> tuple(pooled.shape), float(pooled[0, 0, 3, 3, 0]), float(pooled[0, 1, 3, 3, 0])
    ((1, 2, 7, 7, 8), 0.0, 1.0)

    Source: He et al., Mask R-CNN, arXiv 1703.06870, sec. 3; FPN paper, eq. 1.
    """

    def __init__(
        self,
        output_size: int = 7,
        sampling_ratio: int = 2,
        aligned: bool = True,
        canonical_size: float = 224,
        canonical_level: int = 4,
        inclusive: bool = False,
        **kwargs: Any,
    ):
        super().__init__(output_size, canonical_size, canonical_level, **kwargs)
        self.sampling_ratio, self.aligned, self.inclusive = sampling_ratio, aligned, inclusive

    def pool(self, maps: dict[int, Array], boxes: Array, levels: Array) -> Array:
        if self.inclusive:
            boxes = boxes - keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0], "float32")
        return roi_align(maps, boxes, levels, self.output_size, self.sampling_ratio, self.aligned)

    def get_config(self):
        names = ("sampling_ratio", "aligned", "inclusive")
        return super().get_config() | {name: getattr(self, name) for name in names}


def assign_levels(boxes, levels, canonical_size=224, canonical_level=4):
    """The pyramid level of each box: k = floor(k0 + log2(sqrt(w*h) / 224)) (FPN paper, eq. 1).

    Args:
        boxes: [..., 4] in pixels.
        levels: those of the pyramid, in rising order; k is clamped to them.
        canonical_size: side in pixels of the box that belongs to `canonical_level`.
        canonical_level: k0.

    Returns:
        [...] int32. A box without area belongs to the finest level.
    """
    side = ops.sqrt(box_area(ops.cast(boxes, "float32")))
    # The 1e-6 (torchvision's) keeps a side of exactly 2^n * canonical_size on its own level.
    octave = ops.log(ops.maximum(side, 1e-6) / canonical_size) / ops.log(ops.cast(2.0, "float32"))
    level = ops.floor(canonical_level + octave + 1e-6)
    return ops.cast(ops.clip(level, levels[0], levels[-1]), "int32")


@replaceable
def roi_align(pyramid, boxes, box_levels, output_size=7, sampling_ratio=2, aligned=True):
    """Pools a fixed-size map from under each box by bilinear sampling.

    Args:
        pyramid: {level: [B, H, W, C]}; level l has stride 2^l.
        boxes: [B, R, 4] float32 in pixels of the image.
        box_levels: [B, R] int32, one of the pyramid's levels for each box.
        output_size: bins along each side.
        sampling_ratio: samples per bin along each side; 0 means adaptive, ceil(side / bins) on
            the map (Detectron2's default).
        aligned: shift by half a cell, so that cell centres lie at half-integer coordinates
            (Detectron2); False is the original ROIAlign (torchvision's detectors), in which a
            box is also at least one cell wide and high.

    Returns:
        [B, R, output_size, output_size, C] in the maps' dtype.
    """
    boxes = ops.cast(boxes, "float32")
    if sampling_ratio:
        return _align_by_gather(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned)
    return _align_by_matrices(pyramid, boxes, box_levels, output_size, aligned)


def boxes_on_map(boxes, strides, aligned):
    """Boxes in cells of their maps, as (x1, y1, width, height), each [...].

    Args:
        boxes: [..., 4] in pixels.
        strides: [...] float32, the stride of each box's map.
        aligned: see `roi_align`.
    """
    boxes = boxes / strides[..., None] - (0.5 if aligned else 0.0)
    x1, y1, x2, y2 = ops.unstack(boxes, 4, axis=-1)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = ops.maximum(width, 1.0), ops.maximum(height, 1.0)
    return x1, y1, width, height


def _neighbours(position, size):
    """Bilinear neighbours along one axis, with ROIAlign's border rules.

    Args:
        position: float32, in cells; cell centres lie at whole numbers.
        size: number of cells, broadcast against `position`.

    Returns:
        ((low index, its weight), (high index, its weight)), each as `position`; a position more than one
        cell outside has weights 0, others outside take the border's value.
    """
    size = ops.cast(size, "float32")
    inside = ops.cast((position >= -1.0) & (position <= size), "float32")
    position = ops.clip(position, 0.0, size - 1.0)
    low = ops.floor(position)
    high = ops.minimum(low + 1.0, size - 1.0)
    fraction = position - low
    return (ops.cast(low, "int32"), inside * (1 - fraction)), (ops.cast(high, "int32"), inside * fraction)


def _align_by_gather(pyramid, boxes, box_levels, output_size, sampling_ratio, aligned):
    """`roi_align` with a fixed `sampling_ratio`, as one gather from all maps laid end to end.

    In float32 at least: a GPU adds up the gradient's many rows of bfloat16 several times slower.
    """
    levels = sorted(pyramid)
    sizes = [sizes_of(pyramid[k]) for k in levels]
    dtype = pyramid[levels[0]].dtype
    _, heights, widths, (channels, *_) = zip(*sizes)
    cells = ops.concatenate(
        [ops.reshape(pyramid[k], [images, h * w, c]) for k, (images, h, w, c) in zip(levels, sizes)], axis=1
    )
    cells = ops.cast(cells, keras.backend.result_type(dtype, "float32"))
    starts = [sum(h * w for h, w in zip(heights[:i], widths[:i])) for i in range(len(levels))]

    def of_box(values, dtype="int32"):
        """A number per level -> that of each box's level, [B, R]."""
        table = ops.stack([ops.cast(value, dtype) for value in values])
        return ops.take(table, ops.cast(box_levels, "int32") - levels[0], axis=0)

    x1, y1, width, height = boxes_on_map(boxes, of_box([2.0**k for k in levels], "float32"), aligned)
    images, rois = sizes_of(boxes)[:2]
    samples = output_size * sampling_ratio  # S along each side
    steps = (ops.arange(samples, dtype="float32") + 0.5) / samples
    rows = _neighbours(y1[..., None] + steps * height[..., None], of_box(heights)[..., None])
    columns = _neighbours(x1[..., None] + steps * width[..., None], of_box(widths)[..., None])
    start, row_length = of_box(starts)[..., None], of_box(widths)[..., None]

    sampled = 0.0
    for y, y_weight in rows:
        for x, x_weight in columns:
            numbers = (start + y * row_length)[..., :, None] + x[..., None, :]  # [B, R, S, S]
            values = gather_rows(cells, ops.reshape(numbers, [images, rois * samples**2]))
            values = ops.reshape(values, [images, rois, samples, samples, channels])
            weights = y_weight[..., :, None, None] * x_weight[..., None, :, None]
            sampled = sampled + values * weights
    # [B, R, S, S, C] -> [B, R, bins, k, bins, k, C] -> [B, R, bins, bins, C]
    bins = [-1, rois, output_size, sampling_ratio, output_size, sampling_ratio, channels]
    return ops.cast(ops.mean(ops.reshape(sampled, bins), axis=(3, 5)), dtype)


def _align_by_matrices(pyramid, boxes, box_levels, output_size, aligned):
    """`roi_align` with adaptive sampling: bins = Y @ map @ X^T, Y and X the averaged hat functions.

    Exact and static in shape, at the price of work in proportion to the map's size.
    """
    if boxes.shape[1] == 0:
        return empty_pool(pyramid, boxes, output_size)
    pooled = 0.0
    for level, feature in pyramid.items():
        strides = ops.full_like(boxes[..., 0], 2.0**level)
        on_map = ops.stack(boxes_on_map(boxes, strides, aligned), axis=-1)  # [B, R, 4]
        is_of_level = ops.cast(box_levels == level, feature.dtype)  # [B, R]
        pooled = pooled + ops.map(
            lambda image: _align_image(*image, output_size), (feature, on_map, is_of_level)
        )
    return pooled


def empty_pool(pyramid, boxes, output_size):
    """What is pooled for no boxes [B, 0, 4], which `ops.map` cannot pass through: [B, 0, S, S, C]."""
    feature = next(iter(pyramid.values()))
    shape = (sizes_of(boxes)[0], 0, output_size, output_size, feature.shape[-1])
    return ops.zeros(shape, feature.dtype)


def _align_image(feature, boxes, is_used, bins):
    """Map [H, W, C], boxes [R, 4] (x1, y1, width, height) in cells, is_used [R] -> [R, bins, bins, C]."""
    height, width, _ = sizes_of(feature)

    def align_box(box_and_use):
        box, used = box_and_use
        x1, y1, box_width, box_height = ops.unstack(box, 4)
        rows = ops.cast(_averaging_matrix(y1, box_height, height, bins), feature.dtype)  # [bins, H]
        columns = ops.cast(_averaging_matrix(x1, box_width, width, bins), feature.dtype)  # [bins, W]
        by_row = ops.tensordot(rows, feature, axes=1)  # [bins, W, C]
        return used * ops.einsum("qw,pwc->pqc", columns, by_row)

    return ops.map(align_box, (boxes, is_used))


def _averaging_matrix(start, side, size, bins):
    """[bins, size] weights with which the cells of an axis enter each bin's mean.

    Args:
        start: scalar, where the box begins, in cells.
        side: scalar, its length in cells.
        size: cells along the axis.
        bins: int.
    """
    count = ops.maximum(ops.ceil(side / bins), 1.0)  # samples per bin
    bin_side = side / bins
    bin_start = start + ops.arange(bins, dtype="float32")[:, None] * bin_side  # [bins, 1]
    sample = _samples_on_map(bin_start, bin_side, count, size)  # [bins, samples]
    position = bin_start + (sample + 0.5) * bin_side / count
    # A box without area has no samples at all, and their mean is 0.
    is_sample = ops.cast((sample < count) & (side > 0), "float32")
    cells = ops.arange(size, dtype="int32")
    matrix = 0.0
    for cell, weight in _neighbours(position, size):
        share = weight * is_sample / count  # [bins, samples]
        matrix = matrix + ops.sum(ops.where(cell[..., None] == cells, share[..., None], 0.0), axis=1)
    return matrix


def _samples_on_map(bin_start, bin_side, count, size):
    """The numbers of the samples in a bin, counted from 0, that can lie on a map of `size` cells.

    Samples lie more than half a cell apart (or are single), so 2 * (size + 1) of them reach across the map:
    the first ones, or in a bin that begins far before the map those from one cell before the map on.

    Args:
        bin_start: [bins, 1], where each bin begins, in cells.
        bin_side: scalar, its length in cells.
        count: scalar, samples per bin.
        size: cells along the axis.

    Returns:
        [bins, 2 * (size + 1)] float32.
    """
    before_map = ops.floor((-1.0 - bin_start) / ops.maximum(bin_side, 1e-6) * count - 0.5)
    return ops.cast(ops.arange(2 * (size + 1), dtype="int32"), "float32") + ops.clip(before_map, 0.0, 1e9)
