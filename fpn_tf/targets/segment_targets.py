"""The targets of a segment head at a sample of its windows (FPN paper, appendix)."""

from keras import ops

from fpn_tf.geometry.bilinear_pooling import roi_align
from fpn_tf.geometry.selection import gather_rows, sizes_of
from fpn_tf.structures import SegmentTargets
from fpn_tf.targets.box_targets import BACKGROUND, FOREGROUND, IGNORED, sample


def assign_segment_targets(
    windows, gt, segments, image_sizes, noise, *, samples, foreground_fraction, segment_size
):
    """Labels windows by the ground truth, samples them and crops the segments that they should give.

    Args:
        windows: Windows, those of all levels and heads.
        gt: GroundTruth.
        segments: [B, G, M, M] the objects, see `segment_in`.
        image_sizes: [B, 2] (height, width); windows with their middle outside take no part.
        noise: [B, N] float32, see `fpn_tf.targets.box_targets.sample`.
        samples: S, windows to draw of each image.
        foreground_fraction: see `fpn_tf.targets.box_targets.sample`.
        segment_size: cells on each side of a target.

    Returns:
        SegmentTargets of S entries.
    """
    gt_index, labels = match_windows(windows, gt)
    limit = ops.cast(ops.flip(image_sizes, axis=1), "float32")[:, None]  # (width, height)
    labels = ops.where(ops.all(windows.centers < limit, axis=-1), labels, IGNORED)
    drawn = sample(labels, noise, samples, foreground_fraction)
    sampled_gt = gather_rows(gt_index, drawn.indices)
    cropped = segment_in(
        ops.take(windows.regions, drawn.indices, axis=0),
        gather_rows(gt.boxes, sampled_gt),
        gather_rows(segments, sampled_gt),
        segment_size,
    )
    return SegmentTargets(drawn.indices, ops.cast(drawn.foreground, "float32"), cropped, drawn.valid)


def match_windows(windows, gt):
    """The object that each window is for, and whether it is for any.

    An object belongs to the windows of the nearest scale in log space (its longer side, against
    their canonical size) whose middle is within their stride of the object's, along both axes.

    Returns:
        (gt_index [B, N] int32, the nearest such object; labels [B, N] int32, 1 foreground, 0 not).
    """
    sides = gt.boxes[..., 2:] - gt.boxes[..., :2]
    scale = ops.log(ops.maximum(ops.max(sides, axis=-1), 1e-6))  # [B, G]
    sizes = ops.log(ops.cast(windows.sizes, "float32"))  # [scales]
    nearest = ops.argmin(ops.abs(scale[..., None] - sizes), axis=-1)  # [B, G]
    is_of_scale = ops.cast(nearest, "int32")[:, None] == windows.scales[None, :, None]  # [B, N, G]
    middles = (gt.boxes[..., 2:] + gt.boxes[..., :2]) / 2
    offsets = ops.abs(middles[:, None] - windows.centers[None, :, None])  # [B, N, G, 2]
    distance = ops.max(offsets, axis=-1)
    is_near = distance <= windows.strides[None, :, None]
    fits = is_of_scale & is_near & gt.valid[:, None]
    distance = ops.where(fits, distance, 1e9)
    labels = ops.where(ops.any(fits, axis=-1), FOREGROUND, BACKGROUND)
    return ops.cast(ops.argmin(distance, axis=-1), "int32"), ops.cast(labels, "int32")


def segment_in(regions, boxes, segments, size):
    """The cells of a grid over a region that an object covers.

    Args:
        regions: [B, S, 4] in pixels.
        boxes: [B, S, 4] the objects' boxes.
        segments: [B, S, M, M] in 0..255, the objects; their outermost cells are a border of 0 around
            the box, which the other M - 2 cells fill on each side.
        size: cells on each side of the grid.

    Returns:
        [B, S, size, size] float32, 1 where most of a cell is inside the object, otherwise 0.
    """
    cells = segments.shape[-1] - 2
    samples = sizes_of(regions)[1]
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-6)
    scale = ops.concatenate([cells / sides] * 2, axis=-1)
    origin = ops.concatenate([boxes[..., :2]] * 2, axis=-1)
    on_grid = (regions - origin) * scale + 1.0  # cell 0 is border
    maps = ops.reshape(ops.cast(segments, "float32"), [-1, cells + 2, cells + 2, 1])
    rois = ops.reshape(on_grid, [-1, 1, 4])
    levels = ops.zeros_like(rois[..., 0], dtype="int32")
    covered = roi_align({0: maps}, rois, levels, size, sampling_ratio=3, aligned=True)
    return ops.cast(ops.reshape(covered, [-1, samples, size, size]) > 255 / 2, "float32")
