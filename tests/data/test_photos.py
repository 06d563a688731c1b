import io

import numpy as np
import pytest
from PIL import Image

from fpn_tf import photos
from fpn_tf.errors import PhotoError


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(mode="RGB"):
    """Left half red, right half blue: 40 x 20 pixels."""
    image = Image.new("RGB", (40, 20), (230, 20, 20))
    image.paste((20, 20, 230), (20, 0, 40, 20))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("P", "GIF")],
)
def test_every_mode_comes_out_as_rgb(mode, kind):
    photo = photos.decode_rgb(encoded(halves(mode), kind))
    assert photo.shape == (20, 40, 3)
    assert photo.dtype == np.uint8
    assert np.abs(photo[10, 5].astype(int) - [230, 20, 20]).max() < 40
    assert np.abs(photo[10, 35].astype(int) - [20, 20, 230]).max() < 40


def test_grey_of_8_and_16_bits():
    assert photos.decode_rgb(encoded(Image.new("L", (4, 4), 77), "PNG")).tolist() == [[[77] * 3] * 4] * 4
    deep = Image.fromarray(np.full((4, 4), 77 * 256, np.uint16))
    assert photos.decode_rgb(encoded(deep, "PNG")).tolist() == [[[77] * 3] * 4] * 4


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to see it upright
    data = encoded(halves(), "JPEG", exif=exif)
    photo = photos.decode_rgb(data)
    assert photo.shape == (40, 20, 3)
    assert photo[5, 10, 0] > 200  # the left half is now at the top
    assert photo[35, 10, 2] > 200
    (tmp_path / "x.jpg").write_bytes(data)
    assert photos.upright_size(tmp_path / "x.jpg") == (40, 20)


@pytest.mark.parametrize(
    "data", [b"", b"no picture", encoded(halves(), "JPEG")[:400], encoded(halves(), "PNG")[:60]]
)
def test_unreadable_files_are_named(data):
    with pytest.raises(PhotoError, match=r"holiday.jpg: not a readable picture") as caught:
        photos.decode_rgb(data, "holiday.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 640 * 800 / 480 = 1066.7
        ((640, 480), (1067, 800)),
        ((500, 500), (800, 800)),
        ((300, 900), (444, 1333)),  # 2400 is too long: 300 * 1333 / 900 = 444.3
        ((1, 1), (800, 800)),
        ((1, 20000), (1, 1333)),
    ],
)
def test_resized_size(size, expected):
    assert photos.resized_size(size, 800, 1333) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("detectron2", (801, 1202)),  # 1201.5 goes up
        ("torchvision", (801, 1201)),  # 1201.5 goes down
        ("detectron", (801, 1202)),  # 1201.5 goes to the even number
    ],
)
def test_whose_rounding_of_sizes(kind, expected):
    assert photos.resized_size((200, 300), 801, 1333, kind) == expected


def test_interpolation_without_antialiasing_by_hand():
    photo = np.array([[[0], [40], [100]]], np.uint8).repeat(3, axis=2)
    found = photos.resize(photo, (2, 2), "torchvision")
    # Output centres 0.75 and 2.25 of the input lie at 0.25 and 1.75: 0 + .25*40, 40 + .75*60.
    np.testing.assert_allclose(found[..., 0], [[10, 85], [10, 85]])
    assert found.dtype == photos.pixel_dtype("torchvision") == np.float32


def test_canvas():
    assert photos.canvas_size((800, 1067)) == (800, 1088)
    image = photos.on_canvas(np.ones((3, 4, 3), np.uint8), (32, 32))
    assert image[:3, :4].all()
    assert image.sum() == 36
