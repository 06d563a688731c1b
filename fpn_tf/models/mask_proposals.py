"""Segmentation proposals on a feature pyramid (FPN paper, sec. 6, Table 6).

images -> resnet -> fpn -> mask_heads -> masks of the highest scores
"""

import keras
import numpy as np
from keras import ops

from fpn_tf import losses
from fpn_tf.geometry.noise import uniform_noise
from fpn_tf.geometry.selection import best_rows
from fpn_tf.geometry.window_grid import window_grid
from fpn_tf.models.base import MASK_STREAM, PyramidModel, ground_truth
from fpn_tf.models.mask_head import MaskHead
from fpn_tf.structures import BatchMasks, MaskDetections, MaskLosses, NetOutputs
from fpn_tf.targets.mask_targets import assign_mask_targets


@keras.saving.register_keras_serializable("fpn_tf")
class MaskProposals(PyramidModel):
    """Proposes masks for whatever may be an object, without classes.

    `call(x)` gives BatchMasks, the windows of the highest scores; nothing is suppressed. x is
    that of `fpn_tf.RPN`, and y holds besides

        y = {..., "masks": uint8 [B, G, S, S], see `fpn_tf.data.masks.in_box`,
             "image_sizes": as in x}

    Args:
        config: `fpn_tf.Config`.

    Raises:
        ConfigError: a bad value in the config.
    """

    losses_type = MaskLosses

    def __init__(self, config, **kwargs):
        super().__init__(config, **{"name": "mask_proposals"} | kwargs)

    def build_heads(self):
        super().build_heads()
        settings = self.config.model.mask
        self.mask_heads = []
        for window in settings.windows:
            head = MaskHead(
                window,
                settings.hidden_units,
                settings.mask_size,
                name=f"mask_head{window}",
                dtype=self.dtype_policy,
            )
            head.build({f"p{level}": (None, None, None, self.map_channels) for level in self.levels})
            head.built = True
            self.mask_heads.append(head)

    def forward(self, inputs, training):
        """x -> NetOutputs of which there is a pyramid alone."""
        return NetOutputs(self.pyramid(inputs, training), None, None)

    def windows(self, pyramid):
        """The Windows of all heads on the maps of a pyramid, head by head, finest level first."""
        settings = self.config.model.mask
        sizes = {level: ops.shape(pyramid[f"p{level}"])[1:3] for level in self.levels}
        canonical = [settings.canonical_size * (2**0.5 if w == 7 else 1.0) for w in settings.windows]
        return window_grid(sizes, canonical, settings.padding)

    def at_windows(self, pyramid, indices):
        """(scores [B, S], masks [B, S, M, M]) before the sigmoid, at [B, S] indices of windows."""
        count = sum(ops.shape(feature)[1] * ops.shape(feature)[2] for feature in pyramid.values())
        head_of, cells = indices // count, indices % count
        scores, masks = 0.0, 0.0
        for number, head in enumerate(self.mask_heads):
            here = ops.cast(head_of == number, "float32")
            own_scores, own_masks = head.at_cells(pyramid, cells)
            scores, masks = scores + own_scores * here, masks + own_masks * here[..., None, None]
        return scores, masks

    def detections(self, outputs, image_sizes):
        """NetOutputs -> BatchMasks."""
        windows = self.windows(outputs.pyramid)
        scores = [level for head in self.mask_heads for level in head(outputs.pyramid).values()]
        scores = ops.concatenate(scores, axis=1)  # [B, N]
        limit = ops.cast(ops.flip(image_sizes, axis=1), "float32")[:, None]  # (width, height)
        inside = ops.all(windows.centers < limit, axis=-1)
        best, indices, there = best_rows(
            ops.where(inside, scores, -3e38), self.config.model.mask.max_proposals
        )
        valid = there & (best > -1e38)
        _, masks = self.at_windows(outputs.pyramid, indices)
        regions = ops.take(windows.regions, indices, axis=0)
        scores = ops.where(valid, ops.sigmoid(best), 0.0)
        return BatchMasks(regions, scores, ops.cast(valid, "int32"), valid, ops.sigmoid(masks))

    def compute_losses(self, y, outputs, training=True):
        """The losses of a batch: MaskLosses, means over its images."""
        del training
        settings, gt = self.config.model.mask, ground_truth(y)
        windows = self.windows(outputs.pyramid)
        noise = uniform_noise(y["sample_seeds"], ops.shape(windows.scales)[0], MASK_STREAM)
        targets = assign_mask_targets(windows, gt, y["masks"], y["image_sizes"], noise, settings)
        predicted = self.at_windows(outputs.pyramid, targets.indices)
        score_loss, mask_loss = losses.mask_losses(*predicted, targets)
        mask_loss = settings.loss_weight * mask_loss
        return MaskLosses(score_loss, mask_loss, score_loss + mask_loss)

    def in_photo(self, regions, scores, classes, valid, masks, size, photo_size):
        """One image's part of a BatchMasks as MaskDetections of the photo it was made from."""
        del classes
        scale = np.asarray([photo_size[1] / size[1], photo_size[0] / size[0]] * 2, np.float32)
        limit = np.asarray([photo_size[1], photo_size[0]] * 2, np.float32)
        regions, masks = regions[valid] * scale, masks[valid]
        boxes = np.clip(tight_boxes(regions, masks), 0, limit)
        return MaskDetections(boxes, scores[valid], np.ones(len(masks), np.int64), regions, masks)

    @property
    def max_detections(self):
        """The most masks that one image can have."""
        return self.config.model.mask.max_proposals


def tight_boxes(regions, masks):
    """[D, 4] around the cells >= .5 of masks [D, M, M] on regions [D, 4]; the region where none is."""
    inside = masks >= 0.5
    size, corners = masks.shape[-1], []
    for axis in (1, 2):  # columns, then rows
        filled = inside.any(axis=axis)
        first, last = filled.argmax(axis=1), size - filled[:, ::-1].argmax(axis=1)
        corners.append((np.where(filled.any(axis=1), first, 0), np.where(filled.any(axis=1), last, size)))
    (x1, x2), (y1, y2) = corners
    sides = np.concatenate([regions[:, 2:] - regions[:, :2]] * 2, axis=1)
    origin = np.concatenate([regions[:, :2]] * 2, axis=1)
    return (origin + sides * np.stack([x1, y1, x2, y2], axis=1) / size).astype(np.float32)
