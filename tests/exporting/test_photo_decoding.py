"""Photos decoded by TensorFlow's ops alone: the pixels of `decode_rgb`, or a line that says why not."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, PngImagePlugin

from fpn_tf import photos
from fpn_tf.exporting.photo_decoding import decoded

MOST = 300_000  # pixels
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'


@pytest.fixture(scope="module")
def decode(tensorflow_for_tests):
    """A file's bytes -> (photo, error)."""
    spec = [tf.TensorSpec([], tf.string)]
    function = tf.function(lambda data: decoded(data, MOST), input_signature=spec, autograph=False)

    def run(data):
        photo, error = function(tf.constant(data))
        return photo.numpy(), error.numpy().decode()

    return run


def picture(width=160, height=120, seed=0):
    """A smooth colour picture."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation, order=">", kind=3, count=1, header=None):
    """EXIF with one tag; `kind` is a TIFF type, 3 of two bytes and 4 of four."""
    start = header or (b"MM\0*" if order == ">" else b"II*\0")
    value = struct.pack(
        order + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation])
    )
    tag = struct.pack(order + "HHI", 0x0112, kind, count)
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, 1) + tag + value + bytes(4)


def png(width, height, bits, kind, rows, *chunks):
    """A PNG file of raw rows, and further chunks before its pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks) + data + chunk(b"IEND", b"")


def placed_gif(image, screen, left, top, **options):
    """A GIF file whose picture lies somewhere on a screen of another (width, height)."""
    data = bytearray(encoded(image, "GIF", **options))
    frame = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    while data[frame] == 0x21:  # an extension, in blocks
        frame += 2
        while data[frame]:
            frame += data[frame] + 1
        frame += 1
    data[6:10] = struct.pack("<HH", *screen)
    data[frame + 1 : frame + 5] = struct.pack("<HH", left, top)
    return bytes(data)


