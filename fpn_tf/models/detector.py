"""What Keras asks of a model, and `detect`: a detector's hooks, with nothing about boxes in them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from fpn_tf.errors import UserError
from fpn_tf.models.backbones.applications import as_backbone, pixel_format
from fpn_tf.models.old_calls import model_of_old_archive
from fpn_tf.models.on_backends import compiled_detector, replica_count, with_added_losses
from fpn_tf.models.serialization import part_config
from fpn_tf.photo_forms import Photo, photo_from, photos_in
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import Array, Detections, Pyramid, Size, TruthField

FIT_STRIDE = 7919  # between the sampling seeds of neighbouring steps of `fit`


class Detector(keras.Model):
    """A backbone, a neck and what a subclass adds, trained and used as a Keras model.

    A subclass gives `call(inputs, training)`: Outputs in training, BatchDetections at test time;
    `propose(inputs, training)` -> Outputs, `detections(outputs, inputs)` -> BatchDetections of Outputs
    at test time; `compute_losses(y, outputs, training)` -> {name: scalar}; and in `part_names` after the
    neck its stages, the last of which detects. The inputs are

        {"images": [B, H, W, 3] RGB of 0..255, H and W multiples of 32, padding at the bottom right;
             of the preprocessor's `pixel_dtype`,
         "image_sizes": int32 [B, 2], (height, width) of the image proper,
         "score_threshold": float32 [], optional: detections must be above it}

    Args:
        backbone: a name of `fpn_tf.models.backbones`, or a Keras model or layer: images
            [B, H, W, 3] -> {"c2": [B, H/4, W/4, C], ...}.
        neck: a layer {"c2": ...} -> {"p2": ...}.
        preprocessor: `fpn_tf.Preprocessor`; what it leaves open, the backbone decides.
        **kwargs: of `keras.Model`; `dtype` may be a mixed-precision policy.
    """

    kind = ""  # a key of `fpn_tf.evaluation.kinds.KINDS`
    config: Any = None  # the `fpn_tf.Config` of its run, if it has one
    is_assembled = False  # whether that config describes all of its parts, see `fpn_tf.build`
    part_names: tuple[str, ...] = ("backbone", "neck")  # attributes that training may freeze or hand on

    def __init__(
        self,
        backbone: str | keras.Layer,
        neck: keras.Layer,
        preprocessor: Preprocessor | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"autocast": False} | kwargs)
        self.backbone = as_backbone(backbone, self.dtype_policy)
        self.neck = neck
        self.preprocessor = (preprocessor or Preprocessor()).resolved(pixel_format(backbone))

    def build(self, input_shape=None):
        """Creates the weights of all parts; they depend on the parts alone."""
        if self.built:
            return
        images = keras.KerasTensor((None, None, None, 3), dtype="float32")
        pyramid = self.neck(self.backbone(images))
        _check_names(pyramid, self.neck)
        self.build_stages(pyramid)
        self.loss_trackers = [keras.metrics.Mean(name=name, dtype="float32") for name in self.loss_names]
        self._compiled_detector = None
        self.built = True

    def build_stages(self, pyramid: Pyramid) -> None:
        """Creates the weights of what reads the pyramid, {"p2": KerasTensor [B, H, W, C], ...}."""
        shapes = {name: tuple(feature.shape) for name, feature in pyramid.items()}
        for name in self.part_names[2:]:
            getattr(self, name).build(shapes)

    # What its parts say about themselves ------------------------------------------------------

    @property
    def stages(self) -> tuple[Any, ...]:
        """The parts that have losses, in their order."""
        return tuple(getattr(self, name) for name in self.part_names[2:])

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Those of what `compute_losses` gives."""
        return tuple(name for stage in self.stages for name in stage.loss_names)

    @property
    def num_classes(self) -> int:
        """K, without background."""
        return self._of_last_part("num_classes")

    @property
    def score_threshold(self) -> float:
        """What a detection's score must be above where no other threshold is given."""
        return self._of_last_part("score_threshold")

    @property
    def nms_threshold(self) -> float:
        """The IoU above which the worse of two boxes (of a class) is dropped."""
        return self._of_last_part("nms_threshold")

    @property
    def max_detections(self) -> int:
        """The most boxes or segments that one image can have."""
        return self._of_last_part("max_detections")

    def _of_last_part(self, name):
        return getattr(getattr(self, self.part_names[-1]), name)

    @property
    def truth_fields(self) -> dict[str, TruthField]:
        """{name of an annotation's field: TruthField} that training needs besides boxes and classes."""
        return {}

    def pyramid(self, inputs: Mapping[str, Array], training: bool) -> Pyramid:
        """The inputs -> {"p2": [B, H, W, C], ...}."""
        pixels = self.preprocessor.pixels(inputs)
        return self.neck(self.backbone(pixels, training=training), training=training)

    def x_spec(self) -> dict[str, tuple]:
        """{key of the inputs that a batch of a data set has: (shape, dtype)}, None where a size varies."""
        images = ((None, None, None, 3), self.preprocessor.pixel_dtype)
        return {"images": images, "image_sizes": ((None, 2), "int32")}

    # Training ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | keras.Optimizer = "sgd",
        jit_compile: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; the losses are built in.

        The optimizer's variables are created here: TensorFlow traces a step twice where they come into
        being in it.

        Args:
            optimizer: as Keras takes it.
            jit_compile: whether XLA compiles a step; None: on with JAX, off on TensorFlow and PyTorch,
                where it would compile anew for every image size.
            **kwargs: of `keras.Model.compile`, but for `loss` and `metrics`.
        """
        if jit_compile is None:
            jit_compile = keras.config.backend() == "jax"
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        """Restores the state of `compile` when a saved model is loaded."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def train_step(self, *state_and_data):
        """Keras' hook; on JAX a state goes before the data.

        The steps of `fit` count themselves: the same arrays draw other anchors and RoIs in every epoch.
        """
        *state, data = state_and_data
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None:
            seeds = ops.convert_to_tensor(y["sample_seeds"]) + FIT_STRIDE * self._steps_taken(*state)
            data = keras.utils.pack_x_y_sample_weight(x, y | {"sample_seeds": seeds}, sample_weight)
        return super().train_step(*state, data)

    def _steps_taken(self, state=None):
        """The optimizer's steps so far, int32 []; on JAX its variables are in the state alone."""
        iterations = self.optimizer.iterations
        if state is not None:
            optimizer_variables = state[2]
            numbers = [variable is iterations for variable in self.optimizer.variables]
            iterations = optimizer_variables[numbers.index(True)]
        return ops.cast(iterations, "int32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Keras' hook: one scalar, and the named losses as metrics.

        Under `tf.distribute` gradients are summed over replicas, so the loss is divided by their
        number here (Keras does not do it for an overridden `compute_loss`).
        """
        # Detection needs no losses; evaluate() asks for both, and equal subgraphs are merged.
        outputs = y_pred if training else self.propose(x, training=False)
        losses, added = with_added_losses(self, lambda: self.compute_losses(y, outputs, training))
        for tracker in self.loss_trackers:
            tracker.update_state(losses[tracker.name])
        return (self.total_loss(losses) + sum(added)) / replica_count()

    def total_loss(self, losses: Mapping[str, Array]) -> Array:
        """What training minimises, float32 []: a batch's named losses, and what layers add to Keras' own
        `losses` (regularizers of weights, `add_loss`) in the call before."""
        return sum((*losses.values(), *(ops.cast(loss, "float32") for loss in self.losses)))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    # Use --------------------------------------------------------------------------------------

    def detect(
        self, images: Photo | Iterable[Photo], score_threshold: float | None = None
    ) -> list[Detections]:
        """Finds objects in photos.

        Args:
            images: a photo or a list of photos, of any sizes: arrays or tensors (RGB of 0..255
                [H, W, 3]; grey and alpha are converted), PIL images, paths, or the bytes of files. An
                array [B, H, W, 3] is B photos.
            score_threshold: detections must be above it; None: the model's own. Another one
                traces nothing anew.

        Returns:
            A list of Detections, one per photo, in pixels of that photo; classes are the
            dataset's category ids. A photo's result does not depend on the others.

        Raises:
            ValueError: something that is no photo.
            PhotoError: a file that cannot be read as one.
        """
        return [self.detect_one(photo, score_threshold) for photo in photos_of(images)]

    def detect_one(
        self, photo: np.ndarray, score_threshold: float | None = None, **more: Array
    ) -> Detections:
        """Detections in a uint8 [H, W, 3] photo; `more` are further inputs."""
        x = self.preprocessor.inputs(photo)
        threshold = self.score_threshold if score_threshold is None else score_threshold
        x |= {"score_threshold": np.asarray(threshold, np.float32)} | more
        batch = keras.tree.map_structure(ops.convert_to_numpy, self.detector()(x))
        return self.in_photo(batch, 0, x["image_sizes"][0], photo.shape[:2])

    def detector(self) -> Callable[[dict[str, Array]], Any]:
        """`call` at test time, compiled.

        Returns:
            A function: inputs of the class docstring, `score_threshold` among them -> BatchDetections;
            on TensorFlow a tf.function.
        """
        if self._compiled_detector is None:
            self._compiled_detector = compiled_detector(self)
        return self._compiled_detector

    def in_photo(self, batch: Any, number: int, shown_size: Size, photo_size: Size) -> Detections:
        """One image's part of a batch's detections as Detections of the photo it was made from.

        Args:
            batch: BatchDetections of NumPy arrays.
            number: of the image in the batch.
            shown_size: (height, width) of the resized image.
            photo_size: (height, width) of the photo.
        """
        valid = batch.valid[number]
        boxes = self.preprocessor.boxes_in_photo(batch.boxes[number][valid], shown_size, photo_size)
        classes = self.category_ids(batch.classes[number][valid])
        extra = {name: values[number][valid] for name, values in batch.extra.items()}
        return Detections(boxes, batch.scores[number][valid], classes, self.class_names, extra)

    def category_ids(self, classes: np.ndarray) -> np.ndarray:
        """Classes 1..K [D] as the data set's ids, int64 [D]."""
        return self.preprocessor.ids_of(classes)

    @property
    def class_names(self) -> dict[int, str]:
        """{category id: name}, in the order of classes 1..K."""
        ids = self.category_ids(np.arange(1, self.num_classes + 1)).tolist()
        return dict(zip(ids, self.preprocessor.names_of(ids)))

    # Saving -----------------------------------------------------------------------------------

    def __dir__(self):
        # Keras saves the weights under the first of these names that leads to them: not under `layers`,
        # whose entries go by their classes, but under the names of the parts.
        return [name for name in super().__dir__() if name not in ("layers", "stages")]

    def get_config(self):
        parts = {name: part_config(getattr(self, name)) for name in self.part_names}
        preprocessor = keras.saving.serialize_keras_object(self.preprocessor)
        dtype = keras.saving.serialize_keras_object(self.dtype_policy)
        return parts | {"preprocessor": preprocessor, "name": self.name, "dtype": dtype}

    @classmethod
    def from_config(cls, config):
        if "config" in config:  # of the version before
            return model_of_old_archive(config)
        return cls(**keras.saving.deserialize_keras_object(config))


def _check_names(pyramid, neck):
    """Raises ValueError where a neck gives anything but maps named p2, p3, ... in a row."""
    names = list(pyramid) if isinstance(pyramid, dict) else None
    levels = [int(n[1:]) for n in names or () if isinstance(n, str) and n[:1] == "p" and n[1:].isdigit()]
    if not names or len(levels) < len(names) or sorted(levels) != list(range(min(levels), max(levels) + 1)):
        given = f"maps named {names}" if names is not None else f"a {type(pyramid).__name__}"
        raise ValueError(f"neck {neck.name!r} gives {given}; expected a dict of maps such as p2, p3, p4, p5")


def photos_of(images):
    """Yields a photo or several as uint8 [H, W, 3] arrays. Raises: ValueError, with a bad one's number."""
    for number, image in enumerate(photos_in(images)):
        try:
            photo = photo_from(ops.convert_to_numpy(image) if ops.is_tensor(image) else image)
        except UserError:
            raise
        except ValueError as error:
            raise ValueError(f"images[{number}]: {error}") from None
        yield photo
