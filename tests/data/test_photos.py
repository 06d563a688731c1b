import io
import struct
import zlib

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


AS_STORED = {  # orientation -> how the upright picture lies in the file
    1: lambda photo: photo,
    2: lambda photo: photo[:, ::-1],
    3: lambda photo: photo[::-1, ::-1],
    4: lambda photo: photo[::-1],
    5: lambda photo: photo.swapaxes(0, 1),
    6: lambda photo: np.rot90(photo),
    7: lambda photo: np.rot90(photo.swapaxes(0, 1), 2),
    8: lambda photo: np.rot90(photo, -1),
}
FORMATS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "compressed TIFF": {"compression": "tiff_lzw"},
}


def corner():
    """A photo [20, 40, 3] that is another one however it is turned: grey, its upper left corner red."""
    photo = np.full((20, 40, 3), 128, np.uint8)
    photo[:8, :16] = 230, 20, 20
    return photo


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", AS_STORED)
def test_every_orientation_in_every_format(orientation, kind):
    exif = Image.Exif()
    exif[photos.ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(AS_STORED[orientation](corner())))
    data = encoded(stored, kind.split()[-1], exif=exif, **FORMATS[kind])
    np.testing.assert_allclose(photos.decode_rgb(data).astype(int), corner(), atol=3)
    assert photos.header_of(io.BytesIO(data), "x") == ((20, 40), "")


def test_an_orientation_behind_the_pixels_of_a_png():
    exif = Image.Exif()
    exif[photos.ORIENTATION] = 6
    data = encoded(Image.fromarray(np.rot90(corner()).copy()), "PNG")
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = data[:-12] + chunk + data[-12:]  # before IEND
    np.testing.assert_array_equal(photos.decode_rgb(data), corner())
    assert photos.header_of(io.BytesIO(data), "x").size == (20, 40)


def with_exif(block):
    """A JPEG of `corner` with an EXIF block of any bytes."""
    plain = encoded(Image.fromarray(corner()), "JPEG", quality=100, subsampling=0)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def entries(*values):
    """An EXIF block of entries (tag, type, count, 4 bytes)."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in values)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(values)) + packed + b"\0\0\0\0"


SIX = (photos.ORIENTATION, 3, 1, b"\x06\0\0\0")
FAR = struct.pack("<I", 0xFFFFFF0)
ODD_EXIF = {  # name: (block, whether it turns the photo)
    "bits as long": (entries((0x0102, 4, 1, struct.pack("<I", 100000)), SIX), True),
    "width as text": (entries((0x0100, 2, 4, b"wide"), SIX), True),
    "resolution by zero": (entries(SIX, (0x011A, 5, 1, struct.pack("<I", 0))), True),
    "resolution of text": (entries(SIX, (0x011A, 2, 4, b"high"), (0x0128, 2, 4, b"inch")), True),
    "maker far away": (entries(SIX, (0x010F, 2, 4000, FAR)), True),
    "GPS far away": (entries(SIX, (0x8825, 4, 1, FAR)), True),
    "GPS as text": (entries(SIX, (0x8825, 2, 4, b"here")), True),
    "another type than there are": (entries((0x010E, 99, 1, b"\0\0\0\0"), SIX), True),
    "text": (entries((photos.ORIENTATION, 2, 2, b"6\0\0\0")), False),
    "two": (entries((photos.ORIENTATION, 3, 2, b"\x06\0\x06\0")), True),
    "bytes": (entries((photos.ORIENTATION, 7, 2, b"\x06\0\0\0")), False),
    "nine": (entries((photos.ORIENTATION, 3, 1, b"\x09\0\0\0")), False),
    "negative": (entries((photos.ORIENTATION, 9, 1, b"\xff\xff\xff\xff")), False),
    "far away": (entries((photos.ORIENTATION, 3, 4000, FAR)), False),
    "cut": (entries(SIX)[:18], False),
    "no header": (b"Exif\0\0XX*\0\x08\0\0\0", False),
    "nothing": (b"Exif\0\0", False),
}


@pytest.mark.filterwarnings("ignore")  # Pillow's
@pytest.mark.parametrize("name", ODD_EXIF)
def test_of_odd_exif_the_orientation_alone_is_of_interest(name):
    block, is_turned = ODD_EXIF[name]
    data, expected = with_exif(block), np.rot90(corner(), -1) if is_turned else corner()
    np.testing.assert_allclose(photos.decode_rgb(data).astype(int), expected, atol=3)
    assert photos.header_of(io.BytesIO(data), "x").size == expected.shape[:2]


@pytest.mark.parametrize(
    "error", [struct.error("ushort format"), MemoryError(), KeyError(3), RecursionError("deep"), TypeError()]
)
def test_whatever_a_decoder_raises_is_the_photos_fault(error, monkeypatch):
    def fail(image):
        raise error

    data = encoded(halves(), "JPEG")
    monkeypatch.setattr(photos, "orientation_of", fail)
    for read in (photos.decode_rgb, lambda data, name: photos.header_of(io.BytesIO(data), name)):
        with pytest.raises(PhotoError, match="^holiday.jpg: not a readable picture \\(.+\\)$"):
            read(data, "holiday.jpg")


@pytest.mark.filterwarnings("ignore")
def test_pictures_that_are_too_large_to_be_true_are_not_readable(monkeypatch):
    data = encoded(halves(), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)  # of 800: refused from twice as many on
    for read in (photos.decode_rgb, lambda data, name: photos.header_of(io.BytesIO(data), name)):
        with pytest.raises(PhotoError, match="^bomb.png: not a readable picture .*800 pixels"):
            read(data, "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert photos.decode_rgb(data).shape == (20, 40, 3)


@pytest.mark.parametrize("name", ["gone.jpg", "a" * 300 + ".jpg", "nul\0.jpg", ".", "photo.jpg/below.jpg"])
def test_names_that_no_photo_can_have(name, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    path = f"{tmp_path}/{name}"
    for read in (photos.read_rgb, photos.read_bytes, lambda path: photos.header_of(path, path)):
        with pytest.raises(PhotoError) as caught:
            read(path)
        assert str(caught.value).startswith(path)


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
