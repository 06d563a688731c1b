"""A region proposal network on a feature pyramid: the first half of the detector, and a model itself.

images -> resnet -> fpn -> rpn_head -> proposal_decoder
"""

import keras
import numpy as np
from keras import ops

from fpn_tf import config as config_lib
from fpn_tf import losses, photos
from fpn_tf.backend import compiled_detector, replica_count
from fpn_tf.geometry.anchor_grid import anchor_grid, base_anchors
from fpn_tf.geometry.noise import uniform_noise
from fpn_tf.models.fpn import FeaturePyramid
from fpn_tf.models.proposal_decoder import decode_proposals
from fpn_tf.models.resnet import ResNet
from fpn_tf.models.rpn_head import RPNHead
from fpn_tf.structures import BatchDetections, Detections, GroundTruth, Losses, NetOutputs, RPNOutputs
from fpn_tf.targets.rpn_targets import assign_rpn_targets

LEVELS = (2, 3, 4, 5, 6)
RPN_STREAM, ROI_STREAM, GT_STREAM = 1, 2, 3  # separate the uses of an image's sampling seed


@keras.saving.register_keras_serializable("fpn_tf")
class RPN(keras.Model):
    """Proposes boxes for whatever may be an object; `fpn_tf.FasterRCNN` goes on from it.

    `call(x, training=True)` gives NetOutputs; `call(x)` gives BatchDetections, here the proposals:
    their score is the objectness, their class always 1. With

        x = {"images": [B, H, W, 3] RGB of 0..255, H and W multiples of 32, padding at the bottom
                 right; uint8, or float32 where `data.resize` does not round,
             "image_sizes": int32 [B, 2], (height, width) of the image proper}
        y = {"boxes": float32 [B, G, 4], "classes": int32 [B, G] (1..K), "valid": bool [B, G],
             "sample_seeds": int32 [B]}

    `fit`, `evaluate` and `train_on_batch` train and score the losses. `sample_seeds` decide which
    anchors are drawn: use other seeds at every step.

    Args:
        config: `fpn_tf.Config`.

    Raises:
        ConfigError: a bad value in the config.
    """

    def __init__(self, config, **kwargs):
        config.validate()
        policy = keras.DTypePolicy(config.train.precision)
        super().__init__(**{"dtype": policy, "autocast": False} | kwargs)
        self.config = config
        model = config.model
        self.backbone = ResNet(
            **config_lib.BACKBONES[model.backbone],
            stride_in_1x1=model.stride_in_1x1,
            norm=model.norm,
            epsilon=model.norm_epsilon,
            frozen_stages=model.frozen_stages,
            remat=config.train.remat,
            name="backbone",
            dtype=policy,
        )
        self.fpn = FeaturePyramid(model.fpn_channels, norm=model.fpn_norm or None, name="fpn", dtype=policy)
        self.cell_anchors = [
            base_anchors((size,), model.rpn.anchor_ratios, model.rpn.anchor_rounding, 2**level)
            for level, size in zip(LEVELS, model.rpn.anchor_sizes)
        ]
        self.rpn_head = RPNHead(
            len(model.rpn.anchor_ratios), model.rpn.conv_layers, name="rpn_head", dtype=policy
        )
        self.loss_trackers = [
            keras.metrics.Mean(name=name) for name in Losses._fields if name != "total_loss"
        ]
        self._detectors = None  # compiled at the first use
        self.build()

    def build(self, input_shape=None):
        """Creates the weights; they depend on the config alone."""
        if self.built:
            return
        channels = self.config.model.fpn_channels
        self.backbone.build((None, None, None, 3))
        maps = {}
        for level, stage in enumerate(self.backbone.stages, start=2):
            maps[f"c{level}"] = (None, None, None, stage[-1].convs[-1].filters)
        self.fpn.build(maps)
        self.rpn_head.build({f"p{level}": (None, None, None, channels) for level in LEVELS})
        for layer in (self.backbone, self.fpn, self.rpn_head):
            layer.built = True
        self.built = True

    # The forward pass -------------------------------------------------------------------------

    def call(self, inputs, training=False):
        outputs = self.forward(inputs, training)
        return outputs if training else self.detections(outputs, inputs["image_sizes"])

    def forward(self, inputs, training):
        """Images -> NetOutputs: what both training and detection need."""
        images = self.normalize(inputs["images"], inputs["image_sizes"])
        pyramid = self.fpn(self.backbone(images, training=training), training=training)
        logits, deltas = self.rpn_head(pyramid)
        rpn = RPNOutputs(logits, deltas, self.anchors(pyramid, ops.shape(images)[1:3]))
        return NetOutputs(pyramid, rpn, self.propose(rpn, inputs["image_sizes"], training))

    def propose(self, rpn, image_sizes, training=False):
        """RPNOutputs -> Proposals, as many as the config says for training or for detection."""
        config = self.config.model.rpn
        if training:
            limits = config.pre_nms_train, config.post_nms_train
        else:
            limits = config.pre_nms_test, config.post_nms_test
        return decode_proposals(rpn, image_sizes, *limits, config)

    def normalize(self, images, image_sizes):
        """RGB of 0..255 [B, H, W, 3] -> float32 in the backbone's convention, 0 outside the image."""
        model = self.config.model
        images = ops.cast(images, "float32")
        if model.pixel_order == "bgr":
            images = ops.flip(images, axis=-1)
        mean, std = (ops.convert_to_tensor(x, "float32") for x in (model.pixel_mean, model.pixel_std))
        rows = ops.arange(ops.shape(images)[1], dtype="int32")[None, :, None, None]
        columns = ops.arange(ops.shape(images)[2], dtype="int32")[None, None, :, None]
        sizes = ops.cast(image_sizes, "int32")[:, :, None, None, None]
        inside = (rows < sizes[:, 0]) & (columns < sizes[:, 1])
        return ops.where(inside, (images - mean) / std, 0.0)

    def anchors(self, pyramid, canvas):
        """{level name: [H*W*A, 4]} for the maps of a pyramid over a canvas of (height, width)."""
        anchors = {}
        for level, cell in zip(LEVELS, self.cell_anchors):
            size = ops.shape(pyramid[f"p{level}"])[1:3]
            stride = 2**level
            if self.config.model.rpn.strides_from_sizes:
                stride = tuple(side // cells for side, cells in zip(canvas, size))
            anchors[f"p{level}"] = anchor_grid(size, stride, cell)
        return anchors

    def detections(self, outputs, image_sizes):
        """NetOutputs -> BatchDetections: the proposals."""
        boxes, logits, valid, _ = outputs.proposals
        scores = ops.where(valid, ops.sigmoid(logits), 0.0)
        return BatchDetections(boxes, scores, ops.cast(valid, "int32"), valid)

    # Training ---------------------------------------------------------------------------------

    def compile(self, optimizer="sgd", jit_compile=None, **kwargs):
        """As `keras.Model.compile`; the losses are built in.

        XLA is off on TensorFlow unless asked for (`jit_compile=True` would compile anew for
        every image size) and on with JAX.
        """
        if jit_compile is None:
            jit_compile = keras.config.backend() == "jax"
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Restores the state of `compile` when a saved model is loaded."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def rpn_losses(self, y, outputs):
        """(rpn_objectness_loss, rpn_box_loss) of a batch; see `compute_losses`."""
        config = self.config.model.rpn
        anchors = ops.concatenate(list(outputs.rpn.anchors.values()), axis=0)
        noise = uniform_noise(y["sample_seeds"], ops.shape(anchors)[0], RPN_STREAM)
        targets = assign_rpn_targets(anchors, ground_truth(y), noise, config)
        sampled = self.rpn_head.at_anchors(outputs.pyramid, targets.indices)
        return losses.rpn_losses(*sampled, targets, config.smooth_l1_beta)

    def compute_losses(self, y, outputs, training=True):
        """The losses of a batch.

        Args:
            y: as in the class docstring.
            outputs: NetOutputs of the same batch.
            training: whether the box head's batch norm (if there is one) learns.

        Returns:
            Losses, means over the images of the batch; those of a box head are 0 without one.
        """
        del training
        objectness_loss, box_loss = self.rpn_losses(y, outputs)
        nothing = ops.zeros(())
        return Losses(objectness_loss, box_loss, nothing, nothing, objectness_loss + box_loss)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Keras' hook: one scalar, and the four named losses as metrics.

        Under `tf.distribute` gradients are summed over replicas, so the loss is divided by their
        number here (Keras does not do it for an overridden `compute_loss`).
        """
        # Detection needs no losses; evaluate() asks for both, and equal subgraphs are merged.
        outputs = y_pred if training else self.forward(x, training=False)
        parts = self.compute_losses(y, outputs, training)
        for tracker, value in zip(self.loss_trackers, parts):
            tracker.update_state(value)
        return parts.total_loss / replica_count()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    # Use --------------------------------------------------------------------------------------

    def detect(self, images):
        """Finds objects in photos.

        Args:
            images: photos as uint8 [H, W, 3] RGB arrays of any sizes (one array is one photo).

        Returns:
            A list of Detections, one per photo, in pixels of that photo; classes are the
            dataset's category ids. A photo's result does not depend on the others.

        Raises:
            ValueError: an image that is no uint8 RGB array.
        """
        if isinstance(images, np.ndarray) and images.ndim == 3:
            images = [images]
        detector = self.detector()
        return [self._detect_one(detector, np.asarray(image), i) for i, image in enumerate(images)]

    def _detect_one(self, detector, photo, number):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
            raise ValueError(
                f"images[{number}]: {photo.dtype} array of shape {photo.shape}; expected uint8 [H, W, 3], RGB"
            )
        data = self.config.data
        size = photos.resized_size(photo.shape[:2], data.short_side, data.max_side, data.resize)
        image = photos.on_canvas(photos.resize(photo, size, data.resize), photos.canvas_size(size))
        found = detector({"images": image[None], "image_sizes": np.asarray([size], np.int32)})
        return self.in_photo(*(x[0] for x in found), size, photo.shape[:2])

    def detector(self):
        """`call` at test time, compiled, with the present weights.

        Returns:
            A function: x of the class docstring -> BatchDetections of NumPy arrays.
        """
        if self._detectors is None:
            self._detectors = compiled_detector(self, photos.pixel_dtype(self.config.data.resize))
        return self._detectors()

    def in_photo(self, boxes, scores, classes, valid, size, photo_size):
        """One image's part of a BatchDetections as Detections of the photo it was made from.

        Args:
            boxes, scores, classes, valid: NumPy arrays [D, ...].
            size: (height, width) of the resized image.
            photo_size: (height, width) of the photo.
        """
        scale = np.asarray([photo_size[1] / size[1], photo_size[0] / size[0]] * 2, np.float32)
        limit = np.asarray([photo_size[1], photo_size[0]] * 2, np.float32)
        boxes = np.clip(boxes[valid] * scale, 0, limit)
        return Detections(boxes, scores[valid], self.category_ids()[classes[valid] - 1])

    def category_ids(self):
        """int64 [K]: the data set's id of each class; a proposal has no class but 1."""
        return np.ones(1, np.int64)

    @property
    def max_detections(self):
        """The most boxes that one image can have."""
        return self.config.model.rpn.post_nms_test

    # Saving -----------------------------------------------------------------------------------

    def get_config(self):
        return {"config": config_lib.to_dict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, values):
        return cls(config_lib.from_dict(values["config"]), name=values["name"])


def ground_truth(y):
    """The GroundTruth in a batch's y."""
    return GroundTruth(ops.cast(y["boxes"], "float32"), ops.cast(y["classes"], "int32"), y["valid"])
