"""Photos as users have them: arrays, tensors, PIL images, paths, bytes."""

import io

import numpy as np
import pytest
from keras import ops
from PIL import Image

from fpn_tf import photos
from fpn_tf.errors import PhotoError
from fpn_tf.models.detector import photos_of
from fpn_tf.photo_forms import photo_from

PHOTO = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY = PHOTO[..., :1].repeat(3, axis=2)


def png(photo):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PHOTO, PHOTO),
        (PHOTO[..., 0], GREY),
        (PHOTO[..., :1], GREY),
        (np.dstack([PHOTO, PHOTO[..., 0]]), PHOTO),
        (np.moveaxis(PHOTO, -1, 0), PHOTO),
        (PHOTO.astype(np.int64), PHOTO),
        (PHOTO.astype(np.float32), PHOTO),
        (PHOTO + np.float64(0.3) * (PHOTO < 255), PHOTO),
        (PHOTO[:, ::-1], PHOTO[:, ::-1]),
        (png(PHOTO), PHOTO),
        (bytearray(png(PHOTO)), PHOTO),
        (Image.fromarray(PHOTO), PHOTO),
        (Image.fromarray(PHOTO[..., 0]), GREY),
        (Image.fromarray(PHOTO).convert("RGBA"), PHOTO),
        (Image.fromarray(GREY[..., 0].astype(np.uint16) * 256), GREY),
    ],
    ids="rgb grey grey1 rgba channels_first int64 float32 float64 view bytes bytearray pil pil_grey pil_rgba "
    "pil_16bits".split(),
)
def test_the_same_photo_from_each_form(value, expected):
    photo = photo_from(value)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, expected)


def test_a_path(tmp_path):
    (tmp_path / "photo[1].png").write_bytes(png(PHOTO))
    for value in (tmp_path / "photo[1].png", f"{tmp_path}/photo[1].png"):
        np.testing.assert_array_equal(photo_from(value), PHOTO)
    for value, message in ((f"{tmp_path}/gone.jpg", "gone.jpg: No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(PhotoError, match=message):
            photo_from(value)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_tensors_of_the_backend_alone_in_lists_and_as_a_batch(dtype):
    tensor = ops.cast(ops.convert_to_tensor(PHOTO), dtype)
    for value in (tensor, [tensor], (tensor,), ops.stack([tensor])):
        [photo] = photos_of(value)
        np.testing.assert_array_equal(photo, PHOTO)


@pytest.mark.parametrize("several", [tuple, list, iter, np.stack, ops.stack], ids=lambda each: each.__name__)
def test_several_photos(several):
    first, second = photos_of(several([PHOTO, PHOTO[::-1]]))
    np.testing.assert_array_equal(first, PHOTO)
    np.testing.assert_array_equal(second, PHOTO[::-1])


def test_an_open_picture_is_turned_and_left_as_it_is():
    exif, data = Image.Exif(), io.BytesIO()
    exif[photos.ORIENTATION] = 6
    Image.fromarray(PHOTO).save(data, "PNG", exif=exif)
    with Image.open(data) as image:
        np.testing.assert_array_equal(photo_from(image), np.rot90(PHOTO, -1))
        assert image.size == (12, 9)


SHAPE, CONVERTED = r"expected uint8 \[H, W, 3\] in RGB, a PIL image or a path", r".*astype\('uint8'\)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            PHOTO / np.float32(255),
            r"float32 array of shape \(9, 12, 3\) and values 0..1: " + SHAPE + CONVERTED,
        ),
        (np.zeros((4, 5, 3), np.float32), r"float32 array .*" + SHAPE + CONVERTED),
        (PHOTO / 1.0 - 100, r"float64 array .* values -100..155: " + SHAPE + CONVERTED),
        (PHOTO.astype(int) * 16, r"int64 array .* values 0..4.*: " + SHAPE + CONVERTED),
        (PHOTO * np.float32("nan"), r"float32 array .* nan..nan: " + SHAPE + CONVERTED),
        (PHOTO.astype(np.uint16), r"uint16 array of shape \(9, 12, 3\): " + SHAPE),
        (PHOTO > 9, r"bool array of shape \(9, 12, 3\): " + SHAPE),
        (np.zeros((4, 5, 2), np.uint8), r"uint8 array of shape \(4, 5, 2\): " + SHAPE),
        (np.zeros((2, 4, 5, 3), np.uint8), r"uint8 array of shape \(2, 4, 5, 3\): .*a list of photos"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 array of shape \(0, 5, 3\): " + SHAPE),
        (np.uint8(3), r"uint8 array of shape \(\): " + SHAPE),
        (np.array("a.png"), r"<U5 array of shape \(\): " + SHAPE),
        (None, "NoneType: " + SHAPE),
        (3, "int: " + SHAPE),
        ({"images": PHOTO}, "dict: " + SHAPE),
        ([[1, 2], [3, 4]], "list: " + SHAPE),
    ],
)
def test_what_is_no_photo_is_told_in_one_line(value, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        photo_from(value)
    assert "\n" not in str(caught.value)


def test_a_photo_of_several_is_told_by_its_number():
    with pytest.raises(ValueError, match=r"^images\[1\]: NoneType: expected"):
        list(photos_of([PHOTO, None]))
    with pytest.raises(ValueError, match=r"^images\[0\]: dict: expected"):
        list(photos_of({"images": PHOTO}))


class OnAnotherDevice:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu()")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (OnAnotherDevice(), "^OnAnotherDevice: can't convert cuda:0 device type tensor to numpy.; expected"),
        (Image.new("F", (4, 4)), "PIL image of mode F: not a readable picture .floats of no declared range"),
        (Image.new("I", (4, 4)), "PIL image of mode I: .*numbers of 32 bits of no declared range"),
        (Image.new("RGB", (0, 4)), "PIL image of mode RGB: .*no pixels"),
    ],
)
def test_values_that_cannot_be_read_are_told_in_one_line(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        photo_from(value)
    assert "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_decoded(tmp_path):
    (tmp_path / "cut.png").write_bytes(png(PHOTO)[:-40])
    with (
        Image.open(tmp_path / "cut.png") as image,
        pytest.raises(PhotoError, match="cut.png: not a readable"),
    ):
        photo_from(image)
    with pytest.raises(PhotoError, match="not a readable picture"):
        photo_from(image)  # closed
