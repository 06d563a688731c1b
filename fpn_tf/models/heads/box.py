"""The second stage, what is in a RoI and where exactly: its layers, its losses and its detections."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from fpn_tf import losses
from fpn_tf.geometry.bilinear_pooling import ROIAlign
from fpn_tf.geometry.boxes import clip_boxes, decode_deltas
from fpn_tf.geometry.levels import check_rank
from fpn_tf.geometry.selection import best_rows, gather_rows, nms, noise_of, sizes_of, uniform_noise
from fpn_tf.models.conv_norm import ConvNorm
from fpn_tf.models.serialization import part_config
from fpn_tf.structures import Array, BatchDetections, GroundTruth, Proposals, Pyramid, ROITargets
from fpn_tf.targets.box_targets import sample_rois

ROI_STREAM, GT_STREAM = 2, 3  # of the sampling seeds
COARSEST_LEVEL = 5  # that RoIs are pooled from: p6 is the RPN's alone


@keras.saving.register_keras_serializable("fpn_tf")
class BoxStage(keras.layers.Layer):
    """Classifies and refines boxes on a pyramid, and tells how well.

    Args:
        head: RoI features -> (logits, deltas), see `fpn_tf.BoxHead`.
        pooler: (pyramid, boxes) -> RoI features, see `fpn_tf.ROIAlign`; None: that, 7 x 7.
        foreground_iou: a RoI of at least this IoU with an object is foreground.
        samples: RoIs per image that the losses see.
        foreground_fraction: share of them that may be foreground.
        box_weights: factors of the deltas.
        smooth_l1_beta: of the box loss; 0 is plain L1.
        score_threshold: a detection's score must be above it.
        nms_threshold: IoU.
        max_detections: D, per image.
        min_size: pixels of the resized image; a detection's sides must be at least this.
        **kwargs: of `keras.Layer`.

    Example:

    >>> head = fpn_tf.BoxHead(num_classes=3, hidden_units=64)
    >>> box_head = fpn_tf.BoxStage(head, pooler=fpn_tf.ROIPool(7), samples=128)
    >>> fpn_tf.FasterRCNN(backbone="resnet_tiny", box_head=box_head).num_classes
    3

    Source: Girshick, arXiv 1504.08083; FPN paper, sec. 4.2.
    """

    loss_names = ("head_class_loss", "head_box_loss")

    def __init__(
        self,
        head: keras.Layer,
        pooler: keras.Layer | None = None,
        foreground_iou: float = 0.5,
        samples: int = 512,
        foreground_fraction: float = 0.25,
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        smooth_l1_beta: float = 0.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        min_size: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**{"autocast": False} | kwargs)
        self.head = head
        self.pooler = pooler or ROIAlign(name="pooler", autocast=False)
        self.foreground_iou, self.samples = foreground_iou, samples
        self.foreground_fraction, self.box_weights = foreground_fraction, tuple(box_weights)
        self.smooth_l1_beta, self.score_threshold = smooth_l1_beta, score_threshold
        self.nms_threshold, self.max_detections, self.min_size = nms_threshold, max_detections, min_size

    @classmethod
    def for_classes(cls, num_classes: int | None, stage: Self | None, **kwargs: Any) -> Self:
        """The stage itself, or the paper's for K classes where there is none.

        Raises:
            ValueError: neither is given, or they differ in the number of classes.
        """
        if stage is None:
            if not isinstance(num_classes, int) or num_classes < 1:
                raise ValueError(f"num_classes={num_classes}: expected the number of classes, 1 or more")
            return cls(BoxHead(num_classes, name="head", dtype=kwargs.get("dtype")), **kwargs)
        if num_classes not in (None, stage.num_classes):
            raise ValueError(
                f"num_classes={num_classes}: the box head has {stage.num_classes}; leave one of them out"
            )
        return stage

    @property
    def num_classes(self) -> int:
        """K, without background."""
        return self.head.num_classes

    def build(self, pyramid_shape):
        """Creates the weights, for maps {"p2": (B, H, W, C), ...}."""
        if self.built:
            return
        channels = next(iter(pyramid_shape.values()))[-1]
        size = self.pooler.output_size
        self.head.build((None, None, size, size, channels))
        self.built = self.head.built = self.pooler.built = True

    def predict(self, pyramid: Pyramid, boxes: Array, training: bool = False) -> tuple[Array, Array]:
        """Boxes [B, R, 4] -> (logits [B, R, K+1], deltas [B, R, K, 4]), float32."""
        pooled_from = {name: feature for name, feature in pyramid.items() if int(name[1:]) <= COARSEST_LEVEL}
        return self.head(self.pooler(pooled_from, boxes), training=training)

    def sample(self, proposals: Proposals, truth: GroundTruth, seeds: Array) -> ROITargets:
        """The ROITargets that the losses of all heads see.

        Noise belongs to the anchor that a proposal comes from, not to its rank: two of almost equal
        scores may change places, and the same boxes are drawn.

        Args:
            proposals: Proposals.
            truth: GroundTruth; its boxes join the proposals.
            seeds: int32 [B].
        """
        proposals = Proposals(*(ops.stop_gradient(x) for x in proposals))
        objects = sizes_of(truth.boxes)[1]
        noise = noise_of(proposals.anchors, seeds, ROI_STREAM), uniform_noise(seeds, objects, GT_STREAM)
        return sample_rois(
            proposals,
            truth,
            ops.concatenate(noise, axis=1),
            foreground_iou=self.foreground_iou,
            samples=self.samples,
            foreground_fraction=self.foreground_fraction,
            box_weights=self.box_weights,
        )

    def losses(self, pyramid: Pyramid, rois: ROITargets, training: bool = True) -> dict[str, Array]:
        """The losses on ROITargets: {name: scalar float32}."""
        logits, deltas = self.predict(pyramid, rois.rois, training)
        return dict(zip(self.loss_names, losses.head_losses(logits, deltas, rois, self.smooth_l1_beta)))

    def detect(
        self,
        pyramid: Pyramid,
        proposals: Proposals,
        image_sizes: Array,
        score_threshold: float | Array | None = None,
    ) -> BatchDetections:
        """Proposals on images of [B, 2] (height, width) -> BatchDetections."""
        logits, deltas = self.predict(pyramid, proposals.boxes)
        threshold = self.score_threshold if score_threshold is None else score_threshold
        return self.decode(logits, deltas, proposals, image_sizes, threshold)

    def decode(
        self,
        logits: Array,
        deltas: Array,
        proposals: Proposals,
        image_sizes: Array,
        score_threshold: float | Array,
    ) -> BatchDetections:
        """Every (proposal, class) above the threshold, NMS within each class, the best of all.

        Args:
            logits: [B, P, K+1] float32, class 0 is background.
            deltas: [B, P, K, 4] float32.
            proposals: Proposals.
            image_sizes: [B, 2] (height, width).
            score_threshold: a detection's softmax score must be above it.

        Returns:
            BatchDetections, boxes clipped to the image.
        """
        scores = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., 1:]  # [B, P, K]
        boxes = decode_deltas(deltas, proposals.boxes[:, :, None, :], self.box_weights)  # [B, P, K, 4]
        boxes = clip_boxes(boxes, image_sizes)
        large = ops.all(boxes[..., 2:] - boxes[..., :2] >= self.min_size, axis=-1)
        valid = (scores > score_threshold) & proposals.valid[..., None] & large
        indices, kept = self._suppressed_in_classes(boxes, scores, valid)

        pairs = sizes_of(scores)[1] * self.num_classes

        def all_of(x):  # [B, P, K, ...] -> [B, P*K, ...]
            return ops.reshape(x, [-1, pairs, *x.shape[3:]])

        survivors = ops.where(kept, gather_rows(all_of(scores), indices), -1.0)
        scores, rows, exists = best_rows(survivors, self.max_detections)
        valid = exists & gather_rows(kept, rows)
        indices = gather_rows(indices, rows)
        return BatchDetections(
            boxes=ops.where(valid[..., None], gather_rows(all_of(boxes), indices), 0.0),
            scores=ops.where(valid, scores, 0.0),
            classes=ops.where(valid, indices % self.num_classes + 1, 0),
            valid=valid,
        )

    def _suppressed_in_classes(self, boxes, scores, valid):
        """NMS in each class of each image, which is a row of its own.

        Exact, where moving classes apart would round the boxes.

        Args:
            boxes, scores, valid: [B, P, K, 4], [B, P, K], [B, P, K].

        Returns:
            (indices [B, K*D] int32 into the P*K of each image, rising: ties go to the better
            proposal; kept [B, K*D] bool).
        """
        _, count, classes = sizes_of(scores)

        def by_class(x):  # [B, P, K, ...] -> [B*K, P, ...]
            return ops.reshape(ops.swapaxes(x, 1, 2), [-1, count, *x.shape[3:]])

        rows = map(by_class, (boxes, scores, valid))
        indices, kept = nms(*rows, self.nms_threshold, self.max_detections)
        # [B*K, D] -> [B, K*D]
        label = ops.arange(classes, dtype="int32")[None, :, None]
        indices = ops.reshape(indices, [-1, classes, self.max_detections]) * classes + label
        indices = ops.reshape(indices, [-1, classes * self.max_detections])
        kept = ops.reshape(kept, [-1, classes * self.max_detections])
        # `kept` as the lowest bit: one sort, and nothing to gather by its order.
        ordered = ops.sort(indices * 2 + ops.cast(kept, "int32"), axis=1)
        return ordered // 2, ordered % 2 > 0

    def get_config(self):
        names = ("foreground_iou", "samples", "foreground_fraction", "box_weights", "smooth_l1_beta")
        names += ("score_threshold", "nms_threshold", "max_detections", "min_size")
        parts = {n: part_config(getattr(self, n)) for n in ("head", "pooler")}
        return super().get_config() | {name: getattr(self, name) for name in names} | parts

    @classmethod
    def from_config(cls, config):
        return cls(**keras.saving.deserialize_keras_object(config))


@keras.saving.register_keras_serializable("fpn_tf")
class BoxHead(keras.layers.Layer):
    """RoI features [B, R, S, S, C] -> (logits [B, R, K+1], deltas [B, R, K, 4]), float32.

    Hidden fully connected layers with ReLU, then class scores (index 0 is background) and
    class-specific deltas. The paper has two of them and nothing before; torchvision's v2 has four
    convolutions and one.

    Args:
        num_classes: K, without background.
        hidden_units: width of the fully connected layers.
        fc_layers: their number, at least 1.
        conv_layers: number of 3x3 convolutions of C channels with ReLU before them.
        norm: of the convolutions, see `fpn_tf.models.conv_norm.ConvNorm`.
        **kwargs: of `keras.Layer`.

    Raises:
        ValueError: features that are no [B, R, S, S, C].

    Example:

    >>> features = np.zeros((1, 5, 7, 7, 8), "float32")
    >>> logits, deltas = fpn_tf.BoxHead(num_classes=3, hidden_units=16)(features)
    >>> tuple(logits.shape), tuple(deltas.shape)
    ((1, 5, 4), (1, 5, 3, 4))

    Source: FPN paper, sec. 4.2.
    """

    def __init__(
        self,
        num_classes: int,
        hidden_units: int = 1024,
        fc_layers: int = 2,
        conv_layers: int = 0,
        norm: str = "sync_bn",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes, self.hidden_units = num_classes, hidden_units
        self.fc_layers, self.conv_layers, self.norm = fc_layers, conv_layers, norm

    def build(self, input_shape):
        check_rank(input_shape, "[B, R, S, S, C]", f"{type(self).__name__}: features")
        units = self.build_hidden(input_shape)

        def normal(stddev):
            return keras.initializers.RandomNormal(stddev=stddev)

        self.classifier = self._dense(self.num_classes + 1, units, "classifier", normal(0.01))
        self.regressor = self._dense(4 * self.num_classes, units, "regressor", normal(0.001))

    def build_hidden(self, input_shape):
        """Makes what lies before the two predictors. Returns: its number of outputs."""
        size, channels = input_shape[-2], input_shape[-1]
        self.convs = []
        for i in range(self.conv_layers):
            layer = ConvNorm(
                channels, 3, norm=self.norm, activation="relu", name=f"conv{i}", dtype=self.dtype_policy
            )
            layer.build((None, size, size, channels))
            self.convs.append(layer)
        inputs = [size * size * channels] + [self.hidden_units] * (self.fc_layers - 1)
        self.dense = [
            self._dense(
                self.hidden_units,
                n,
                f"fc{i}",
                keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
                "relu",
            )
            for i, n in enumerate(inputs, start=6)
        ]
        return self.hidden_units

    def _dense(self, units, inputs, name, initializer, activation=None):
        layer = keras.layers.Dense(
            units, activation=activation, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
        )
        layer.build((None, inputs))
        return layer

    def hidden(self, features: Array, training: bool) -> Array:
        """Features of RoIs [B*R, S, S, C] -> [B*R, units], what both predictors read."""
        x = features
        for conv in self.convs:
            x = conv(x, training=training)
        x = ops.reshape(x, [-1, self.dense[0].kernel.shape[0]])  # [B*R, S, S, C] -> [B*R, S*S*C]
        for layer in self.dense:
            x = layer(x)
        return x

    def call(self, features, training=False):
        images, rois, *rest = sizes_of(features)
        x = self.hidden(ops.reshape(features, [-1, *rest]), training)  # [B, R, S, S, C] -> [B*R, S, S, C]
        logits = ops.cast(self.classifier(x), "float32")
        deltas = ops.cast(self.regressor(x), "float32")
        # [B*R, K+1] -> [B, R, K+1] and [B*R, K*4] -> [B, R, K, 4]
        logits = ops.reshape(logits, [images, rois, self.num_classes + 1])
        return logits, ops.reshape(deltas, [images, rois, self.num_classes, 4])

    def compute_output_shape(self, input_shape):
        batch, rois = input_shape[:2]
        return (batch, rois, self.num_classes + 1), (batch, rois, self.num_classes, 4)

    def compute_output_spec(self, features, training=False):
        check_rank(features.shape, "[B, R, S, S, C]", f"{type(self).__name__}: features")
        return tuple(
            keras.KerasTensor(shape, "float32") for shape in self.compute_output_shape(features.shape)
        )

    def get_config(self):
        names = ("num_classes", "hidden_units", "fc_layers", "conv_layers", "norm")
        return super().get_config() | {name: getattr(self, name) for name in names}
