"""Photos as arrays: decoding, the size to show them at, resizing. NumPy and Pillow only."""

import io

import numpy as np
from PIL import Image, ImageOps

from fpn_tf.errors import PhotoError

CANVAS_MULTIPLE = 32  # the coarsest backbone map has stride 32


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
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):  # 16-bit grey: convert() would clip it
                image = Image.fromarray((np.asarray(image) / 256).clip(0, 255).astype(np.uint8))
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "the file is empty" if not data else str(error).splitlines()[0]
        raise PhotoError(f"{name}: not a readable picture ({reason})") from None


def read_rgb(path):
    """`decode_rgb` of a file. Raises: PhotoError, also where the file is absent."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise PhotoError(f"{path}: {error.strerror}") from None
    return decode_rgb(data, str(path))


def upright_size(path):
    """(height, width) of the upright photo, from the file's header alone. Raises: PhotoError."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5..8 lie on the side
    except OSError as error:
        raise PhotoError(f"{path}: not a readable picture ({error})") from None
    return (width, height) if turned else (height, width)


def resized_size(size, short_side, max_side):
    """The size at which a photo is shown to the net, as Detectron2 rounds it.

    Args:
        size: (height, width) of the photo.
        short_side: wanted length of the shorter side.
        max_side: bound on the longer side, which wins.

    Returns:
        (height, width), each at least 1.
    """
    height, width = size
    scale = short_side / min(height, width)
    height, width = (short_side, scale * width) if height < width else (scale * height, short_side)
    if max(height, width) > max_side:
        scale = max_side / max(height, width)
        height, width = height * scale, width * scale
    return max(int(height + 0.5), 1), max(int(width + 0.5), 1)


def resize(photo, size):
    """uint8 [H, W, 3] -> uint8 [h, w, 3], bilinear with antialiasing (Pillow's, Detectron2's)."""
    height, width = size
    if photo.shape[:2] == (height, width):
        return photo
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))


def canvas_size(size):
    """The smallest (height, width) of whole multiples of 32 that holds `size`."""
    return tuple(-(-side // CANVAS_MULTIPLE) * CANVAS_MULTIPLE for side in size)


def on_canvas(photo, canvas):
    """uint8 [h, w, 3] -> uint8 [*canvas, 3], at the top left; the rest is 0."""
    image = np.zeros((*canvas, 3), np.uint8)
    image[: photo.shape[0], : photo.shape[1]] = photo
    return image
