"""The bytes of a file as a tensor, and the numbers in them."""

from typing import NamedTuple

import tensorflow as tf

MOST_PARTS = 2_000  # of a file; what has more is no photo
MOST_CHUNKS = 20_000  # of a PNG file, whose pixels may lie in pieces of 8 KiB
PNG_CHUNKS = 8  # where they begin
PADDING = 16  # zeros behind a file's end, which are what is read there


class FileBytes(NamedTuple):
    """A file. Where it is read beyond its end, it gives zeros."""

    data: tf.Tensor  # string []
    values: tf.Tensor  # uint8 [length + PADDING]
    length: tf.Tensor  # int64 []


def file_bytes(data):
    """FileBytes of a string []."""
    values = tf.concat([tf.io.decode_raw(data, tf.uint8), tf.zeros([PADDING], tf.uint8)], axis=0)
    return FileBytes(data, values, tf.cast(tf.strings.length(data), tf.int64))


def number_at(file, start, count, big_endian=False):
    """The unsigned number in `count` bytes.

    Args:
        file: FileBytes.
        start: of its first byte, whole numbers of any shape.
        count: at most 4.
        big_endian: bool [], whether its first byte counts most.

    Returns:
        int64 of the shape of `start`.
    """
    places = tf.expand_dims(tf.cast(start, tf.int64), -1) + tf.range(count, dtype=tf.int64)
    digits = tf.gather(file.values, tf.minimum(places, file.length + PADDING - 1))
    worth = tf.constant([256**place for place in range(count)], tf.int64)
    worth = tf.where(big_endian, worth[::-1], worth)
    return tf.reduce_sum(tf.cast(digits, tf.int64) * worth, axis=-1)


def signed_at(file, start):
    """The signed number in 4 bytes, the first of which counts least; int64 []."""
    value = number_at(file, start, 4)
    return either(value < 2**31, value, value - 2**32)


def text_at(file, start, length):
    """`length` bytes, or as many as there are, as a string []."""
    start, length = (tf.cast(number, tf.int64) for number in (start, length))
    return tf.strings.substr(file.data, tf.minimum(start, file.length), tf.maximum(length, 0))


def either(condition, value, otherwise):
    """`tf.where`; whole numbers of Python are int64."""
    return tf.where(
        condition, *(tf.constant(v, tf.int64) if isinstance(v, int) else v for v in (value, otherwise))
    )


def starts_with(text, beginning):
    """Whether a string [] begins with some bytes."""
    return tf.equal(tf.strings.substr(text, 0, len(beginning)), beginning)


def walked(file, start, after_part, *values, most_parts=MOST_PARTS):
    """Goes through a file part by part, to its end.

    Args:
        file: FileBytes.
        start: of the first part.
        after_part: a function: the start of a part, int64 [], and the values -> the start of the next and
            the new values.
        *values: what is gathered on the way.
        most_parts: what takes more steps ends in an error.

    Returns:
        [where the walk ended, the values].

    Raises:
        tf.errors.InvalidArgumentError: the file has more than `most_parts` parts.
    """
    first = [tf.cast(start, tf.int64), *map(tf.convert_to_tensor, values)]
    last = tf.while_loop(
        lambda position, *_: position < file.length,
        after_part,
        first,
        parallel_iterations=1,
        maximum_iterations=most_parts,
    )
    tf.debugging.assert_greater_equal(last[0], file.length)
    return last


def png_chunk(file, position):
    """A chunk of a PNG file: (name, length of its data, which begin 8 bytes on, the next one's start)."""
    length, name = number_at(file, position, 4, big_endian=True), text_at(file, position + 4, 4)
    return name, length, either(name == b"IEND", file.length, position + 12 + length)
