import io
import json

import numpy as np
import pytest
from PIL import Image

from fpn_tf.config import override
from fpn_tf.data import coco_folder, shapes, tfds_source
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.segments import rasterise
from fpn_tf.errors import DataError
from fpn_tf.structures import TruthField


def edit(folder, change):
    path = folder / "annotations.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))


def load(folder):
    return coco_folder.load(folder / "annotations.json", folder / "images")


def test_ids_with_gaps_become_classes_in_the_order_of_categories(coco_folder):
    dataset = load(coco_folder)
    assert dataset.class_names == ("red", "green", "blue")
    assert dataset.category_ids == (7, 3, 90)
    assert dataset.records[0].classes.tolist() == [1, 2]
    assert len(dataset.records) == 6


def test_crowds_are_no_positives_but_reach_the_evaluation(coco_folder):
    dataset = load(coco_folder)
    assert len(dataset.records[0].boxes) == 2
    assert [a["iscrowd"] for a in dataset.coco["annotations"]].count(1) == 1


def test_boxes_without_area_are_dropped_and_counted(coco_folder):
    def change(coco):
        coco["annotations"][0]["bbox"] = [5, 5, 0, 10]
        coco["annotations"][1]["bbox"] = [-10, 2, 500, 20]  # clipped to the image's 96 pixels

    edit(coco_folder, change)
    dataset = load(coco_folder)
    np.testing.assert_array_equal(dataset.records[0].boxes, [[0, 2, 96, 22]])


def test_sizes_that_are_not_told_are_read_from_the_files(coco_folder):
    edit(coco_folder, lambda coco: [image.pop("width") for image in coco["images"]])
    assert load(coco_folder).records[1].size == (96, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "no list 'images'"),
        (lambda c: c["images"].clear(), "'images' is empty"),
        (lambda c: c["categories"].clear(), "'categories' is empty"),
        (lambda c: c["categories"][0].pop("name"), "categories[0]"),
        (lambda c: c["images"][2].pop("file_name"), "images[2]: has no 'file_name'; expected text"),
        (lambda c: c["images"][0].update(width=0), "images[0].width = 0"),
        (lambda c: c["images"][1].update(id=100), "images[1].id = 100: is used twice"),
        (lambda c: c["categories"][1].update(id=7), "categories[1].id = 7: is used twice"),
        (
            lambda c: c["annotations"][1].update(category_id=5),
            "annotations[1] (id 2): category_id = 5 is none",
        ),
        (lambda c: c["annotations"][1].update(image_id=5), "annotations[1] (id 2): image_id = 5 is no image"),
        (
            lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
            "bbox = [1, 2, 3]: expected [x, y, width, height]",
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]),
            "expected [x, y, width, height]",
        ),
        (lambda c: c["images"][0].update(file_name="gone.png"), "gone.png: no such file"),
        (lambda c: c["images"][0].update(file_name="a" * 300), "a: no such file, named by image 100"),
        (lambda c: c["images"][0].update(file_name="nul\0.png"), "nul\0.png: no such file"),
        (lambda c: c["images"][0].update(file_name="photo_1.png/a.png"), "a.png: no such file"),
        (lambda c: c["images"][0].update(file_name=""), "images: no such file, named by image 100"),
    ],
)
def test_mistakes_in_the_annotations_are_told_in_one_line(coco_folder, change, message):
    edit(coco_folder, change)
    with pytest.raises(DataError) as caught:
        load(coco_folder)
    assert message in str(caught.value)
    assert "annotations.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_absent_or_no_json(coco_folder, tmp_path):
    (tmp_path / "x.json").write_text("{")
    for annotations, images, message in (
        (tmp_path / "none.json", coco_folder / "images", "No such file"),
        (tmp_path / "x.json", coco_folder / "images", "not valid JSON"),
        (coco_folder / "annotations.json", tmp_path / "none", "no such folder"),
    ):
        with pytest.raises(DataError, match=message):
            coco_folder_load(annotations, images)


def coco_folder_load(annotations, images):
    return coco_folder.load(annotations, images)


def jpeg(height, width):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(file, "JPEG")
    return file.getvalue()


def test_examples_in_the_features_of_coco():
    def example(image_id, objects):
        keys = ("area", "bbox", "id", "is_crowd", "label")
        columns = {k: [o[i] for o in objects] for i, k in enumerate(keys)}
        return {
            "image": jpeg(40, 80),
            "image/filename": b"x.jpg",
            "image/id": np.int64(image_id),
            "objects": columns,
        }

    source = [
        example(42, [(77, [0.25, 0.5, 0.5, 0.75], 1, False, 11), (9, [0, 0, 1, 1], 2, True, 79)]),
        example(7, []),
    ]
    dataset = tfds_source.from_examples(source, [f"c{i}" for i in range(80)], tfds_source.COCO_CATEGORY_IDS)
    assert [r.image_id for r in dataset.records] == [42, 7]
    np.testing.assert_allclose(dataset.records[0].boxes, [[40, 10, 60, 20]])
    assert dataset.records[0].classes.tolist() == [12]
    annotation = dataset.coco["annotations"][0]
    assert annotation["category_id"] == 13  # label 11 is the stop sign: 12 does not exist
    assert annotation["area"] == 77  # the annotation's own, not w * h
    assert dataset.coco["annotations"][1]["iscrowd"] == 1
    assert dataset.coco["annotations"][1]["category_id"] == 90
    assert dataset.read_bytes(1) == source[1]["image"]


