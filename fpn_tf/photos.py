"""Photos as arrays: decoding, the size to show them at, resizing. NumPy and Pillow only."""

import contextlib
import io
import math
import os
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fpn_tf import depth
from fpn_tf.errors import PhotoError

CANVAS_MULTIPLE = 32  # the coarsest backbone map has stride 32
ORIENTATION = 0x0112  # an EXIF tag; 1 is upright
TURNS = {  # its other values -> what turns a picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Formats whose header has the picture's size and orientation. A PNG's may follow the pixels, others
# change their size as they load.
SIZED_BY_HEADER = {"JPEG", "MPO", "TIFF", "WEBP", "GIF", "BMP", "PPM", "AVIF"}
TIFF_WIDTH, TIFF_HEIGHT = 0x0100, 0x0101  # tags


class Header(NamedTuple):
    """What a photo tells of itself."""

    size: tuple[int, int]  # (height, width) of the upright photo
    remark: str = ""  # what is doubtful about its values, see `fpn_tf.depth.remark`


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
        PhotoError: the data is empty, truncated or no picture, or its values have no known range.
    """
    if not data:
        raise PhotoError(f"{name}: not a readable picture (the file is empty)")
    with opened(io.BytesIO(data), name) as image:
        return rgb_of(image)


@contextlib.contextmanager
def opened(file, name):
    """A context with the PIL image of a file or path. Whatever is raised in it is the photo's fault.

    Decoders meet what phones, editors and damaged disks wrote, and raise anything.

    Raises:
        PhotoError: it names the photo and the reason.
    """
    try:
        with Image.open(file) as image:
            yield image
    except Exception as error:
        raise PhotoError(f"{name}: not a readable picture ({reason_of(error)})") from None


def reason_of(error):
    """A line that says why a photo cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return "of no format that Pillow reads"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def rgb_of(image):
    """A PIL image of any mode as it is to be seen; uint8 [H, W, 3]. The image itself stays as it is."""
    image.load()
    if 0 in image.size:
        raise ValueError("it has no pixels")
    turn = TURNS.get(orientation_of(image))
    if depth.is_deep(image):
        image = depth.in_bytes(image)
    elif image.mode == "P" and "transparency" in image.info:  # which convert() does not leave out unasked
        image = image.convert("RGBA")
    image = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(image if turn is None else image.transpose(turn))


def orientation_of(image):
    """A PIL image's EXIF orientation, 1..8; 1 where it has none that can be read."""
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # whatever a phone or an editor wrote
        return 1
    return int(value) if value in range(1, 9) else 1


def upright_size_of(image):
    """(height, width) that `rgb_of` will give, of most formats without decoding. `image` is just opened."""
    if image.format not in SIZED_BY_HEADER:
        image.load()
    width, height = image.size
    if image.format == "TIFF":  # Pillow's size may be that of the turned picture already
        width, height = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
    return (width, height) if orientation_of(image) >= 5 else (height, width)  # 5..8 lie on the side


def header_of(file, name):
    """The Header of a photo.

    Args:
        file: its path or a file object.
        name: for messages.

    Raises:
        PhotoError: as `decode_rgb`, as far as the header tells.
    """
    with opened(file, name) as image:
        exceeds_bytes = depth.exceeds_bytes(image)
        size = upright_size_of(image)
        return Header(size, depth.remark(image) if exceeds_bytes else "")


def remark_on(path):
    """What is doubtful about the values of a photo that can be read, as `Header.remark`."""
    with opened(path, path) as image:
        return depth.remark(image) if depth.exceeds_bytes(image) else ""


def read_bytes(path):
    """The bytes of a file. Raises: PhotoError, where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise PhotoError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_rgb(path):
    """`decode_rgb` of a file. Raises: PhotoError, also where the file is absent."""
    return decode_rgb(read_bytes(os.path.expanduser(path)), str(path))


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
