"""The region proposal network: its layers, and the stage that proposes boxes and tells the losses."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from fpn_tf import losses
from fpn_tf.geometry.boxes import anchor_grid, cell_anchors, clip_boxes, decode_deltas
from fpn_tf.geometry.levels import levels_of
from fpn_tf.geometry.selection import best_rows, gather_rows, nms, sizes_of, uniform_noise
from fpn_tf.kernels.choice import replaceable
from fpn_tf.models.conv_norm import Conv3x3
from fpn_tf.models.serialization import part_config
from fpn_tf.structures import Array, GroundTruth, Proposals, Pyramid, RPNOutputs
from fpn_tf.targets.box_targets import assign_rpn_targets

RPN_STREAM = 1  # of the sampling seeds


@keras.saving.register_keras_serializable("fpn_tf")
class ProposalStage(keras.layers.Layer):
    """Proposes boxes on a pyramid, and tells how well.

    Args:
        head: {"p2": ...} -> (logits, deltas), see `fpn_tf.RPNHead`; None: the paper's, shared by all
            levels.
        anchor_sizes: pixels; one for each level of the pyramid, finest first, or all on its only one.
        anchor_ratios: height / width.
        anchor_rounding: see `fpn_tf.geometry.boxes.base_anchors`.
        strides_from_sizes: the stride of a map is canvas // map (torchvision), not 2^level.
        foreground_iou, background_iou: an anchor is foreground from the one on, background below the
            other, ignored between them.
        samples: anchors per image that the losses see.
        foreground_fraction: share of them that may be foreground.
        box_weights: factors of the deltas.
        smooth_l1_beta: of the box loss; 0 is plain L1.
        pre_nms_train, pre_nms_test: boxes per level that enter NMS.
        post_nms_train, post_nms_test: P, proposals per image.
        nms_threshold: IoU.
        min_size: pixels of the resized image; a proposal's sides must be at least this.
        **kwargs: of `keras.Layer`.

    Raises:
        ValueError: in `build`, anchors that do not fit the levels of the pyramid.

    Example:

    >>> rpn = fpn_tf.ProposalStage(anchor_sizes=(16, 32, 64, 128, 256), post_nms_test=300)
    >>> fpn_tf.RPN(backbone="resnet_tiny", rpn=rpn).max_detections
    300

    Source: Ren et al., arXiv 1506.01497, sec. 3.1; FPN paper, sec. 4.1.
    """

    loss_names = ("rpn_objectness_loss", "rpn_box_loss")

    def __init__(
        self,
        head: keras.Layer | None = None,
        anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        anchor_rounding: str = "none",
        strides_from_sizes: bool = False,
        foreground_iou: float = 0.7,
        background_iou: float = 0.3,
        samples: int = 256,
        foreground_fraction: float = 0.5,
        box_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        smooth_l1_beta: float = 0.0,
        pre_nms_train: int = 2000,
        pre_nms_test: int = 1000,
        post_nms_train: int = 1000,
        post_nms_test: int = 1000,
        nms_threshold: float = 0.7,
        min_size: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**{"autocast": False} | kwargs)
        self.head: Any = head  # None until `build` makes one
        self.anchor_sizes, self.anchor_ratios = tuple(anchor_sizes), tuple(anchor_ratios)
        self.anchor_rounding, self.strides_from_sizes = anchor_rounding, strides_from_sizes
        self.foreground_iou, self.background_iou = foreground_iou, background_iou
        self.samples, self.foreground_fraction = samples, foreground_fraction
        self.box_weights, self.smooth_l1_beta = tuple(box_weights), smooth_l1_beta
        self.pre_nms_train, self.pre_nms_test = pre_nms_train, pre_nms_test
        self.post_nms_train, self.post_nms_test = post_nms_train, post_nms_test
        self.nms_threshold, self.min_size = nms_threshold, min_size

    @property
    def max_detections(self) -> int:
        """D, per image, where the proposals are what is detected."""
        return self.post_nms_test

    def build(self, pyramid_shape):
        """Creates the weights, for maps {"p2": (B, H, W, C), ...}, finest first.

        Raises:
            ValueError: the anchors do not fit the levels.
        """
        if self.built:
            return
        levels = {name: int(name[1:]) for name in pyramid_shape}
        sizes = self.anchor_sizes
        if len(levels) > 1 and len(sizes) != len(levels):
            raise ValueError(
                f"anchor_sizes={sizes}: {len(sizes)} sizes for the levels {', '.join(levels)}; "
                "expected one for each"
            )
        cells = cell_anchors(list(levels.values()), sizes, self.anchor_ratios, self.anchor_rounding)
        self.cell_anchors = {name: cells[level] for name, level in levels.items()}
        anchors_per_cell = len(next(iter(self.cell_anchors.values())))
        if self.head is None:
            self.head = RPNHead(anchors_per_cell, name="head", dtype=self.dtype_policy)
        elif self.head.num_anchors != anchors_per_cell:
            raise ValueError(
                f"{self.head.name}: num_anchors={self.head.num_anchors}; expected {anchors_per_cell}"
            )
        self.head.build(pyramid_shape)
        self.built = self.head.built = True

    def predict(self, pyramid: Pyramid, images: Array) -> RPNOutputs:
        """A pyramid over images [B, H, W, 3] -> RPNOutputs."""
        logits, deltas = self.head(pyramid)
        return RPNOutputs(logits, deltas, self.anchors(pyramid, sizes_of(images)[1:3]))

    def anchors(self, pyramid: Pyramid, canvas: Sequence[Any]) -> dict[str, Array]:
        """{level name: [H*W*A, 4]} for the maps of a pyramid over a canvas of (height, width)."""
        anchors = {}
        for name, cell in self.cell_anchors.items():
            size = sizes_of(pyramid[name])[1:3]
            stride = 2 ** int(name[1:])
            if self.strides_from_sizes:
                stride = tuple(side // cells for side, cells in zip(canvas, size))
            anchors[name] = anchor_grid(size, stride, cell)
        return anchors

    def losses(
        self, pyramid: Pyramid, outputs: RPNOutputs, truth: GroundTruth, seeds: Array
    ) -> dict[str, Array]:
        """The losses of a batch, on anchors drawn by `seeds` int32 [B]: {name: scalar}."""
        anchors = ops.concatenate(list(outputs.anchors.values()), axis=0)
        noise = uniform_noise(seeds, sizes_of(anchors)[0], RPN_STREAM)
        targets = assign_rpn_targets(
            anchors,
            truth,
            noise,
            foreground_iou=self.foreground_iou,
            background_iou=self.background_iou,
            samples=self.samples,
            foreground_fraction=self.foreground_fraction,
            box_weights=self.box_weights,
        )
        logits, deltas = self.head.at_anchors(pyramid, targets.indices)
        return dict(zip(self.loss_names, losses.rpn_losses(logits, deltas, targets, self.smooth_l1_beta)))

    def propose(self, outputs: RPNOutputs, image_sizes: Array, training: bool = False) -> Proposals:
        """RPNOutputs -> Proposals, as many as there are to be in training or at test time.

        Top-k per level, NMS per level, top-k of all (Detectron2's order of steps). Boxes are clipped
        to the image and have an area. Nothing here is learned, no gradient flows.

        Args:
            outputs: RPNOutputs.
            image_sizes: [B, 2] (height, width) of the image inside its canvas.
            training: which limits count.
        """
        if training:
            pre_nms, post_nms = self.pre_nms_train, self.post_nms_train
        else:
            pre_nms, post_nms = self.pre_nms_test, self.post_nms_test
        candidates = self._best_of_levels(outputs, image_sizes, pre_nms)
        survivors = self._suppressed_in_levels(candidates, min(pre_nms, post_nms))
        logits, rows, exists = best_rows(ops.where(survivors.valid, survivors.logits, -3e38), post_nms)
        valid = exists & gather_rows(survivors.valid, rows)
        boxes = ops.where(valid[..., None], gather_rows(survivors.boxes, rows), 0.0)
        return Proposals(boxes, ops.where(valid, logits, 0.0), valid, gather_rows(survivors.anchors, rows))

    def _best_of_levels(self, outputs, image_sizes, count):
        """The boxes of the `count` highest logits of each level: Proposals with axes [B, L, count]."""
        deltas, logits, exist, numbers, anchors_before = [], [], [], [], 0
        for name, level_logits in outputs.logits.items():
            values, indices, exists = best_rows(ops.stop_gradient(level_logits), count)
            deltas.append(gather_rows(ops.stop_gradient(outputs.deltas[name]), indices))
            logits.append(values)
            exist.append(exists)
            numbers.append(indices + anchors_before)  # among the anchors of all levels
            anchors_before = anchors_before + sizes_of(level_logits)[1]
        deltas, logits, exist, numbers = (ops.stack(x, axis=1) for x in (deltas, logits, exist, numbers))
        anchors = ops.take(ops.concatenate(list(outputs.anchors.values()), axis=0), numbers, axis=0)
        boxes = clip_boxes(decode_deltas(deltas, anchors, self.box_weights), image_sizes)
        sides = boxes[..., 2:] - boxes[..., :2]
        valid = exist & ops.all((sides > 0) & (sides >= self.min_size), axis=-1)
        return Proposals(boxes, logits, valid, numbers)

    def _suppressed_in_levels(self, candidates, count):
        """NMS in each level: Proposals [B, L, k] -> Proposals [B, L * count], the rest not valid."""
        levels, per_level = candidates.logits.shape[1:]

        def as_rows(x):  # [B, L, k, ...] -> [B*L, k, ...]: levels are rows of their own, as images are
            return ops.reshape(x, [-1, per_level, *x.shape[3:]])

        boxes, logits, valid, _ = map(as_rows, candidates)
        indices, kept = nms(boxes, logits, valid, self.nms_threshold, count)
        # [B*L, count] -> [B, L*count], as indices into [B, L*k]
        level_starts = ops.reshape(ops.arange(levels, dtype="int32") * per_level, [1, levels, 1])
        indices = ops.reshape(ops.reshape(indices, [-1, levels, count]) + level_starts, [-1, levels * count])

        def picked(x):  # [B, L, k, ...] -> [B, L*count, ...]
            return gather_rows(ops.reshape(x, [-1, levels * per_level, *x.shape[3:]]), indices)

        kept = ops.reshape(kept, [-1, levels * count])
        return Proposals(
            picked(candidates.boxes), picked(candidates.logits), kept, picked(candidates.anchors)
        )

    def get_config(self):
        names = ("anchor_sizes", "anchor_ratios", "anchor_rounding", "strides_from_sizes", "foreground_iou")
        names += ("background_iou", "samples", "foreground_fraction", "box_weights", "smooth_l1_beta")
        names += ("pre_nms_train", "pre_nms_test", "post_nms_train", "post_nms_test", "nms_threshold")
        config = {name: getattr(self, name) for name in (*names, "min_size")}
        head = part_config(self.head)
        return super().get_config() | config | {"head": head}

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


@keras.saving.register_keras_serializable("fpn_tf")
class RPNHead(keras.layers.Layer):
    """{"p2": [B, H, W, C], ...} -> ({"p2": [B, H*W*A], ...}, {"p2": [B, H*W*A, 4], ...}).

    3x3 convolutions with ReLU and two sibling 1x1 convolutions, shared by all levels. The first
    result is the objectness before the sigmoid, the second the deltas; both float32, in the order
    of `fpn_tf.geometry.boxes`.

    Args:
        num_anchors: A, anchors per cell.
        conv_layers: number of 3x3 convolutions; the paper has one, torchvision's v2 two.
        **kwargs: of `keras.Layer`.

    Raises:
        TypeError, ValueError: anything but maps by name, p2, p3, ...

    Example:

    >>> logits, deltas = fpn_tf.RPNHead(num_anchors=3)({"p4": np.zeros((1, 4, 6, 16), "float32")})
    >>> tuple(logits["p4"].shape), tuple(deltas["p4"].shape)
    ((1, 72), (1, 72, 4))

    Source: FPN paper, sec. 4.1.
    """

    def __init__(self, num_anchors: int = 3, conv_layers: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_anchors, self.conv_layers = num_anchors, conv_layers

    def build(self, input_shape):
        levels_of(input_shape, "p", "RPNHead")
        channels = next(iter(input_shape.values()))[-1]

        def conv(filters, kernel_size, name, activation=None):
            kind = Conv3x3 if kernel_size == 3 else keras.layers.Conv2D
            layer = kind(
                filters,
                kernel_size,
                padding="same",
                data_format="channels_last",
                activation=activation,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                name=name,
                dtype=self.dtype_policy,
            )
            layer.build((None, None, None, channels))
            return layer

        self.convs = [conv(channels, 3, f"conv{i}", "relu") for i in range(self.conv_layers)]
        self.objectness = conv(self.num_anchors, 1, "objectness")
        self.deltas = conv(4 * self.num_anchors, 1, "deltas")

    def call(self, pyramid):
        logits, deltas = {}, {}
        for name, feature in pyramid.items():
            hidden = feature
            for conv in self.convs:
                hidden = conv(hidden)
            _, height, width, _ = sizes_of(feature)
            cells = height * width * self.num_anchors
            # [B, H, W, A] -> [B, H*W*A] and [B, H, W, A*4] -> [B, H*W*A, 4]
            logits[name] = ops.cast(ops.reshape(self.objectness(hidden), [-1, cells]), "float32")
            deltas[name] = ops.cast(ops.reshape(self.deltas(hidden), [-1, cells, 4]), "float32")
        return logits, deltas

    def at_anchors(self, pyramid: Pyramid, indices: Array) -> tuple[Array, Array]:
        """The head's outputs at a few anchors alone, see `outputs_at_anchors`."""
        return outputs_at_anchors(self, pyramid, indices)

    def compute_output_shape(self, input_shape):
        return output_shapes(input_shape, self.num_anchors)

    def compute_output_spec(self, pyramid):
        return output_specs(self, pyramid)

    def get_config(self):
        return super().get_config() | {"num_anchors": self.num_anchors, "conv_layers": self.conv_layers}


@replaceable
def outputs_at_anchors(head, pyramid, indices):
    """An `RPNHead`'s outputs at a few anchors alone.

    Args:
        head: RPNHead.
        pyramid: {"p2": [B, H, W, C], ...}.
        indices: [B, S] int32 into the anchors of all levels.

    Returns:
        (logits [B, S], deltas [B, S, 4]), float32.
    """
    logits, deltas = (ops.concatenate(list(level.values()), axis=1) for level in head(pyramid))
    return gather_rows(logits, indices), gather_rows(deltas, indices)


def output_shapes(input_shape, num_anchors):
    """({"p2": (B, H*W*A)}, {"p2": (B, H*W*A, 4)}), None for what is not known."""
    logits, deltas = {}, {}
    for name, (batch, height, width, _) in input_shape.items():
        count = None if None in (height, width) else height * width * num_anchors
        logits[name], deltas[name] = (batch, count), (batch, count, 4)
    return logits, deltas


def output_specs(head, pyramid):
    levels_of(pyramid, "p", type(head).__name__)
    shapes = head.compute_output_shape({name: x.shape for name, x in pyramid.items()})
    return tuple({name: keras.KerasTensor(s, "float32") for name, s in part.items()} for part in shapes)
