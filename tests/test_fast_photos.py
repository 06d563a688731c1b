import io
import struct

import numpy as np
import pytest
from PIL import Image

from fpn_tf import photos
from fpn_tf.errors import PhotoError

pytest.importorskip("cv2")
from fpn_tf import fast_photos


def picture(mode="RGB"):
    """Smooth colours and sharp noise, with odd sides."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((131, 93))
    noisy = np.asarray(coarse).astype(int) + rng.integers(-30, 30, (93, 131, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(kind, count, value):
    """A JPEG whose EXIF holds an orientation of a type, count and 4 bytes."""
    entry = struct.pack("<HHHI", 1, photos.ORIENTATION, kind, count) + value
    block = b"Exif\0\0II*\0\x08\0\0\0" + entry + b"\0\0\0\0"
    plain = encoded(picture())
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


FILES = {
    "4:2:0": encoded(picture(), subsampling=2),
    "4:2:2": encoded(picture(), subsampling=1),
    "4:4:4": encoded(picture(), subsampling=0, quality=98),
    "progressive": encoded(picture(), progressive=True),
    "grey": encoded(picture("L")),
    "cmyk": encoded(picture("CMYK")),
    "turned": with_orientation(3, 1, b"\6\0\0\0"),
    "turned, number of 32 bits": with_orientation(4, 1, b"\6\0\0\0"),
    "turned, text": with_orientation(2, 2, b"6\0\0\0"),
    "turned, bytes": with_orientation(7, 2, b"\6\0\0\0"),
    "turned, a byte": with_orientation(1, 1, b"\6\0\0\0"),
    "turned twice": with_orientation(3, 2, b"\6\0\3\0"),
    "turned by 9": with_orientation(3, 1, b"\x09\0\0\0"),
    "png": encoded(picture("RGBA"), "PNG"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow's, on odd EXIF
@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_pillow(name):
    found = fast_photos.decode_rgb(FILES[name])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, photos.decode_rgb(FILES[name]))


@pytest.mark.parametrize("name", ["4:2:0", "progressive"])
def test_opencv_decodes_the_usual_files(name, monkeypatch):
    monkeypatch.setattr(photos, "decode_rgb", None)
    assert fast_photos.decode_rgb(FILES[name]).shape == (93, 131, 3)


@pytest.mark.parametrize("data", [FILES["4:2:0"][:-900], b"", b"\xff\xd9", b"nothing\xff\xd9"])
def test_what_is_no_whole_picture_is_told(data):
    with pytest.raises(PhotoError, match="here.jpg: not a readable picture"):
        fast_photos.decode_rgb(data, "here.jpg")


def test_mirrored():
    photo = np.asarray(picture())
    np.testing.assert_array_equal(fast_photos.mirrored(photo), photo[:, ::-1])


@pytest.mark.parametrize("size", [(93, 131), (200, 300), (93, 150), (120, 100), (50, 60)])
def test_resized_within_one_grey_level(size):
    photo, canvas = np.asarray(picture()), np.full((210, 310, 3), 7, np.uint8)
    fast_photos.resize_into(canvas[: size[0], : size[1]], photo)
    difference = canvas[: size[0], : size[1]].astype(int) - photos.resize(photo, size)
    assert np.abs(difference).max() <= 1
    assert (canvas[size[0] :] == 7).all()
    assert (canvas[:, size[1] :] == 7).all()
