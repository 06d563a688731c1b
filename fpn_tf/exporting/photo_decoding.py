"""The bytes of a photo's file -> its pixels, in TensorFlow's ops alone: as `fpn_tf.photos.decode_rgb`.

TensorFlow's decoders end a whole request where one file is damaged. Here they run inside a `tf.data.Dataset`
of one element that ignores errors, the one place in a graph where an error can be kept to itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from fpn_tf.exporting import bitmap, first_frame, orientation
from fpn_tf.exporting.file_bytes import (
    MOST_CHUNKS,
    PNG_CHUNKS,
    file_bytes,
    number_at,
    png_chunk,
    text_at,
    walked,
)

MOST_PIXELS = 2**28 // 3  # 89 million, above which Pillow warns as well
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
EMPTY = "not a readable picture (the file is empty)"
UNKNOWN = "not a readable picture (expected JPEG, PNG, GIF, BMP or WebP)"


class Format(NamedTuple):
    """A format of files."""

    name: str
    beginning: dict[int, bytes]  # where in a file -> what stands there
    size: Callable  # FileBytes -> (height, width), int64 [], by the header alone
    pixels: Callable  # FileBytes -> uint8 [h, w, 3]
    orientation: Callable  # FileBytes -> int64 [], 1..8


def _jpeg_size(file):
    shape = tf.image.extract_jpeg_shape(file.data, tf.int64)
    return shape[0], shape[1]


def _jpeg_pixels(file):
    # The transform that Pillow uses.
    return tf.io.decode_jpeg(file.data, channels=3, dct_method="INTEGER_ACCURATE")


def _png_size(file):
    width, height = tf.unstack(number_at(file, [16, 20], 4, big_endian=True))
    return height, width


def _png_pixels(file):
    """What follows the pixels may be cut off; the file is ended behind them."""

    def after_chunk(position, pixels_end):
        name, _, after = png_chunk(file, position)
        return after, tf.where(name == b"IDAT", tf.minimum(after, file.length), pixels_end)

    _, pixels_end = walked(file, PNG_CHUNKS, after_chunk, tf.constant(0, tf.int64), most_parts=MOST_CHUNKS)
    return tf.io.decode_png(text_at(file, 0, pixels_end) + PNG_END, channels=3)


def _webp_size(file):
    """Of the three kinds of WebP: with further parts, without loss, and with."""
    kind = text_at(file, 12, 4)
    dimensions = number_at(file, [24, 27], 3) + 1
    packed = number_at(file, 21, 4)
    lossless = tf.stack([packed % 2**14, packed // 2**14 % 2**14]) + 1
    lossy = number_at(file, [26, 28], 2) % 2**14
    width, height = tf.unstack(
        tf.where(kind == b"VP8X", dimensions, tf.where(kind == b"VP8L", lossless, lossy))
    )
    return height, width


def _webp_pixels(file):
    # The op that knows WebP alone is not there in older TensorFlow, which could not load the model then.
    return tf.io.decode_image(file.data, channels=3, expand_animations=False)


def _always_upright(file):
    return tf.constant(1, tf.int64)


FORMATS = (
    Format("JPEG", {0: b"\xff\xd8\xff"}, _jpeg_size, _jpeg_pixels, orientation.of_jpeg),
    Format("PNG", {0: b"\x89PNG\r\n\x1a\n"}, _png_size, _png_pixels, orientation.of_png),
    Format("GIF", {0: b"GIF8", 5: b"a"}, first_frame.size, first_frame.pixels, _always_upright),
    Format("BMP", {0: b"BM"}, bitmap.size, bitmap.pixels, _always_upright),
    Format("WebP", {0: b"RIFF", 8: b"WEBP"}, _webp_size, _webp_pixels, orientation.of_webp),
)


def decoded(data, most_pixels=MOST_PIXELS):
    """Decodes a photo, or says why it cannot be.

    Args:
        data: string [], the bytes of the file.
        most_pixels: int; a photo of more, by its header, is not decoded.

    Returns:
        (photo, error): uint8 [h, w, 3], RGB, upright; and a string [], "" where there is a photo. Else
        the photo has no pixels.
    """
    kind = _kind_of(data)

    def attempt(data):
        return _decoded(data, kind, tf.cast(most_pixels, tf.int64))

    damaged = [
        f"not a readable picture ({form.name}: damaged, cut off or of a rare kind)" for form in FORMATS
    ]
    if_it_fails = tf.data.Dataset.from_tensors((_no_pixels(), tf.gather([*damaged, UNKNOWN, EMPTY], kind)))
    outcome = tf.data.Dataset.from_tensors(data).map(attempt).ignore_errors()
    return outcome.concatenate(if_it_fails).take(1).with_options(_plain_options()).get_single_element()


def _plain_options():
    """Without what speeds up long data sets and takes its time to begin."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.max_intra_op_parallelism = 1
    return options


def _no_pixels():
    return tf.zeros([0, 0, 3], tf.uint8)


def _kind_of(data):
    """The number of a file's Format, int32 []; behind them: unknown, and empty."""
    file = file_bytes(tf.strings.substr(data, 0, 12))
    fits = [
        tf.reduce_all([text_at(file, place, len(text)) == text for place, text in form.beginning.items()])
        for form in FORMATS
    ]
    kind = tf.argmax(tf.stack([*fits, True]), output_type=tf.int32)
    return tf.where(tf.strings.length(data) == 0, len(FORMATS) + 1, kind)


@tf.function(input_signature=[tf.TensorSpec([], t) for t in (tf.string, tf.int32, tf.int64)], autograph=False)
def _decoded(data, kind, most_pixels):
    """`decoded` of a file of a `_kind_of`; raises where it is damaged. Traced once in a process."""
    file = file_bytes(data)
    branches = [lambda form=form: _decoded_as(form, file, most_pixels) for form in FORMATS]
    branches += [lambda error=error: (_no_pixels(), error) for error in (UNKNOWN, EMPTY)]
    photo, error = tf.switch_case(kind, branches)
    return tf.ensure_shape(photo, [None, None, 3]), error


def _decoded_as(form, file, most_pixels):
    height, width = form.size(file)
    # Not as height * width, which may be beyond 64 bits.
    fits = (height > 0) & (width > 0) & (height <= most_pixels // tf.maximum(width, 1))
    too_large = tf.strings.format("{} x {} pixels; expected at most {} in all", (width, height, most_pixels))
    return tf.cond(
        fits,
        lambda: (orientation.upright(form.pixels(file), form.orientation(file)), ""),
        lambda: (_no_pixels(), too_large),
    )