def files():
    """{name: bytes} of photos as cameras, editors and the web have them."""
    image, rng = picture(), np.random.default_rng(1)
    palette = image.quantize(60)
    odd = image.crop((0, 0, 157, 119))
    bmp = encoded(image, "BMP")
    late = encoded(image, "PNG")
    tag = b"eXIf" + exif(6)[6:]
    late_exif = struct.pack(">I", len(tag) - 4) + tag + struct.pack(">I", zlib.crc32(tag))
    in_text = PngImagePlugin.PngInfo()
    in_text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    jpeg, split = encoded(image, "JPEG"), exif(6)
    parts = [split[:16], b"Exif\0\0" + split[16:]]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part for part in parts)
    return {
        "jpeg": jpeg,
        "jpeg of full colour": encoded(image, "JPEG", subsampling=0, quality=95),
        "jpeg of half colour": encoded(image, "JPEG", subsampling=1),
        "progressive jpeg": encoded(image, "JPEG", progressive=True),
        "grey jpeg": encoded(image.convert("L"), "JPEG"),
        "cmyk jpeg": encoded(image.convert("CMYK"), "JPEG"),
        "bytes after the jpeg": jpeg + b"more",
        "bytes between a jpeg's parts": jpeg[:20] + bytes(9000) + jpeg[20:],
        **{
            f"png {mode}": encoded(image.convert(mode), "PNG")
            for mode in ("1", "L", "LA", "P", "RGB", "RGBA")
        },
        "png with a transparent colour": encoded(palette, "PNG", transparency=3),
        "png of 4 bits": encoded(image.quantize(16), "PNG", bits=4),
        "grey png of 2 bits": png(30, 20, 2, 0, [rng.bytes(8) for _ in range(20)]),
        "grey png of 16 bits": png(30, 20, 16, 0, [rng.bytes(60) for _ in range(20)]),
        "png of 16 bits": png(30, 20, 16, 2, [rng.bytes(180) for _ in range(20)]),
        "png with a gamma": png(30, 20, 8, 2, [rng.bytes(90)] * 20, (b"gAMA", struct.pack(">I", 100000))),
        "png cut off behind its pixels": late[:-7],
        "gif": encoded(image, "GIF"),
        "gif of several pictures": encoded(
            image, "GIF", save_all=True, append_images=[image.rotate(90), picture(seed=2)]
        ),
        "gif with a transparent colour": encoded(palette, "GIF", transparency=7),
        "gif on a larger screen": placed_gif(palette, (200, 180), 11, 23),
        "transparent gif on a larger screen": placed_gif(palette, (200, 180), 11, 23, transparency=7),
        "gif beyond its screen": placed_gif(palette, (100, 100), 11, 23),
        "interlaced gif": encoded(palette, "GIF", interlace=1),
        "gif with a comment": encoded(palette, "GIF", comment=b"x" * 5000),
        **{f"bmp {mode}": encoded(odd.convert(mode), "BMP") for mode in ("1", "L", "RGB", "RGBA")},
        "bmp of few colours": encoded(odd.quantize(3), "BMP"),
        "bmp of 200 colours": encoded(odd.quantize(200), "BMP"),
        "bmp from top to bottom": bmp[:22] + struct.pack("<i", -120) + bmp[26:],
        "webp": encoded(image, "WEBP"),
        "webp without loss": encoded(image, "WEBP", lossless=True),
        "webp with alpha": encoded(image.convert("RGBA"), "WEBP"),
        **{f"orientation {i}": encoded(image, "JPEG", exif=exif(i)) for i in range(10)},
        "little-endian": encoded(image, "JPEG", exif=exif(6, "<")),
        "orientation of four bytes": encoded(image, "JPEG", exif=exif(6, "<", kind=4)),
        "orientation of one byte": encoded(image, "JPEG", exif=exif(6, kind=1)),
        "orientation of no values": encoded(image, "JPEG", exif=exif(6, count=0)),
        "exif with a wrong header": encoded(image, "JPEG", exif=exif(6, "<", header=b"II\0*")),
        "exif that is none": encoded(image, "JPEG", exif=exif(6, header=b"IIII"), xmp=XMP),
        "exif that is cut off": encoded(image, "JPEG", exif=exif(6)[:24]),
        "exif in two parts": jpeg[:2] + segments + jpeg[2:],
        "png with exif": encoded(image, "PNG", exif=exif(5)),
        "png with exif behind its pixels": late[:-12] + late_exif + late[-12:],
        "webp with exif": encoded(image, "WEBP", exif=exif(7), lossless=True),
        "jpeg with xmp": encoded(image, "JPEG", xmp=XMP),
        "webp with xmp": encoded(image, "WEBP", xmp=XMP, lossless=True),
        "png with xmp": encoded(image, "PNG", pnginfo=in_text),
        "one pixel": encoded(picture(1, 1), "PNG"),
    }


FILES = files()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of odd EXIF
@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_pixels_that_decode_rgb_gives(decode, name):
    photo, error = decode(FILES[name])
    assert error == ""
    np.testing.assert_array_equal(photo, photos.decode_rgb(FILES[name]))


