"""Pictures whose grey values do not fit a byte: 12, 16 and 32 bits, and floats. Pillow only.

What becomes black and what white, the file tells: by its bits a channel, or a TIFF by a range that it
declares. Of whole numbers of 32 bits and of floats nobody can say, where the file does not.
"""

import re

import numpy as np
from PIL import Image

BITS, WHITE_IS_ZERO = 0x0102, 0x0106  # TIFF's tags
LOWEST_TAGS, HIGHEST_TAGS = (0x0154, 0x0118), (0x0155, 0x0119)  # S..., of any kind of number; of whole ones
SAMPLE_FORMAT = 0x0153  # a TIFF tag; 1 is unsigned whole numbers
COLOURS_OF_16_BITS = re.compile(r"\b(RGB[AX]?|LA);16")  # in Pillow's names of how a file is unpacked
DARK = 1 / 4  # of the range; a photo that stays below is remarked on


def is_deep(image):
    """Whether a PIL image has values that do not fit a byte."""
    return image.mode.startswith(("I", "F"))


def exceeds_bytes(image):
    """Whether the file of a PIL image, opened and not loaded yet, has values that do not fit a byte."""
    return is_deep(image) or bool(COLOURS_OF_16_BITS.search(str(image.tile)))


def value_range(image):
    """(lowest, highest): the values of a deep image that mean black and white.

    Args:
        image: PIL.Image of a mode that `is_deep`, as its file was opened.

    Raises:
        ValueError: the file does not tell.
    """
    tags = getattr(image, "tag_v2", {})
    highest = _first(tags, HIGHEST_TAGS)
    if highest is not None:
        lowest = _first(tags, LOWEST_TAGS) or 0
        if lowest < highest < np.inf:
            return lowest, highest
    if image.mode.startswith("I;16"):
        return 0, 2 ** int(_first(tags, (BITS,)) or 16) - 1
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # Pillow's mode for 16 bits of these
        return 0, 2**16 - 1
    numbers = "floats" if image.mode.startswith("F") else "signed numbers or numbers of 32 bits"
    raise ValueError(
        f"{numbers} of no declared range; expected 8 or 16 bits a channel, or a TIFF with SMinSampleValue "
        "and SMaxSampleValue"
    )


def in_bytes(image):
    """A deep PIL image as one of mode "L", black 0 and white 255. Raises: ValueError, see `value_range`."""
    lowest, highest = value_range(image)
    exact = np.float64 if image.mode == "I" else np.float32
    values = np.nan_to_num(np.asarray(image, exact)) - exact(lowest)
    if image.mode.startswith("F"):
        values = values / (highest - lowest) * 255 + 0.5
    else:  # as many numbers to each byte: of 16 bits the upper byte
        values = values / (highest - lowest + 1) * 256
    values = values.clip(0, 255).astype(np.uint8)
    is_negative = getattr(image, "tag_v2", {}).get(WHITE_IS_ZERO) == 0
    return Image.fromarray(255 - values if is_negative else values)


def remark(image):
    """What is doubtful about the values of a PIL image that `exceeds_bytes`; "" where nothing is.

    Raises:
        ValueError: see `value_range`.
    """
    if is_deep(image):
        lowest, highest = value_range(image)
        brightest = np.asarray(image).max()
    else:  # of colours Pillow keeps the upper byte
        lowest, highest, brightest = 0, 2**16 - 1, np.asarray(image.convert("RGB")).max() * 256.0 + 255
    is_dark = brightest - lowest < DARK * (highest - lowest)
    return f"values up to {brightest:.6g} of {highest:.6g}" if is_dark else ""


def _first(tags, names):
    """The first number that one of a TIFF's tags holds; None: none does."""
    for name in names:
        values = np.ravel(tags.get(name, ()))
        if len(values) and np.issubdtype(values.dtype, np.number):
            return float(values[0])
    return None