def test_examples_in_the_features_of_voc():
    objects = {
        "bbox": [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]],
        "is_difficult": [False, True],
        "is_truncated": [False, False],
        "label": [14, 3],
        "pose": [0, 0],
    }
    source = [{"image": jpeg(40, 80), "image/filename": b"000032.jpg", "objects": objects}]
    dataset = tfds_source.from_examples(source, [f"c{i}" for i in range(20)], tuple(range(1, 21)))
    assert dataset.records[0].image_id == 32
    assert dataset.records[0].classes.tolist() == [15]
    assert [a["iscrowd"] for a in dataset.coco["annotations"]] == [0, 1]
    assert dataset.coco["annotations"][0]["area"] == 40 * 20


def test_a_turned_example_is_of_its_upright_size():
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = 8
    Image.new("RGB", (80, 40)).save(data, "JPEG", exif=exif)
    objects = {"bbox": [[0.25, 0.5, 0.5, 0.75]], "is_difficult": [False], "label": [1]}
    source = [{"image": data.getvalue(), "image/filename": b"000032.jpg", "objects": objects}]
    dataset = tfds_source.from_examples(source, ["c0", "c1"], (1, 2))
    assert dataset.records[0].size == dataset.read_header(0).size == (80, 40)
    np.testing.assert_allclose(dataset.records[0].boxes, [[20, 20, 30, 40]])


def test_coco_ids_are_the_official_ones():
    assert len(tfds_source.COCO_CATEGORY_IDS) == 80
    assert tfds_source.COCO_CATEGORY_IDS[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
    assert tfds_source.COCO_CATEGORY_IDS[-1] == 90


def test_shapes_are_deterministic_and_varied():
    first, again = shapes.draw_example("train", 3), shapes.draw_example("train", 3)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    examples = [shapes.draw_example("train", i) for i in range(120)]
    assert {e[0].shape[:2] for e in examples} == set(shapes.SIZES)
    areas = np.array([area for _, objects, _ in examples for _, _, area in objects])
    assert (areas < 32**2).any()
    assert ((areas >= 32**2) & (areas < 96**2)).any()
    assert (areas >= 96**2).any()
    assert any(not objects for _, objects, _ in examples)
    assert {label for _, objects, _ in examples for label, _, _ in objects} == set(range(5))
    assert (shapes.draw_example("validation", 3)[0].shape != first[0].shape) or (
        shapes.draw_example("validation", 3)[0] != first[0]
    ).any()


def test_shapes_boxes_are_tight():
    image, objects, _ = shapes.draw_example("train", 0)
    for _, (x1, y1, x2, y2), area in objects:
        assert 0 <= x1 < x2 <= image.shape[1]
        assert 0 <= y1 < y2 <= image.shape[0]
        assert area <= (x2 - x1) * (y2 - y1)


@pytest.fixture(scope="module")
def shapes_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    patch = pytest.MonkeyPatch()
    patch.setattr(shapes, "SPLITS", {"train": 12, "validation": 4})
    yield folder
    patch.undo()


def test_shapes_through_tfds(tiny_config, shapes_dir):
    data = override(tiny_config, ["data.tfds_name=shapes", f"data.tfds_dir={shapes_dir}"]).data
    dataset = open_dataset(data, "train")
    assert len(dataset.records) == 12
    assert dataset.class_names == shapes.CLASSES
    _, objects, found = shapes.draw_example("train", 0)
    record = dataset.records[[r.image_id for r in dataset.records].index(1)]
    np.testing.assert_allclose(
        record.boxes, np.array([o[1] for o in objects], np.float32).reshape(-1, 4), atol=1e-3
    )
    assert record.classes.tolist() == [o[0] + 1 for o in objects]
    for segmentation, mask in zip(record.segmentations, found, strict=True):
        np.testing.assert_array_equal(rasterise(segmentation, record.size), mask)
    assert len(open_dataset(data, "eval").records) == 4


def test_truth_fields_through_tfds(tiny_config, shapes_dir):
    data = override(tiny_config, ["data.tfds_name=shapes", f"data.tfds_dir={shapes_dir}"]).data
    dataset = open_dataset(data, "train", {"area": TruthField(dtype="float32")})
    _, objects, _ = shapes.draw_example("train", 0)
    record = dataset.records[[r.image_id for r in dataset.records].index(1)]
    np.testing.assert_array_equal(record.fields["area"], [area for _, _, area in objects])
    with pytest.raises(DataError, match="data.tfds_name=shapes: objects have no 'mood'; expected .*area"):
        open_dataset(data, "train", {"mood": TruthField()})


def test_no_or_unknown_data_is_told(tiny_config, shapes_dir):
    with pytest.raises(DataError, match="no train data: set data.train_annotations"):
        open_dataset(tiny_config.data, "train")
    unknown = override(tiny_config, ["data.tfds_name=no_such_set"]).data
    with pytest.raises(DataError, match="data.tfds_name=no_such_set"):
        open_dataset(unknown, "train")
