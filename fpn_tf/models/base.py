"""What every model here is: a ResNet and a pyramid, trained and used as a Keras model.

images -> resnet -> fpn
"""

import keras
import numpy as np
from keras import ops

from fpn_tf import config as config_lib
from fpn_tf import photos
from fpn_tf.backend import compiled_detector, replica_count
from fpn_tf.models.pyramids import make_pyramid
from fpn_tf.models.resnet import ResNet
from fpn_tf.structures import Detections, GroundTruth, Losses

RPN_STREAM, ROI_STREAM, GT_STREAM, MASK_STREAM = 1, 2, 3, 4  # separate the uses of a sampling seed


class PyramidModel(keras.Model):
    """The trunk of a detector, and all that does not depend on what follows it.

    A subclass gives `forward(inputs, training)` -> NetOutputs, `detections(outputs, image_sizes)`
    -> BatchDetections and `compute_losses(y, outputs, training)` -> Losses.

    Args:
        config: `fpn_tf.Config`.

    Raises:
        ConfigError: a bad value in the config.
    """

    losses_type = Losses

    def __init__(self, config, **kwargs):
        config.validate()
        policy = keras.DTypePolicy(config.train.precision)
        super().__init__(**{"dtype": policy, "autocast": False} | kwargs)
        self.config = config
        model = config.model
        self.levels = config_lib.PYRAMIDS[model.pyramid]
        self.backbone = ResNet(
            **config_lib.BACKBONES[model.backbone],
            stride_in_1x1=model.stride_in_1x1,
            norm=model.norm,
            epsilon=model.norm_epsilon,
            frozen_stages=model.frozen_stages,
            remat=config.train.remat,
            last_level=4 if model.pyramid == "c4" else 5,
            name="backbone",
            dtype=policy,
        )
        self.fpn = make_pyramid(
            model.pyramid, model.fpn_channels, model.fpn_norm or None, name="fpn", dtype=policy
        )
        self.loss_trackers = [
            keras.metrics.Mean(name=name) for name in self.losses_type._fields if name != "total_loss"
        ]
        self._detector = None  # compiled at the first use
        self.build()

    def build(self, input_shape=None):
        """Creates the weights; they depend on the config alone."""
        if self.built:
            return
        self.backbone.build((None, None, None, 3))
        maps = {}
        for level, stage in enumerate(self.backbone.stages, start=2):
            maps[f"c{level}"] = (None, None, None, stage[-1].convs[-1].filters)
        self.fpn.build(maps)
        self.backbone.built = self.fpn.built = True
        self.build_heads()
        for part in self.config.train.freeze:  # now that all their layers are there
            if hasattr(self, part):
                getattr(self, part).trainable = False
        self.built = True

    def build_heads(self):
        """Creates the weights of what follows the pyramid."""

    @property
    def map_channels(self):
        """C of the pyramid's maps."""
        if self.config.model.pyramid in ("c4", "c5"):
            return self.backbone.stages[-1][-1].convs[-1].filters
        return self.config.model.fpn_channels

    # The forward pass -------------------------------------------------------------------------

    def call(self, inputs, training=False):
        outputs = self.forward(inputs, training)
        return outputs if training else self.detections(outputs, inputs["image_sizes"])

    def x_spec(self):
        """{key of x: (shape, dtype)}, None where a size varies."""
        dtype = photos.pixel_dtype(self.config.data.resize)
        return {"images": ((None, None, None, 3), dtype), "image_sizes": ((None, 2), "int32")}

    def pyramid(self, inputs, training):
        """x -> {"p2": [B, H, W, C], ...}."""
        images = self.normalize(inputs["images"], inputs["image_sizes"])
        return self.fpn(self.backbone(images, training=training), training=training)

    def normalize(self, images, image_sizes):
        """RGB of 0..255 [B, H, W, 3] -> float32 in the backbone's convention, 0 outside the image."""
        model = self.config.model
        images = ops.cast(images, "float32")
        if model.pixel_order == "bgr":
            images = ops.flip(images, axis=-1)
        # Lines of 3W numbers: three values, or a mask, broadcast over the last axis cost many times that.
        _, height, width, channels = ops.shape(images)
        mean, std = (
            ops.tile(ops.convert_to_tensor(x, "float32"), [width])
            for x in (model.pixel_mean, model.pixel_std)
        )
        sizes = ops.cast(image_sizes, "int32")[:, :, None]
        in_rows = ops.arange(height, dtype="int32") < sizes[:, 0]  # [B, H]
        in_columns = ops.repeat(ops.arange(width, dtype="int32"), channels) < sizes[:, 1]  # [B, 3W]
        inside = in_rows[:, :, None] & in_columns[:, None]
        lines = ops.reshape(images, [-1, height, width * channels])
        lines = ops.where(inside, (lines - mean) / std, 0.0)
        return ops.reshape(lines, [-1, height, width, channels])

    # Training ---------------------------------------------------------------------------------

    def compile(self, optimizer="sgd", jit_compile=None, **kwargs):
        """As `keras.Model.compile`; the losses are built in.

        XLA is off on TensorFlow unless asked for (`jit_compile=True` would compile anew for
        every image size) and on with JAX. The optimizer's variables are created here: TensorFlow
        traces a step twice where they come into being in it.
        """
        if jit_compile is None:
            jit_compile = keras.config.backend() == "jax"
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        """Restores the state of `compile` when a saved model is loaded."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Keras' hook: one scalar, and the named losses as metrics.

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

    def _detect_one(self, detector, photo, number, more=lambda scale: {}):
        """Detections of a photo; `more` gives further inputs from the scale [4] of its boxes."""
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
            raise ValueError(
                f"images[{number}]: {photo.dtype} array of shape {photo.shape}; expected uint8 [H, W, 3], RGB"
            )
        data = self.config.data
        size = photos.resized_size(photo.shape[:2], data.short_side, data.max_side, data.resize)
        image = photos.on_canvas(photos.resize(photo, size, data.resize), photos.canvas_size(size))
        scale = np.asarray([size[1] / photo.shape[1], size[0] / photo.shape[0]] * 2, np.float32)
        x = {"images": image[None], "image_sizes": np.asarray([size], np.int32)}
        found = detector(x | more(scale))
        return self.in_photo(*(ops.convert_to_numpy(part)[0] for part in found), size, photo.shape[:2])

    def detector(self):
        """`call` at test time, compiled.

        Returns:
            A function: x of the class docstring -> BatchDetections; on TensorFlow a tf.function.
        """
        if self._detector is None:
            self._detector = compiled_detector(self)
        return self._detector

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

    # Saving -----------------------------------------------------------------------------------

    def get_config(self):
        return {"config": config_lib.to_dict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, values):
        return cls(config_lib.from_dict(values["config"]), name=values["name"])


def ground_truth(y):
    """The GroundTruth in a batch's y."""
    return GroundTruth(ops.cast(y["boxes"], "float32"), ops.cast(y["classes"], "int32"), y["valid"])
