import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from fpn_tf import photos
from fpn_tf.preprocessing import IMAGENET, PixelFormat, Preprocessor, tf_resize, tf_resized_size

RESIZES = ("detectron2", "torchvision", "detectron")
BGR = PixelFormat("bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
on_tensorflow = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's form")


def smooth_photo(height=90, width=120):
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_side": 0}, "short_side=0: expected a positive number of pixels"),
        ({"short_side": 320.0}, "short_side=320.0: expected a positive number"),
        ({"max_side": 700}, "max_side=700: expected at least short_side=800"),
        ({"resize": "pillow"}, "resize='pillow': expected one of detectron2, torchvision, detectron"),
        ({"pixel_order": "grb"}, "pixel_order='grb': expected rgb, bgr or None"),
        ({"pixel_mean": (1.0, 2.0)}, "pixel_mean=.*: expected 3 numbers or None"),
        ({"pixel_mean": (1.0, 2.0, float("nan"))}, "pixel_mean=.*: expected 3 numbers or None"),
        ({"pixel_std": (1.0, 0.0, 1.0)}, "pixel_std=.*: expected 3 positive numbers or None"),
        ({"category_ids": (3, 3)}, "category_ids=.*: expected a tuple of different whole numbers"),
        (
            {"category_ids": (2**63,)},
            "category_ids=.*: expected a tuple of different whole numbers of 64 bits",
        ),
        ({"category_ids": 3}, "category_ids=3: expected a tuple"),
        ({"class_names": "cat"}, "class_names='cat': expected a tuple of texts"),
        ({"category_ids": (3, 4), "class_names": ("cat",)}, "class_names=.*: expected as many .*, 2"),
    ],
)
def test_bad_values_are_told_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        Preprocessor(**changes)
    assert "\n" not in str(caught.value)


def test_what_is_not_given_is_what_the_backbone_expects():
    assert Preprocessor(short_side=320, max_side=533).resolved(BGR) == Preprocessor(
        320, 533, "detectron2", "bgr", BGR.mean, BGR.std
    )
    given = Preprocessor(pixel_order="rgb", pixel_mean=(1.0, 2.0, 3.0), pixel_std=(4.0, 5.0, 6.0))
    assert given.resolved(BGR) == given
    with pytest.raises(ValueError, match="pixel_order=None: expected a preprocessor after `resolved"):
        Preprocessor().normalize(np.zeros((1, 2, 2, 3)), [[2, 2]])


def test_a_copy_of_its_config_is_equal():
    made = Preprocessor(320, 533, "torchvision", category_ids=(7, 3), class_names=("a", "b")).resolved(BGR)
    stored = keras.saving.serialize_keras_object(made)
    assert stored["registered_name"] == "fpn_tf>Preprocessor"
    assert keras.saving.deserialize_keras_object(stored) == made
    assert Preprocessor(**(made.get_config() | {"pixel_mean": list(BGR.mean)})) == made


@pytest.mark.parametrize("resize", RESIZES)
def test_inputs_are_the_resized_photo_at_the_top_left_of_its_canvas(resize):
    preprocessor, photo = Preprocessor(short_side=50, max_side=70, resize=resize), smooth_photo()
    x = preprocessor.inputs(photo)
    assert (
        x["images"].dtype == preprocessor.pixel_dtype == (np.uint8 if resize == "detectron2" else np.float32)
    )
    assert x["image_sizes"].dtype == np.int32
    # 120 * 50 / 90 = 66.7: up, or down; the canvas is of whole 32.
    size = (50, 66 if resize == "torchvision" else 67)
    assert x["image_sizes"].tolist() == [list(size)]
    expected = np.zeros((1, 64, 96, 3))
    expected[0, : size[0], : size[1]] = photos.resize(photo, size, resize)
    np.testing.assert_array_equal(x["images"], expected)
    assert preprocessor.shown_size((90, 120), short_side=30) == (30, 40)


def test_boxes_there_and_back():
    preprocessor = Preprocessor()
    boxes = np.array([[0, 10, 50, 100], [-4, 20, 300, 50]], np.float32)
    # 100 x 200 shown at 150 x 400: y is stretched by 1.5, x by 2.
    shown = preprocessor.boxes_shown(boxes, (100, 200), (150, 400))
    np.testing.assert_array_equal(shown, np.float32([[0, 15, 100, 150], [-8, 30, 600, 75]]))
    again = preprocessor.boxes_in_photo(shown, (150, 400), (100, 200))
    np.testing.assert_allclose(again, [[0, 10, 50, 100], [0, 20, 200, 50]], rtol=1e-6)
    assert shown.dtype == again.dtype == np.float32
    assert preprocessor.boxes_in_photo(np.zeros((0, 4)), (150, 400), (100, 200)).shape == (0, 4)


