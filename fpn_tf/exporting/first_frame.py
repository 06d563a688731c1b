"""A GIF file's first frame, in TensorFlow's ops.

TensorFlow decodes all frames, as large as the largest of them, and makes black what is transparent. It is
given a file of the first frame alone, at the top left, without what tells of transparency.
"""

from typing import NamedTuple

import tensorflow as tf

from fpn_tf.exporting.file_bytes import either, number_at, text_at, walked

SCREEN_END = 13  # where the size and flags of the whole picture end
DESCRIPTOR = 10  # bytes before a frame's palette
EXTENSION, FRAME, TRANSPARENCY = 0x21, 0x2C, 0xF9  # first bytes of parts; the third is a kind of extension
FULL = 255  # bytes of the longest block
AT_ONCE = 1024  # blocks that are looked at together


class Frame(NamedTuple):
    """Where a GIF file's first frame lies; int64 []."""

    start: tf.Tensor
    end: tf.Tensor
    transparent: tf.Tensor  # number of the colour; 0 where there is none


def size(file):
    """(height, width) of a GIF file, FileBytes; int64 []."""
    width, height, *frame = _extent(file, first_frame(file))
    return tf.maximum(height, frame[1] + frame[3]), tf.maximum(width, frame[0] + frame[2])


def pixels(file):
    """uint8 [h, w, 3] of a GIF file. Raises: tf.errors.InvalidArgumentError, where it is damaged."""
    frame = first_frame(file)
    height, width = size(file)
    _, _, left, top, columns, rows = _extent(file, frame)
    head = text_at(file, 0, _palette_end(file, 10, SCREEN_END))
    frame_at_origin = [b",\0\0\0\0", text_at(file, frame.start + 5, frame.end - frame.start - 5)]
    picture = tf.io.decode_gif(tf.strings.join([head, *frame_at_origin, b";"]))[0]
    has_palette = number_at(file, frame.start + 9, 1) >= 128
    palette = either(has_palette, frame.start + DESCRIPTOR, SCREEN_END)
    ground = tf.gather(file.values, palette + 3 * frame.transparent + tf.range(3, dtype=tf.int64))
    around = [[top, height - top - rows], [left, width - left - columns], [0, 0]]
    inside = tf.pad(tf.ones([rows, columns, 1], tf.bool), around)
    return tf.where(inside, tf.pad(picture, around), ground)


@tf.function(autograph=False)  # traced once
def first_frame(file):
    """The Frame of a file; one without a picture has it at its end."""

    def after_part(position, start, end, transparent):
        kind, label = number_at(file, position, 1), number_at(file, position + 1, 1)
        is_frame, is_extension = kind == FRAME, kind == EXTENSION
        blocks = either(is_frame, _palette_end(file, position + 9, position + DESCRIPTOR) + 1, position + 2)
        after = tf.cond(is_frame | is_extension, lambda: _after_blocks(file, blocks), lambda: file.length)
        tells = is_extension & (label == TRANSPARENCY) & (number_at(file, position + 3, 1) % 2 == 1)
        transparent = either(tells, number_at(file, position + 6, 1), transparent)
        start, end = either(is_frame, position, start), either(is_frame, after, end)
        return either(is_frame, file.length, after), start, end, transparent

    begin = _palette_end(file, 10, SCREEN_END)
    return Frame(*walked(file, begin, after_part, file.length, file.length, tf.constant(0, tf.int64))[1:])


def _extent(file, frame):
    """(width, height) of the whole picture; (left, top, width, height) of its first frame."""
    of_frame = frame.start + tf.constant([1, 3, 5, 7], tf.int64)
    return tf.unstack(number_at(file, tf.concat([[6, 8], of_frame], axis=0), 2))


def _palette_end(file, flags, start):
    """Where a palette ends that begins at `start`, if the byte at `flags` says that there is one."""
    flags = number_at(file, flags, 1)
    return start + either(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)


def _after_blocks(file, position):
    """Where a row of blocks ends that begins at `position`.

    Each has its length before it, the last is empty.
    """

    def after_block(position, end):
        lengths = number_at(file, position + (FULL + 1) * tf.range(AT_ONCE, dtype=tf.int64), 1)
        full = tf.reduce_sum(tf.math.cumprod(tf.cast(lengths == FULL, tf.int64)))
        after_full = position + (FULL + 1) * full
        length = number_at(file, after_full, 1)
        is_last = (full < AT_ONCE) & (length == 0)
        after = after_full + either(full == AT_ONCE, 0, 1 + length)
        return either(is_last, file.length, after), either(is_last, after, end)

    return walked(file, position, after_block, file.length)[1]
