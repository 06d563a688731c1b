"""The labels of boxes in a picture: letters that a font has, and places where none covers another."""

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
from PIL import ImageFont

MARGIN = 2  # pixels left and right of a text
# Pillow's font knows few letters beyond ASCII; then these are looked for on the system.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "arial.ttf",
    "Arial Unicode.ttf",
    "msyh.ttc",
)
NO_CHARACTER = "\U0010fffe"


class Label(NamedTuple):
    """A text and where it stands."""

    text: str
    font: ImageFont.FreeTypeFont
    box: tuple[int, int, int, int]  # (left, top, right, bottom) in pixels


@functools.cache
def fonts(size):
    """The fonts that there are, at a size in pixels; Pillow's is the first."""
    available = [ImageFont.load_default(size)]
    for name in SYSTEM_FONTS:
        try:
            available.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return available


def font_for(text, size):
    """The first font that has all letters of a text; None: none has."""
    return next((font for font in fonts(size) if all(_has(font, letter) for letter in text)), None)


@functools.cache
def _has(font, letter):
    """Whether a font has a letter, and not an empty box in its place."""
    return letter == " " or _pixels(font, letter) != _pixels(font, NO_CHARACTER)


def _pixels(font, letter):
    mask = font.getmask(letter)
    return mask.size, bytes(mask) if all(mask.size) else b""


def label_text(name, number, score=None):
    """A label: the name of a class and a score, on one line; the class' number where no font has its letters.

    Args:
        name: of the class.
        number: its category id.
        score: 0..1; None: without one.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    shown = name if name and font_for(name, 16) else str(number)
    return shown if score is None else f"{shown} {score:.2f}"


def placed_labels(texts, corners, image_size, text_size):
    """Labels near the corners of their boxes that do not cover each other.

    Args:
        texts: D texts of letters that a font has, the most important first.
        corners: [D, 2], (x, y) of the boxes' upper left corners.
        image_size: (width, height) of the picture.
        text_size: pixels.

    Returns:
        A list of D Labels. Each stands on its corner or in the nearest free row above or below, inside the
        picture where that is large enough; None in place of one for which no row is free.
    """
    labels, taken = [], np.zeros((0, 4), int)
    for text, (x, y) in zip(texts, np.rint(corners).astype(int)):
        font = font_for(text, text_size) or fonts(text_size)[0]
        text = _shortened(text, font, image_size[0] - 2 * MARGIN)
        width, height = int(np.ceil(font.getlength(text))) + 2 * MARGIN, sum(font.getmetrics())
        left = int(np.clip(x, 0, max(image_size[0] - width, 0)))
        top = _free_top(left, y, width, height, image_size[1], taken)
        if top is None:
            labels.append(None)
            continue
        box = (left, top, left + width, top + height)
        labels.append(Label(text, font, box))
        taken = np.vstack([taken, box])
    return labels


def _shortened(text, font, width):
    """A text cut at the end of its name so that it fits a width in pixels; its score stays."""
    name, _, score = text.rpartition(" ")
    while font.getlength(text) > width and len(name) > 1:
        name = name[:-1]
        text = f"{name}.. {score}"
    return text


def _free_top(left, y, width, height, image_height, taken):
    """The top of a label's row: above y where that is free, else the nearest one that is; None: none is.

    Args:
        left, width, height: of the label, pixels.
        y: of the box's upper edge.
        image_height: pixels.
        taken: [N, 4], the places of other labels.
    """
    beside = taken[(taken[:, 0] < left + width) & (taken[:, 2] > left)]
    above, last = y - height, max(image_height - height, 0)
    tops = np.unique(np.clip([above, y, *beside[:, 3], *(beside[:, 1] - height)], 0, last))
    covers = (tops[:, None] < beside[:, 3]) & (tops[:, None] + height > beside[:, 1])  # [T, N]
    free = tops[~covers.any(axis=1)]
    return int(free[np.argmin(np.abs(free - above))]) if len(free) else None
