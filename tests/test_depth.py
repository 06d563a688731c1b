"""Pictures of more than 8 bits: which value is white, the file tells."""

import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fpn_tf import photos
from fpn_tf.errors import PhotoError

RAMP = np.arange(0, 256, 17, dtype=np.uint8).reshape(4, 4)  # 0, 17, ..., 255
RANGE = {"SMinSampleValue": 340, "SMaxSampleValue": 341, "MinSampleValue": 280, "MaxSampleValue": 281}
TAGS = {"bits": 258, "photometric": 262, "channels": 277}


def encoded(values, kind="TIFF", **tags):
    """An array [H, W] as a file; `tags` by the names of RANGE."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[RANGE[name]] = value
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **({"tiffinfo": info} if tags else {}))
    return file.getvalue()


def header(data):
    return photos.header_of(io.BytesIO(data), "scan.tif")


@pytest.mark.parametrize(
    "data",
    [
        encoded(RAMP.astype(np.uint16) * 257, "PNG"),
        encoded(RAMP.astype(np.uint16) * 256, "PPM"),
        encoded(RAMP.astype(np.uint16) * 257),
        encoded(RAMP.astype(np.float32), SMaxSampleValue=255.0),
        encoded(RAMP / np.float32(255), SMinSampleValue=0.0, SMaxSampleValue=1.0),
        encoded(RAMP / np.float32(255) - 7, SMinSampleValue=-7.0, SMaxSampleValue=-6.0),
        encoded(RAMP.astype(np.int32), MaxSampleValue=255),
        encoded(RAMP.astype(np.int32) * 16, MinSampleValue=0, MaxSampleValue=4095),
        encoded(RAMP.astype(np.uint16) * 4, MaxSampleValue=1023),
    ],
    ids="png pgm tif float255 float01 negative int32 int32_12bits tif_10bits".split(),
)
def test_the_brightest_value_that_a_file_declares_is_white(data):
    np.testing.assert_array_equal(photos.decode_rgb(data), np.stack([RAMP] * 3, axis=-1))
    assert header(data) == ((4, 4), "")


def tiff(pixels, size, **tags):
    """A TIFF of raw bytes; the tags that it must have besides."""
    width, height = size
    info = TiffImagePlugin.ImageFileDirectory_v2()
    always = {256: width, 257: height, 259: 1, 273: 0, 278: height, 279: len(pixels)}  # 273 behind the tags
    for tag, value in (always | {TAGS[name]: value for name, value in tags.items()}).items():
        info[tag] = value
    return b"II*\0\x08\0\0\0" + info.tobytes(8) + pixels


def test_twelve_bits_a_pixel():
    """Two pixels in three bytes, as scanners write them: 0x0FF, 0xFFF; 0x800, 0x010."""
    pixels = bytes([0x0F, 0xFF, 0xFF, 0x80, 0x00, 0x10])
    data = tiff(pixels, (2, 2), bits=12, photometric=1, channels=1)
    assert photos.decode_rgb(data)[..., 0].tolist() == [[15, 255], [128, 1]]


def test_a_negative():
    """PhotometricInterpretation 0: the highest value is black."""
    data = tiff((RAMP.astype("<u2") * 257).tobytes(), (4, 4), bits=16, photometric=0, channels=1)
    np.testing.assert_array_equal(photos.decode_rgb(data)[..., 0], 255 - RAMP)


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (encoded(RAMP.astype(np.float32)), "floats"),
        (encoded(RAMP / np.float32(255)), "floats"),
        (encoded(RAMP.astype(np.int32)), "numbers of 32 bits"),
        (encoded(RAMP.astype(np.int32), MaxSampleValue=0), "numbers of 32 bits"),
        (encoded(RAMP.astype(np.float32), SMaxSampleValue=float("inf")), "floats"),
    ],
)
def test_values_of_no_declared_range_are_told_in_one_line(data, numbers):
    for read in (lambda: photos.decode_rgb(data, "scan.tif"), lambda: header(data)):
        with pytest.raises(PhotoError, match=f"^scan.tif: .*{numbers} of no declared range; expected 8"):
            read()


@pytest.mark.parametrize(
    ("brightest", "remark"),
    [(4095, "values up to 4095 of 65535"), (16383, "values up to 16383 of 65535"), (16384, ""), (65535, "")],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_16_bit_photo_that_uses_a_fraction_of_its_range_is_remarked_on(kind, brightest, remark):
    values = np.linspace(0, brightest, 12).astype(np.uint16).reshape(3, 4)
    assert header(encoded(values, kind)) == ((3, 4), remark)
    assert photos.decode_rgb(encoded(values, kind)).max() == brightest // 256


@pytest.mark.parametrize(("brightest", "remark"), [(4095, "values up to 4095 of 65535"), (65535, "")])
def test_colours_of_16_bits(brightest, remark):
    values = np.linspace(0, brightest, 12).astype("<u2")
    data = tiff(values.tobytes(), (2, 2), bits=(16, 16, 16), photometric=2, channels=3)
    assert photos.decode_rgb(data).ravel().tolist() == (values // 256).tolist()
    assert header(data) == ((2, 2), remark)


def test_eight_bits_are_not_remarked_on():
    assert header(encoded(np.full((4, 4), 3, np.uint8))).remark == ""
