"""Segment heads: their layers, and the stage that proposes segments and tells the losses."""

import keras
from keras import ops

from fpn_tf import losses
from fpn_tf.geometry.levels import levels_of
from fpn_tf.geometry.selection import best_rows, gather_rows, sizes_of, uniform_noise
from fpn_tf.geometry.windows import window_grid
from fpn_tf.kernels.choice import replaceable
from fpn_tf.structures import BatchSegments
from fpn_tf.targets.segment_targets import assign_segment_targets

SEGMENT_STREAM = 4  # of the sampling seeds
LOWEST = -3e38  # scores of windows outside of the image


@keras.saving.register_keras_serializable("fpn_tf")
class SegmentStage(keras.layers.Layer):
    """Proposes segments on a pyramid, and tells how well.

    Args:
        windows: cells on a side that an MLP sees, one MLP for each; 5 for octaves, 7 for half ones.
        canonical_size: pixels, longer side of the object that the 5x5 MLP on p2 is for.
        padding: share of that size by which the region of a segment is larger.
        segment_size: M, cells on a side of a segment.
        hidden_units: of the MLPs.
        samples: windows per image that the losses see.
        foreground_fraction: share of them that may be foreground.
        loss_weight: of the segments' loss.
        max_proposals: D, per image.

    Source: FPN paper, sec. 6 and appendix.
    """

    loss_names = ("segment_score_loss", "segment_loss")

    def __init__(
        self,
        windows=(5, 7),
        canonical_size=32.0,
        padding=0.25,
        segment_size=14,
        hidden_units=512,
        samples=128,
        foreground_fraction=0.25,
        loss_weight=10.0,
        max_proposals=1000,
        **kwargs,
    ):
        super().__init__(**{"autocast": False} | kwargs)
        self.windows, self.canonical_size, self.padding = tuple(windows), canonical_size, padding
        self.segment_size, self.hidden_units = segment_size, hidden_units
        self.samples, self.foreground_fraction = samples, foreground_fraction
        self.loss_weight, self.max_proposals = loss_weight, max_proposals

    @property
    def max_detections(self):
        """D, per image."""
        return self.max_proposals

    def build(self, pyramid_shape):
        """Creates the weights, for maps {"p2": (B, H, W, C), ...}."""
        if self.built:
            return
        self.heads = []
        for window in self.windows:
            options = {"name": f"window{window}", "dtype": self.dtype_policy}
            head = SegmentHead(window, self.hidden_units, self.segment_size, **options)
            head.build(pyramid_shape)
            head.built = True
            self.heads.append(head)
        self.built = True

    def windows_on(self, pyramid):
        """The Windows of all heads on the maps of a pyramid, head by head, finest level first."""
        sizes = {int(name[1:]): sizes_of(feature)[1:3] for name, feature in pyramid.items()}
        canonical = [self.canonical_size * (2**0.5 if w == 7 else 1.0) for w in self.windows]
        return window_grid(sizes, canonical, self.padding)

    def at_windows(self, pyramid, indices):
        """(scores [B, S], segments [B, S, M, M]) before the sigmoid, at [B, S] indices of windows."""
        count = sum(cells_of(feature) for feature in pyramid.values())
        head_of, cells = indices // count, indices % count
        scores, segments = 0.0, 0.0
        for number, head in enumerate(self.heads):
            is_of_head = ops.cast(head_of == number, "float32")
            head_scores, head_segments = head.at_cells(pyramid, cells)
            scores = scores + head_scores * is_of_head
            segments = segments + head_segments * is_of_head[..., None, None]
        return scores, segments

    def losses(self, pyramid, truth, shapes, image_sizes, seeds):
        """The losses of a batch, on windows drawn by `seeds` int32 [B]: {name: scalar}.

        Args:
            pyramid: {"p2": [B, H, W, C], ...}.
            truth: GroundTruth.
            shapes: uint8 [B, G, S, S], the objects in their boxes.
            image_sizes: [B, 2] (height, width).
            seeds: see above.
        """
        windows = self.windows_on(pyramid)
        noise = uniform_noise(seeds, sizes_of(windows.scales)[0], SEGMENT_STREAM)
        targets = assign_segment_targets(
            windows,
            truth,
            shapes,
            image_sizes,
            noise,
            samples=self.samples,
            foreground_fraction=self.foreground_fraction,
            segment_size=self.segment_size,
        )
        scores, segments = self.at_windows(pyramid, targets.indices)
        score_loss, segment_loss = losses.segment_losses(scores, segments, targets)
        return dict(zip(self.loss_names, (score_loss, self.loss_weight * segment_loss)))

    def detect(self, pyramid, image_sizes):
        """A pyramid on images of [B, 2] (height, width) -> BatchSegments."""
        windows = self.windows_on(pyramid)
        scores = [level for head in self.heads for level in head(pyramid).values()]
        scores = ops.concatenate(scores, axis=1)  # [B, N]
        limit = ops.cast(ops.flip(image_sizes, axis=1), "float32")[:, None]  # (width, height)
        inside = ops.all(windows.centers < limit, axis=-1)
        logits, indices, exists = best_rows(ops.where(inside, scores, LOWEST), self.max_proposals)
        valid = exists & (logits > LOWEST / 3)
        _, segments = self.at_windows(pyramid, indices)
        regions = ops.take(windows.regions, indices, axis=0)
        scores = ops.where(valid, ops.sigmoid(logits), 0.0)
        return BatchSegments(regions, scores, ops.cast(valid, "int32"), valid, ops.sigmoid(segments))

    def get_config(self):
        names = ("windows", "canonical_size", "padding", "segment_size", "hidden_units", "samples")
        names += ("foreground_fraction", "loss_weight", "max_proposals")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("fpn_tf")
