"""Photos as arrays: decoding, the size to show them at, resizing. NumPy and Pillow only."""

import io
import math
import os

import numpy as np
from PIL import Image, ImageOps

from fpn_tf.errors import PhotoError

CANVAS_MULTIPLE = 32  # the coarsest backbone map has stride 32
ORIENTATION = 0x0112  # an EXIF tag; 1 is upright
Photo = np.ndarray | Image.Image | str | os.PathLike[str]  # the forms in which a user may have one
PHOTO_FORMS = "expected uint8 [H, W, 3] in RGB, a PIL image or a path"


def decode_rgb(data, name="photo"):
    """Decodes JPEG, PNG and whatever else Pillow reads; upright, three channels.

    Greyscale, palette, alpha (dropped), CMYK and 16-bit files all come out as RGB, EXIF rotation
    applied.

    Args:
        data: bytes of the file.
        name: for messages.

    Returns:
        uint8 [H, W, 3].

    Raises:
        PhotoError: the data is empty, truncated or no picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "the file is empty" if not data else str(error).splitlines()[0]
        raise PhotoError(f"{name}: not a readable picture ({reason})") from None


def _rgb(image):
    """A PIL image of any mode as uint8 [H, W, 3]."""
    if image.mode.startswith(("I", "F")):  # 16-bit grey: convert() would clip it
        image = Image.fromarray((np.asarray(image) / 256).clip(0, 255).astype(np.uint8))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_rgb(path):
    """`decode_rgb` of a file. Raises: PhotoError, also where the file is absent."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read()
    except OSError as error:
        raise PhotoError(f"{path}: {error.strerror}") from None
    return decode_rgb(data, str(path))


def photo_from(value: Photo) -> np.ndarray:
    """A photo as an array, from whatever form a user has it in.

    Args:
        value: uint8 [H, W, 3] array in RGB, PIL image (of any mode; EXIF rotation is applied) or path.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: another type, dtype or shape.
        PhotoError: a path whose file is absent or no picture.
    """
    if isinstance(value, str | os.PathLike):
        return read_rgb(value)
    if isinstance(value, Image.Image):
        return _rgb(ImageOps.exif_transpose(value))
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{type(value).__name__}: {PHOTO_FORMS}")
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or 0 in value.shape:
        raise ValueError(f"{value.dtype} array of shape {value.shape}: {PHOTO_FORMS}{_advice(value)}")
    return value


def _advice(array):
    """A text for a message: what turns an array into a photo; "" where nothing is known to."""
    if array.ndim == 4:
        return "; a batch is given as a list of photos"
    if array.dtype != np.uint8:
        return "; values of 0..255 are converted by .astype('uint8')"
    if array.ndim == 2:
        return "; grey is repeated by np.stack([photo] * 3, axis=-1)"
    if array.ndim == 3 and array.shape[2] == 4:
        return "; alpha is dropped by photo[..., :3]"
    return ""


def upright_size(path):
    """(height, width) of the upright photo, from the file's header alone. Raises: PhotoError."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 1) >= 5  # 5..8 lie on the side
    except OSError as error:
        raise PhotoError(f"{path}: not a readable picture ({error})") from None
    return (width, height) if turned else (height, width)


def resized_size(size, short_side, max_side, kind="detectron2"):
    """The size at which a photo is shown to the net.

    Args:
        size: (height, width) of the photo.
        short_side: wanted length of the shorter side.
        max_side: bound on the longer side, which wins.
        kind: whose rounding: "detectron2" half up, "torchvision" down, "detectron" half to even.

    Returns:
        (height, width), each at least 1.
    """
    height, width = size
    if kind == "detectron2":
        scale = short_side / min(height, width)
        height, width = (short_side, scale * width) if height < width else (scale * height, short_side)
        if max(height, width) > max_side:
            scale = max_side / max(height, width)
            height, width = height * scale, width * scale
        sides = int(height + 0.5), int(width + 0.5)
    else:
        scale = min(short_side / min(height, width), max_side / max(height, width))
        rounded = math.floor if kind == "torchvision" else round
        sides = rounded(height * scale), rounded(width * scale)
    return max(sides[0], 1), max(sides[1], 1)


def resize(photo, size, kind="detectron2"):
    """Bilinear resizing as another library does it.

    Args:
        photo: uint8 [H, W, 3].
        size: (height, width).
        kind: "detectron2" is Pillow's, with antialiasing and whole numbers between its passes;
            "torchvision" and "detectron" interpolate between four pixels and do not round.

    Returns:
        [height, width, 3] of `pixel_dtype(kind)`, values 0..255.
    """
    if kind != "detectron2":
        rows = _interpolated(photo.astype(np.float32), size[0])
        return _interpolated(rows.swapaxes(0, 1), size[1]).swapaxes(0, 1)
    height, width = size
    if photo.shape[:2] == (height, width):
        return photo
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))


def resize_into(target, photo, kind="detectron2"):
    """`resize` to the shape of `target`, an array, and into it."""
    target[:] = resize(photo, target.shape[:2], kind)


def mirrored(photo):
    """A uint8 [H, W, 3] photo with left and right exchanged."""
    return np.asarray(ImageOps.mirror(Image.fromarray(photo)))


def pixel_dtype(kind):
    """The NumPy dtype of what `resize` gives."""
    return np.dtype(np.uint8 if kind == "detectron2" else np.float32)


def _interpolated(values, length):
    """Linear interpolation along the first axis to `length` entries, half-pixel centres."""
    position = (np.arange(length) + 0.5) * (len(values) / length) - 0.5
    position = np.clip(position, 0, len(values) - 1).astype(np.float32)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    fraction = (position - low.astype(np.float32)).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - fraction) + values[high] * fraction


def canvas_size(size):
    """The smallest (height, width) of whole multiples of 32 that holds `size`."""
    return tuple(-(-side // CANVAS_MULTIPLE) * CANVAS_MULTIPLE for side in size)


def on_canvas(photo, canvas):
    """[h, w, 3] -> [*canvas, 3] of the same dtype, at the top left; the rest is 0."""
    image = np.zeros((*canvas, 3), photo.dtype)
    image[: photo.shape[0], : photo.shape[1]] = photo
    return image
