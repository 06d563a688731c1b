"""From a photo to the net's pixels and back: sizes, resizing, pixel format, category ids.

Each way has a NumPy form (training, `detect`) and, with `tf_` before its name, one of TensorFlow's
ops (an exported model); `Preprocessor.normalize` belongs to the net and runs on every backend.
"""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from fpn_tf import photos
from fpn_tf.structures import Array, Size

RESIZES = ("detectron2", "torchvision", "detectron")
PIXEL_ORDERS = ("rgb", "bgr")


class PixelFormat(NamedTuple):
    """The pixels that a backbone expects: (value of 0..255 - mean) / std, channel by channel."""

    order: str  # "rgb" | "bgr"
    mean: tuple[float, float, float]  # in that order
    std: tuple[float, float, float]


IMAGENET = PixelFormat("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@keras.saving.register_keras_serializable("fpn_tf")
@dataclasses.dataclass(frozen=True)
class Preprocessor:
    """How photos are shown to a net, and how its boxes and classes are those of the photos again.

    Args:
        short_side: pixels of the resized photo's shorter side.
        max_side: bound on its longer side, which wins.
        resize: whose resizing, rounding of sizes included: "detectron2" (Pillow's on bytes, with
            antialiasing), "torchvision" or "detectron" (interpolation in float32).
        pixel_order: "rgb" or "bgr", the order that the net expects. None: what its backbone expects.
        pixel_mean: 3 numbers in that order, of 0..255. None: what the backbone expects.
        pixel_std: likewise, positive.
        category_ids: the data set's ids of classes 1..K, all different. (): the classes themselves.
        class_names: of classes 1..K. (): "class 1" and so on.

    Raises:
        ValueError: a value out of its range.

    Example:

    >>> small = fpn_tf.Preprocessor(short_side=320, max_side=533)
    >>> small.shown_size((480, 640))
    (320, 427)
    >>> small.canvas_size((320, 427))
    (320, 448)
    """

    short_side: int = 800
    max_side: int = 1333
    resize: str = "detectron2"
    pixel_order: str | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    category_ids: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("pixel_mean", "pixel_std", "category_ids", "class_names"):
            if isinstance(getattr(self, name), list):  # from JSON
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("short_side", "max_side"):
            side = getattr(self, name)
            _check(_is_whole(side) and side >= 1, name, side, "a positive number of pixels")
        _check(
            self.max_side >= self.short_side,
            "max_side",
            self.max_side,
            f"at least short_side={self.short_side}",
        )
        _check(self.resize in RESIZES, "resize", self.resize, f"one of {', '.join(RESIZES)}")
        _check(self.pixel_order in (None, *PIXEL_ORDERS), "pixel_order", self.pixel_order, "rgb, bgr or None")
        mean, std, ids, names = self.pixel_mean, self.pixel_std, self.category_ids, self.class_names
        _check(mean is None or _are_three(mean), "pixel_mean", mean, "3 numbers or None")
        _check(
            std is None or (_are_three(std) and min(std) > 0), "pixel_std", std, "3 positive numbers or None"
        )
        _check(
            isinstance(ids, tuple)
            and all(_is_whole(i) and -(2**63) <= i < 2**63 for i in ids)
            and len(set(ids)) == len(ids),
            "category_ids",
            ids,
            "a tuple of different whole numbers of 64 bits",
        )
        _check(
            isinstance(names, tuple) and all(isinstance(name, str) for name in names),
            "class_names",
            names,
            "a tuple of texts",
        )
        _check(
            not (ids and names) or len(ids) == len(names),
            "class_names",
            names,
            f"as many as category_ids, {len(ids)}",
        )

    def resolved(self, pixels: PixelFormat) -> "Preprocessor":
        """A copy in which the fields that are None are those of a PixelFormat."""
        return dataclasses.replace(
            self,
            pixel_order=pixels.order if self.pixel_order is None else self.pixel_order,
            pixel_mean=tuple(pixels.mean) if self.pixel_mean is None else self.pixel_mean,
            pixel_std=tuple(pixels.std) if self.pixel_std is None else self.pixel_std,
        )

    @property
    def pixel_dtype(self) -> np.dtype:
        """The NumPy dtype of the images that the net is shown: uint8 or float32."""
        return photos.pixel_dtype(self.resize)

    # NumPy ------------------------------------------------------------------------------------

    def shown_size(self, photo_size: Size, short_side: int | None = None) -> Size:
        """The (height, width) at which a photo is shown; `short_side` in place of its own, if given."""
        short_side = self.short_side if short_side is None else short_side
        return photos.resized_size(photo_size, short_side, self.max_side, self.resize)

    def canvas_size(self, shown_size: Size) -> Size:
        """The smallest (height, width) of whole multiples of 32 that holds `shown_size`."""
        return photos.canvas_size(shown_size)

    def inputs(self, photo: np.ndarray) -> dict[str, np.ndarray]:
        """A photo as a batch of one for the net.

        Args:
            photo: uint8 [h, w, 3], RGB.

        Returns:
            {"images": [1, H, W, 3] of `pixel_dtype`, RGB of 0..255, 0 outside the photo;
            "image_sizes": int32 [1, 2], (height, width) of the photo on it}.
        """
        size = self.shown_size(photo.shape[:2])
        image = photos.on_canvas(photos.resize(photo, size, self.resize), self.canvas_size(size))
        return {"images": image[None], "image_sizes": np.asarray([size], np.int32)}

    def boxes_shown(self, boxes: ArrayLike, photo_size: Size, shown_size: Size) -> np.ndarray:
        """Boxes [..., 4] in pixels of a photo -> float32 in those of the resized photo."""
        return np.asarray(boxes, np.float32) * _scale(photo_size, shown_size)

    def boxes_in_photo(self, boxes: ArrayLike, shown_size: Size, photo_size: Size) -> np.ndarray:
        """Boxes [D, 4] in pixels of a resized photo -> float32 in those of the photo, clipped to it."""
        limit = np.asarray([photo_size[1], photo_size[0]] * 2, np.float32)
        return np.clip(np.asarray(boxes, np.float32) * _scale(shown_size, photo_size), 0, limit)

    def ids_of(self, classes: ArrayLike) -> np.ndarray:
        """int64 category ids of classes 1..K, an array of any shape."""
        classes = np.asarray(classes)
        return (
            np.asarray(self.category_ids, np.int64)[classes - 1]
            if self.category_ids
            else classes.astype(np.int64)
        )

    def names_of(self, ids: Iterable[int]) -> list[str]:
        """The names [str, ...] of category ids.

        Raises:
            ValueError: an id that is none of `category_ids`.
        """
        return [self._name_of(int(category_id)) for category_id in ids]

    def _name_of(self, category_id):
        known = self.category_ids or range(1, len(self.class_names) + 1)
        if known and category_id not in known:
            raise ValueError(f"category id {category_id}: expected one of {', '.join(map(str, known))}")
        position = known.index(category_id) if known else category_id - 1
        return self.class_names[position] if self.class_names else f"class {position + 1}"

    # In the net -------------------------------------------------------------------------------

    def pixels(self, inputs: Mapping[str, Array]) -> Array:
        """A model's inputs -> `normalize`d images, float32 [B, H, W, 3].

        Raises:
            ValueError: the inputs are no dict of images and their sizes.
        """
        if not isinstance(inputs, dict) or not {"images", "image_sizes"} <= set(inputs):
            is_dict = isinstance(inputs, dict)
            given = f"the keys {sorted(inputs)}" if is_dict else f"a {type(inputs).__name__}"
            raise ValueError(
                f"the model was called with {given}; expected "
                "{'images': [B, H, W, 3], 'image_sizes': [B, 2]}, or model.detect(photos) for photos"
            )
        return self.normalize(inputs["images"], inputs["image_sizes"])

    def normalize(self, images: Array, image_sizes: Array) -> Array:
        """What the backbone is given.

        Args:
            images: [B, H, W, 3], RGB of 0..255.
            image_sizes: [B, 2], (height, width) of the photo on each.

        Returns:
            float32 [B, H, W, 3] in the net's pixel format, 0 outside the photos.

        Raises:
            ValueError: the pixel format is not `resolved`.
        """
        for name in ("pixel_order", "pixel_mean", "pixel_std"):
            _check(getattr(self, name) is not None, name, None, "a preprocessor after `resolved(pixels)`")
        images = ops.cast(images, "float32")
        if self.pixel_order == "bgr":
            images = ops.flip(images, axis=-1)
        _, height, width, channels = ops.shape(images)

        # Lines of W * 3 numbers: to broadcast over an axis of 3 takes twice the time. And TensorFlow
        # divides by a line of unknown length; a division by constants it makes a product, inexactly.
        def line(values):
            return ops.tile(ops.convert_to_tensor(values, "float32"), [width])

        lines = ops.reshape(images, [-1, height, width * channels])
        lines = (lines - line(self.pixel_mean)) / line(self.pixel_std)
        sizes = ops.cast(image_sizes, "int32")
        in_rows = ops.arange(height, dtype="int32") < sizes[:, :1]  # [B, H]
        in_lines = ops.arange(width * channels, dtype="int32") < sizes[:, 1:] * channels  # [B, W*3]
        lines = ops.where(in_rows[:, :, None] & in_lines[:, None, :], lines, 0.0)
        return ops.reshape(lines, [-1, height, width, channels])

    # TensorFlow -------------------------------------------------------------------------------

    def tf_inputs(self, images: Array) -> tuple[dict[str, Array], Array]:
        """`inputs` of photos of one size, as tensors.

        Args:
            images: uint8 [b, h, w, 3], RGB.

        Returns:
            (x, shown_size): {"images": [b, H, W, 3], "image_sizes": int32 [b, 2]} and int32 [2].
        """
        import tensorflow as tf

        size = tf_resized_size(tf.shape(images)[1:3], self.short_side, self.max_side, self.resize)
        images = tf_resize(images, size, self.resize)
        bottom, right = tf.unstack(-size % photos.CANVAS_MULTIPLE)
        images = tf.pad(images, [[0, 0], [0, bottom], [0, right], [0, 0]])
        return {"images": images, "image_sizes": tf.repeat(size[None], tf.shape(images)[0], axis=0)}, size

    def tf_boxes_in_photo(self, boxes: Array, shown_size: Array, photo_size: Array) -> Array:
        """`boxes_in_photo` of float32 [..., 4]; the sizes are int32 [2]."""
        import tensorflow as tf

        height, width = tf.unstack(tf.cast(photo_size, tf.float32))
        scale = tf.cast(tf.tile((photo_size / shown_size)[::-1], [2]), tf.float32)
        return tf.clip_by_value(boxes * scale, 0.0, tf.stack([width, height, width, height]))

    def tf_ids_of(self, classes: Array) -> Array:
        """`ids_of` as int32; 0, no class, stays 0."""
        import tensorflow as tf

        if not self.category_ids:
            return tf.cast(classes, tf.int32)
        return tf.gather(tf.constant([0, *self.category_ids], tf.int32), classes)

    # Saving -----------------------------------------------------------------------------------

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def tf_resized_size(size, short_side, max_side, kind):
    """`fpn_tf.photos.resized_size` on an int32 tensor [2]."""
    import tensorflow as tf

    sides = tf.cast(size, tf.float64)
    short, limit = tf.cast(short_side, tf.float64), tf.cast(max_side, tf.float64)
    if kind == "detectron2":
        sides *= short / tf.reduce_min(sides)
        sides *= tf.minimum(limit / tf.reduce_max(sides), 1.0)
        sides = tf.floor(sides + 0.5)
    else:
        sides *= tf.minimum(short / tf.reduce_min(sides), limit / tf.reduce_max(sides))
        sides = tf.floor(sides) if kind == "torchvision" else tf.round(sides)
    return tf.maximum(tf.cast(sides, tf.int32), 1)


def tf_resize(images, size, kind):
    """`fpn_tf.photos.resize` on a uint8 tensor [b, h, w, 3].

    Pillow's way goes width first, rounded, then height: the two passes with whole numbers between
    them. A pixel differs from its result by at most 1, where its fixed-point weights round
    otherwise.
    """
    import tensorflow as tf

    if kind != "detectron2":
        return tf.image.resize(tf.cast(images, tf.float32), size)
    for axes in ((tf.shape(images)[1], size[1]), (size[0], size[1])):
        exact = tf.image.resize(tf.cast(images, tf.float32), tf.stack(axes), antialias=True)
        images = tf.cast(tf.clip_by_value(tf.floor(exact + 0.5), 0, 255), tf.uint8)
    return images


def _scale(from_size, to_size):
    """float32 [4]: what turns boxes on one (height, width) into boxes on another."""
    return np.asarray([to_size[1] / from_size[1], to_size[0] / from_size[0]] * 2, np.float32)


def _is_whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _are_three(values):
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(isinstance(value, numbers.Real) and math.isfinite(value) for value in values)
    )


def _check(holds, name, value, expected):
    if not holds:
        raise ValueError(f"Preprocessor: {name}={value!r}: expected {expected}")
