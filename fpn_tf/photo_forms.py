"""A photo in whatever form a user has it in, as an array."""

import os
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from fpn_tf import photos
from fpn_tf.errors import PhotoError

Photo = np.ndarray | Image.Image | str | os.PathLike[str] | bytes  # or a tensor of any library
EXPECTED = "expected uint8 [H, W, 3] in RGB, a PIL image or a path"
COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}  # the numbers of channels that a photo may have


def photo_from(value: Photo) -> np.ndarray:
    """A photo as an array.

    Args:
        value: an array or tensor [H, W, 3] in RGB, [H, W] or [H, W, 1] in grey or [H, W, 4] with alpha
            (dropped), or with the channels first; a PIL image of any mode (EXIF rotation is applied); a
            path; the bytes of a file. The values of an array are 0..255: a dtype other than uint8 is taken
            where they can be nothing else.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: something else, or an array of another dtype, shape or range.
        PhotoError: a file or picture that cannot be read.
    """
    if isinstance(value, str | os.PathLike):
        return photos.read_rgb(value)
    if isinstance(value, bytes | bytearray):
        return photos.decode_rgb(value)
    if isinstance(value, Image.Image):
        return _from_image(value)
    if not hasattr(value, "__array__"):
        raise ValueError(f"{type(value).__name__}: {EXPECTED}")
    try:
        array = np.asarray(value)
    except Exception as error:  # of a tensor on another device, symbolic, with gradients
        raise ValueError(f"{type(value).__name__}: {photos.reason_of(error)}; {EXPECTED}") from None
    return _from_array(array)


def photos_in(value: Photo | Iterable[Photo]) -> Iterable[Photo]:
    """The photos that a user gave as one, as a list or other iterable, or as an array [B, H, W, C]."""
    if isinstance(value, str | os.PathLike | bytes | bytearray | Image.Image | Mapping):
        return [value]
    if hasattr(value, "__array__"):
        return value if np.ndim(value) in (1, 4) else [value]
    return value if isinstance(value, Iterable) else [value]


def _from_image(image):
    """`photo_from` of a PIL image."""
    try:
        return photos.rgb_of(image)
    except Exception as error:  # it may be decoded only now
        name = getattr(image, "filename", "") or f"PIL image of mode {image.mode}"
        raise PhotoError(f"{name}: not a readable picture ({photos.reason_of(error)})") from None


def _from_array(array):
    """`photo_from` of an array."""
    shape, advice = array.shape, ""
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and shape[0] in COLOURS and min(shape[1:]) > max(COLOURS):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 4:
        advice = "; a batch is given as a list of photos"
    if array.ndim != 3 or array.shape[2] not in COLOURS or 0 in array.shape:
        raise ValueError(f"{array.dtype} array of shape {shape}: {EXPECTED}{advice}")
    if array.dtype != np.uint8:
        array = _in_bytes(array, shape)
    return array.repeat(3, axis=2) if array.shape[2] == 1 else array[..., :3]


def _in_bytes(array, shape):
    """An array of another dtype as uint8. Raises: ValueError, where its values are not clearly of 0..255.

    Floats up to 1 may be shares, numbers of 16 bits may be of 0..65535.
    """
    if array.dtype.kind in "iuf" and array.dtype != np.uint16:
        lowest, highest = array.min(), array.max()
        may_be_shares = array.dtype.kind == "f" and highest <= 1
        if lowest >= 0 and highest <= 255 and not may_be_shares:
            return np.rint(array).astype(np.uint8)
        values = f" and values {lowest:.4g}..{highest:.4g}"
    else:
        values = ""
    raise ValueError(
        f"{array.dtype} array of shape {shape}{values}: {EXPECTED}; values of 0..255 are converted by "
        ".astype('uint8'), of 0..1 by (255 * photo).round().astype('uint8')"
    )