def test_ids_and_names():
    of_data = Preprocessor(category_ids=(7, 3, 90), class_names=("red", "green", "blue"))
    ids = of_data.ids_of(np.array([3, 1, 1], np.int32))
    assert (ids.tolist(), ids.dtype) == ([90, 7, 7], np.int64)
    assert of_data.names_of(ids) == ["blue", "red", "red"]
    assert of_data.ids_of(np.zeros(0, np.int32)).shape == (0,)
    with pytest.raises(ValueError, match="category id 4: expected one of 7, 3, 90"):
        of_data.names_of([4])
    assert dataclasses.replace(of_data, class_names=()).names_of(ids) == ["class 3", "class 1", "class 1"]
    assert dataclasses.replace(of_data, category_ids=()).names_of([3, 1]) == ["blue", "red"]
    plain = Preprocessor().ids_of(np.array([3, 1], np.int32))
    assert (plain.tolist(), plain.dtype) == ([3, 1], np.int64)
    assert Preprocessor().names_of(plain) == ["class 3", "class 1"]


@pytest.mark.parametrize("pixels", [IMAGENET, BGR, PixelFormat("bgr", (102.98, 115.95, 122.77), (1, 1, 1))])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize_pixel_by_pixel(pixels, dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(dtype)
    sizes = np.array([[5, 7], [3, 4]], np.int32)
    expected = np.zeros(images.shape, np.float32)
    for b, (height, width) in enumerate(sizes):
        for y in range(height):
            for x in range(width):
                pixel = images[b, y, x].astype(np.float32)
                pixel = pixel[::-1] if pixels.order == "bgr" else pixel
                expected[b, y, x] = (pixel - np.float32(pixels.mean)) / np.float32(pixels.std)
    found = Preprocessor().resolved(pixels).normalize(images, sizes)
    rounding = 0 if keras.config.backend() == "tensorflow" else 2e-7  # XLA's division
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=rounding, atol=0)


@on_tensorflow
@pytest.mark.parametrize("resize", RESIZES)
def test_tensorflow_sizes_as_photos_does(resize):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for _ in range(200):
        size, short = rng.integers(1, 4000, 2), int(rng.integers(1, 1200))
        bound = short + int(rng.integers(0, 900))
        shown = tf_resized_size(tf.constant(size, tf.int32), short, bound, resize).numpy()
        assert tuple(shown) == photos.resized_size(tuple(size.tolist()), short, bound, resize)


@on_tensorflow
@pytest.mark.parametrize("resize", ["detectron2", "torchvision"])
def test_tensorflow_resizes_as_photos_does(resize):
    import tensorflow as tf

    photo = smooth_photo()
    for size in ((45, 60), (33, 101), (180, 240), (90, 120)):
        expected = photos.resize(photo, size, resize).astype(np.float32)
        shown = tf_resize(photo[None], tf.constant(size), resize)[0].numpy().astype(np.float32)
        if resize == "torchvision":
            np.testing.assert_allclose(expected, shown, atol=1e-3)
        else:
            assert np.abs(expected - shown).max() <= 1
            assert (expected != shown).mean() < 0.15


@on_tensorflow
@pytest.mark.parametrize("resize", RESIZES)
def test_tensorflow_goes_both_ways_as_numpy(resize):
    import tensorflow as tf

    preprocessor = Preprocessor(50, 70, resize, category_ids=(7, 3, 90))
    photo = smooth_photo()
    x, shown_size = preprocessor.tf_inputs(tf.constant(np.stack([photo, photo[:, ::-1]])))
    expected = preprocessor.inputs(photo)
    assert x["images"].shape == (2, 64, 96, 3)
    assert x["images"].dtype == preprocessor.pixel_dtype
    tolerance = 1 if resize == "detectron2" else 1e-3
    np.testing.assert_allclose(np.float32(x["images"][:1]), np.float32(expected["images"]), atol=tolerance)
    assert x["image_sizes"].numpy().tolist() == [[50, 66 if resize == "torchvision" else 67]] * 2
    assert tuple(shown_size.numpy()) == preprocessor.shown_size((90, 120))

    boxes = np.random.default_rng(1).uniform(-5, 75, (20, 4)).astype(np.float32)
    in_photo = preprocessor.tf_boxes_in_photo(boxes[None], shown_size, tf.constant((90, 120)))
    np.testing.assert_array_equal(
        in_photo[0], preprocessor.boxes_in_photo(boxes, shown_size.numpy(), (90, 120))
    )
    assert preprocessor.tf_ids_of([[3, 1, 0]]).numpy().tolist() == [[90, 7, 0]]
    assert Preprocessor().tf_ids_of(np.array([[3, 1, 0]])).numpy().tolist() == [[3, 1, 0]]
