"""How a picture lies, by the EXIF or XMP in its file: `fpn_tf.photos.orientation_of` in TensorFlow's ops."""

import tensorflow as tf

from fpn_tf.exporting.file_bytes import (
    MOST_CHUNKS,
    PNG_CHUNKS,
    either,
    file_bytes,
    number_at,
    png_chunk,
    starts_with,
    text_at,
    walked,
)
from fpn_tf.photos import ORIENTATION

EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
TIFF_HEADERS = [b"II*\0", b"MM\0*", b"II\0*", b"MM*\0"]  # of EXIF; the latter are wrong, and read
TWO_BYTES, FOUR_BYTES = (3, 8), (4, 9)  # EXIF's types of whole numbers
ENTRY = 12  # bytes of a tag in EXIF
IN_XMP = r'\C*?tiff:Orientation(?:="|>)([0-9])\C*'
STRING = tf.TensorSpec([], tf.string)
JPEG_SKIPPED = 4096  # bytes between two parts, searched at a time


def upright(photo, orientation):
    """A uint8 [h, w, 3] picture, turned as `orientation`, int64 [], asks: 1..8, see `fpn_tf.photos.TURNS`."""

    def turned():
        standing = tf.transpose(photo, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
        backwards = [tf.reduce_any(orientation == turns) for turns in ([3, 4, 7, 8], [2, 3, 6, 7])]
        return tf.reverse(standing, tf.boolean_mask([0, 1], backwards))

    return tf.ensure_shape(tf.cond(orientation > 1, turned, lambda: photo), [None, None, 3])


def of_jpeg(file):
    """The orientation that a JPEG file, FileBytes, tells of: int64 [], 1..8."""

    def after_part(position, exif, xmp):
        first, marker = number_at(file, position, 1), number_at(file, position + 1, 1)
        between = file.values[position + 1 : position + 1 + JPEG_SKIPPED] == 0xFF
        to_marker = either(tf.reduce_any(between), 1 + tf.argmax(between), JPEG_SKIPPED)
        length = number_at(file, position + 2, 2, big_endian=True)
        has_length = (marker >= 0xC0) & ((marker < 0xD0) | (marker > 0xD9))
        step = either(has_length, 2 + length, 2)
        step = either(marker == 0xFF, 1, step)
        step = either(first == 0xFF, step, to_marker)
        is_end = (first == 0xFF) & (marker == 0xDA)
        is_data = (first == 0xFF) & (marker == 0xE1)
        data = text_at(file, position + 4, either(is_data, length - 2, 0))
        # EXIF of more than one part continues behind the name that each part begins with.
        exif += either(starts_with(data, EXIF), text_at(file, position + 10, length - 8), "")
        xmp = either(starts_with(data, XMP), data, xmp)
        return either(is_end, file.length, position + step), exif, xmp

    _, exif, xmp = walked(file, 2, after_part, "", "")
    return _orientation(exif, xmp)


def of_png(file):
    """As `of_jpeg`, of a PNG file."""

    def after_chunk(position, exif, xmp):
        name, length, after = png_chunk(file, position)
        data = text_at(file, position + 8, either((name == b"eXIf") | (name == b"iTXt"), length, 0))
        exif = either(name == b"eXIf", data, exif)
        xmp = either(starts_with(data, b"XML:com.adobe.xmp\0"), data, xmp)
        return after, exif, xmp

    _, exif, xmp = walked(file, PNG_CHUNKS, after_chunk, "", "", most_parts=MOST_CHUNKS)
    return _orientation(exif, xmp)


def of_webp(file):
    """As `of_jpeg`, of a WebP file."""

    def after_chunk(position, exif, xmp):
        name, length = text_at(file, position, 4), number_at(file, position + 4, 4)
        data = text_at(file, position + 8, either((name == b"EXIF") | (name == b"XMP "), length, 0))
        exif = either((name == b"EXIF") & (exif == b""), data, exif)
        xmp = either((name == b"XMP ") & (xmp == b""), data, xmp)
        return position + 8 + length + length % 2, exif, xmp

    _, exif, xmp = walked(file, 12, after_chunk, "", "")
    return _orientation(exif, xmp)


@tf.function(input_signature=[STRING, STRING], autograph=False)
def _orientation(exif, xmp):
    """1..8, by EXIF where that has an orientation, else by XMP; both are strings []."""
    by_exif = _in_exif(tf.strings.regex_replace(exif, r"^(Exif\x00\x00){1,2}", "", replace_global=False))
    digit = tf.strings.regex_replace(xmp, IN_XMP, r"\1")
    digit = number_at(file_bytes(digit), 0, 1) - ord("0")
    by_xmp = either(tf.strings.regex_full_match(xmp, IN_XMP), digit, 1)
    value = either(by_exif < 0, by_xmp, by_exif)
    return either((value >= 1) & (value <= 8), value, 1)


def _in_exif(exif):
    """The orientation in a string [] of EXIF, int64 []; -1 where it has none, 0 where it is no EXIF."""
    file = file_bytes(exif)
    is_big = starts_with(exif, b"MM")
    directory = number_at(file, 4, 4, is_big)
    entries = directory + 2 + ENTRY * tf.range(number_at(file, directory, 2, is_big))
    tag = number_at(file, entries, 2, is_big)
    kind = number_at(file, entries + 2, 2, is_big)
    count = number_at(file, entries + 4, 4, is_big)
    of_two = tf.reduce_any([kind == each for each in TWO_BYTES], axis=0) & (count >= 1) & (count <= 2)
    of_four = tf.reduce_any([kind == each for each in FOUR_BYTES], axis=0) & (count == 1)
    value = either(of_two, number_at(file, entries + 8, 2, is_big), number_at(file, entries + 8, 4, is_big))
    is_tiff = tf.reduce_any(tf.strings.substr(exif, 0, 4) == tf.constant(TIFF_HEADERS))
    is_meant = (tag == ORIENTATION) & (of_two | of_four) & (entries + ENTRY <= file.length)
    first = tf.concat([tf.boolean_mask(value, is_meant), [-1]], axis=0)[0]
    return either(is_tiff | (exif == b""), first, 0)