class SegmentHead(keras.layers.Layer):
    """{"p2": [B, H, W, C], ...} -> {"p2": [B, H*W], ...}, the scores before the sigmoid, float32.

    A small network on windows of cells, shared by all levels: one hidden layer with ReLU, then a
    score and a segment. The segments are had from `at_cells`.

    Args:
        window: cells on each side of what the network sees, odd.
        hidden_units: of the hidden layer.
        segment_size: M, cells on each side of a segment.

    Source: FPN paper, sec. 6.1 and appendix.
    """

    def __init__(self, window=5, hidden_units=512, segment_size=14, **kwargs):
        super().__init__(**kwargs)
        self.window, self.hidden_units, self.segment_size = window, hidden_units, segment_size

    def build(self, input_shape):
        levels_of(input_shape, "p", "SegmentHead")
        channels = next(iter(input_shape.values()))[-1]

        def conv(filters, kernel_size, name, inputs, initializer, activation=None):
            layer = keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                data_format="channels_last",
                activation=activation,
                kernel_initializer=initializer,
                name=name,
                dtype=self.dtype_policy,
            )
            layer.build((None, None, None, inputs))
            return layer

        units = self.hidden_units
        he = keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal")
        self.hidden = conv(units, self.window, "hidden", channels, he, "relu")
        self.score = conv(1, 1, "score", units, keras.initializers.RandomNormal(stddev=0.01))
        self.segment = conv(
            self.segment_size**2, 1, "segment", units, keras.initializers.RandomNormal(stddev=0.01)
        )

    def call(self, pyramid):
        scores = {}
        for name, feature in pyramid.items():
            # [B, H, W, 1] -> [B, H*W]
            values = ops.reshape(self.score(self.hidden(feature)), [-1, cells_of(feature)])
            scores[name] = ops.cast(values, "float32")
        return scores

    def at_cells(self, pyramid, cells):
        """The scores and the segments at some cells alone, see `outputs_at_cells`."""
        return outputs_at_cells(self, pyramid, cells)

    def compute_output_shape(self, input_shape):
        shapes = {}
        for name, (batch, height, width, _) in input_shape.items():
            shapes[name] = (batch, None if None in (height, width) else height * width)
        return shapes

    def compute_output_spec(self, pyramid):
        levels_of(pyramid, "p", "SegmentHead")
        shapes = self.compute_output_shape({name: x.shape for name, x in pyramid.items()})
        return {name: keras.KerasTensor(shape, "float32") for name, shape in shapes.items()}

    def get_config(self):
        names = ("window", "hidden_units", "segment_size")
        return super().get_config() | {name: getattr(self, name) for name in names}


@replaceable
def outputs_at_cells(head, pyramid, cells):
    """A `SegmentHead`'s outputs at some cells alone.

    Args:
        head: SegmentHead.
        pyramid: {"p2": [B, H, W, C], ...}.
        cells: [B, S] int32, counted through all levels.

    Returns:
        (scores [B, S], segments [B, S, M, M]), float32, before the sigmoid.
    """
    # [B, H, W, units] -> [B, H*W, units] of each level, one after another
    hidden = [ops.reshape(head.hidden(x), [-1, cells_of(x), head.hidden_units]) for x in pyramid.values()]
    hidden = gather_rows(ops.concatenate(hidden, axis=1), cells)[:, :, None]  # [B, S, 1, units]
    samples = sizes_of(cells)[1]
    scores = ops.reshape(head.score(hidden), [-1, samples])
    segments = ops.reshape(head.segment(hidden), [-1, samples, head.segment_size, head.segment_size])
    return ops.cast(scores, "float32"), ops.cast(segments, "float32")


def cells_of(feature):
    """The number of cells of maps [B, H, W, C]: H*W."""
    _, height, width, _ = sizes_of(feature)
    return height * width