JPEG = FILES["jpeg"]
DAMAGED = {
    "nothing": (b"", "the file is empty"),
    "text": (b"hello", "expected JPEG, PNG, GIF, BMP or WebP"),
    "tiff": (encoded(picture(), "TIFF"), "expected JPEG, PNG, GIF, BMP or WebP"),
    "jpeg cut in its header": (JPEG[:100], "JPEG: damaged, cut off or of a kind"),
    "jpeg cut in its pixels": (JPEG[: len(JPEG) // 2], "JPEG: damaged"),
    "jpeg without its end": (JPEG[:-2], "JPEG: damaged"),
    "png": (FILES["png RGB"][:-200], "PNG: damaged"),
    "gif": (FILES["gif"][:-100], "GIF: damaged"),
    "bmp": (FILES["bmp RGB"][:-100], "BMP: damaged"),
    "compressed bmp": (FILES["bmp L"][:30] + b"\1" + FILES["bmp L"][31:], "BMP: damaged"),
    "webp": (FILES["webp"][:-100], "WebP: damaged"),
    "first bytes": (b"\xff\xd8\xff", "JPEG: damaged"),
}
ENDLESS = {
    "chunks": FILES["png RGB"][:33] + b"\0\0\0\0tEXt\0\0\0\0" * 100_000,
    "parts": JPEG[:2] + b"\xff\xe0\0\2" * 100_000 + JPEG[2:],
    "blocks": FILES["gif"][:-1] + b"\x21\xfe" + b"\1a" * 100_000 + b"\0;",
    "blocks before the picture": FILES["gif"][:781] + b"\x21\xfe" + b"\1a" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_read_is_told(decode, name):
    data, expected = DAMAGED[name]
    photo, error = decode(data)
    assert photo.shape == (0, 0, 3)
    assert error.startswith(f"not a readable picture ({expected}")
    assert "\n" not in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_a_file_of_endless_parts_takes_seconds_at_most(decode, name):
    decode(JPEG)
    start = time.process_time()
    decode(ENDLESS[name])
    assert time.process_time() - start < 5


def test_a_photo_of_too_many_pixels_is_not_decoded(decode):
    """Each header says 1000 x 301; of pixels there are none, so decoding them would be told otherwise."""
    size = 1000, 301
    webp = bytearray(FILES["webp without loss"])
    webp[21:25] = struct.pack("<I", (size[0] - 1) | (size[1] - 1) << 14)
    jpeg = bytearray(JPEG)
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", *size[::-1])
    headers = {
        "png": png(*size, 1, 0, []),
        "bmp": FILES["bmp RGB"][:18] + struct.pack("<ii", size[0], -size[1]) + FILES["bmp RGB"][26:],
        "gif": placed_gif(picture().quantize(60), size, 0, 0),
        "webp": bytes(webp),
        "jpeg": bytes(jpeg),
    }
    for name, data in headers.items():
        photo, error = decode(data)
        assert photo.shape == (0, 0, 3), name
        assert error == "1000 x 301 pixels; expected at most 300000 in all", name
    photo, error = decode(encoded(Image.new("L", (1000, 300)), "PNG"))
    assert (photo.shape, error) == ((300, 1000, 3), "")
    assert decode(png(0, 10, 8, 0, []))[1].startswith("0 x 10 pixels")


def mutated(data, rng):
    """A file that is cut off, overwritten or short of some bytes."""
    data = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        start = rng.integers(len(data))
        return bytes(data[:start] + data[start + rng.integers(1, 40) :])
    within = len(data) if kind == 2 else min(len(data), 200)  # anywhere, or in the header
    for place in rng.integers(0, within, rng.integers(1, 6)):
        data[place] = rng.integers(256)
    return bytes(data)


def check_mutated(decode, count):
    """Mutated files are read as `decode_rgb` reads them, or told. Returns: how many of them were read."""
    rng = np.random.default_rng(3)
    names = [
        "jpeg",
        "orientation 6",
        "progressive jpeg",
        "png RGB",
        "png with exif",
        "gif",
        "bmp RGB",
        "webp",
    ]
    read = refused = 0
    for i in range(count):
        data = mutated(FILES[names[i % len(names)]], rng)
        photo, error = decode(data)
        try:
            expected = photos.decode_rgb(data)
        except photos.PhotoError:
            # TensorFlow's libraries pass over some of what Pillow refuses: checksums of texts in a PNG,
            # broken data in a GIF.
            continue
        if error:
            refused += 1
        else:
            read += 1
            np.testing.assert_array_equal(photo, expected)
    assert refused <= count / 200
    return read


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_files(decode):
    assert check_mutated(decode, 80) > 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_2400_mutated_files(decode):
    assert check_mutated(decode, 2400) > 500
