"""BMP files, uncompressed, in TensorFlow's ops. TensorFlow's own decoder knows no palettes."""

import tensorflow as tf

from fpn_tf.exporting.file_bytes import either, number_at, signed_at

HEADERS = (40, 52, 56, 64, 108, 124)  # bytes; 12 are of OS/2
MOST_COLOURS = 65536  # that a palette may claim to have
UNCOMPRESSED, BY_MASKS = 0, 3
MASKS = (0xFF0000, 0xFF00, 0xFF)  # of red, green and blue, as without masks
WITH_PALETTE, WITHOUT = (1, 4, 8), (24, 32)  # bits a pixel


def size(file):
    """(height, width) of a BMP file, FileBytes; int64 []."""
    return abs(signed_at(file, 22)), signed_at(file, 18)


def pixels(file):
    """uint8 [h, w, 3] of a BMP file.

    Raises:
        tf.errors.InvalidArgumentError: it is cut off, compressed or of another kind that is not decoded.
    """
    height, width = size(file)
    bits = number_at(file, 28, 2)
    _check_kind(file, bits)
    start, stride = number_at(file, 10, 4), (width * bits + 31) // 32 * 4
    stored = file.values[start : tf.minimum(start + height * stride, file.length)]
    rows = tf.reshape(stored, [height, stride])

    def in_colours():
        channels = bits // 8
        return tf.reshape(rows[:, : width * channels], [height, width, channels])[..., :3]

    def by_palette():
        each = 8 // bits
        # Of a byte's pixels the first is in its upper bits.
        shifts = tf.cast((tf.range(each)[::-1]) * bits, tf.uint8)
        numbers = tf.bitwise.right_shift(rows[..., None], shifts)
        numbers = tf.bitwise.bitwise_and(numbers, tf.cast(2**bits - 1, tf.uint8))
        numbers = tf.reshape(numbers, [height, stride * each])[:, :width]
        return tf.gather(_palette(file, bits), tf.cast(numbers, tf.int32))

    picture = tf.cond(bits > 8, in_colours, by_palette)
    is_bottom_up = signed_at(file, 22) > 0
    upright_rgb = tf.reverse(picture, tf.boolean_mask([0, 2], [is_bottom_up, True]))
    return tf.ensure_shape(upright_rgb, [None, None, 3])


def _check_kind(file, bits):
    compression, masks = number_at(file, 30, 4), number_at(file, [54, 58, 62], 4)
    is_plain = (compression == UNCOMPRESSED) & tf.reduce_any(bits == [*WITH_PALETTE, *WITHOUT])
    has_masks = (compression == BY_MASKS) & (bits == 32) & tf.reduce_all(masks == MASKS)
    is_known = (is_plain | has_masks) & tf.reduce_any(number_at(file, 14, 4) == HEADERS)
    is_known &= (bits > 8) | (number_at(file, 46, 4) <= MOST_COLOURS)
    tf.debugging.assert_equal(is_known, True)


def _palette(file, bits):
    """uint8 [256, 3], BGR; black where the file has no more colours."""
    count = number_at(file, 46, 4)
    count = tf.minimum(either(count == 0, 2**bits, count), 256)
    start = 14 + number_at(file, 14, 4)
    colours = tf.reshape(file.values[start : start + 4 * count], [count, 4])[:, :3]
    return tf.pad(colours, [[0, 256 - count], [0, 0]])
