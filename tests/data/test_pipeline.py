import dataclasses
import gc
import itertools
import json
import sys
import weakref

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import fpn_tf
from fpn_tf import photos
from fpn_tf.cluster import make_cluster
from fpn_tf.config import DataConfig, override
from fpn_tf.data import plan as plans
from fpn_tf.data.dataset import BATCH_KEYS
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import SPECS, evaluation_batches, open_dataset, training_batches
from fpn_tf.data.records import Record
from fpn_tf.errors import ConfigError, DataError
from fpn_tf.evaluation.evaluator import make_detector
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import BatchDetections, TruthField


def records(sizes, boxes=1):
    return [
        Record(i, f"{i}.jpg", size, np.ones((boxes, 4), np.float32), np.ones(boxes, np.int32))
        for i, size in enumerate(sizes)
    ]


def test_a_preprocessor_and_a_config_tell_each_other_the_same():
    preprocessor = Preprocessor(320, 533, "torchvision", category_ids=(7, 3), class_names=("a", "b"))
    data = plans.shown_by(preprocessor, DataConfig(flip=False))
    assert plans.preprocessor_of(data) == preprocessor
    assert not data.flip


def test_canvases_are_few_and_multiples_of_32():
    found = plans.training_canvases(DataConfig())
    assert found == [(800, 1088), (1088, 800), (800, 1344), (1344, 800)]
    jitter = plans.training_canvases(DataConfig(train_short_sides=(640, 800)))
    assert jitter == found


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((480, 640), (800, 1088)),
        ((640, 480), (1088, 800)),
        ((427, 640), (800, 1344)),
        ((1, 3000), (800, 1344)),
        ((5, 5), (800, 1088)),
    ],
)
def test_each_photo_has_a_canvas(size, canvas):
    data = DataConfig()
    assert plans.canvas_for(size, data, plans.training_canvases(data)) == canvas


def test_an_epoch_deals_every_image_once_and_batches_hold_one_canvas():
    many = records([(480, 640)] * 12 + [(640, 480)] * 8)
    batches = list(itertools.islice(plans.training_plan(many, DataConfig(), 4, seed=0), 10))
    first = np.concatenate([b.indices for b in batches[:5]])
    assert sorted(first) == list(range(20))
    for batch in batches:
        assert len({many[i].size for i in batch.indices}) == 1
    assert [b.step for b in batches] == list(range(10))
    assert first.tolist() != np.concatenate([b.indices for b in batches[5:]]).tolist()


def test_a_plan_is_a_function_of_seed_and_step():
    many = records([(480, 640)] * 7)
    data = DataConfig(train_short_sides=(640, 704, 800))

    def take(seed, first, count):
        return [
            tuple(map(str, p))
            for p in itertools.islice(plans.training_plan(many, data, 2, seed, first), count)
        ]

    assert take(0, 0, 9)[5:] == take(0, 5, 4)
    assert take(0, 0, 3) != take(1, 0, 3)
    looks = list(itertools.islice(plans.training_plan(many, data, 2, 0), 60))
    assert set(np.concatenate([p.short_sides for p in looks])) == {640, 704, 800}
    assert 0.3 < np.concatenate([p.flips for p in looks]).mean() < 0.7
    assert len(set(np.concatenate([p.sample_seeds for p in looks]))) == 120


def test_split_cuts_a_batch_in_order():
    whole = next(plans.training_plan(records([(480, 640)] * 4), DataConfig(), 4, 0))
    parts = list(plans.split(whole, 2))
    np.testing.assert_array_equal(np.concatenate([p.indices for p in parts]), whole.indices)
    np.testing.assert_array_equal(np.concatenate([p.sample_seeds for p in parts]), whole.sample_seeds)


def test_images_without_boxes_are_kept_or_dropped():
    few = records([(480, 640)] * 3, boxes=0) + records([(480, 640)] * 2)
    for keep, expected in ((False, {3, 4}), (True, {0, 1, 2, 3, 4})):
        many = itertools.islice(plans.training_plan(few, DataConfig(keep_empty=keep), 1, 0), 20)
        assert set(np.concatenate([p.indices for p in many])) == expected


def test_evaluation_sees_every_image_once_on_its_own_tight_canvas():
    many = records([(480, 640), (427, 640), (480, 640), (640, 480), (480, 640)])
    batches = plans.evaluation_plan(many, DataConfig(), 2)
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(5))
    assert {b.canvas for b in batches} == {(800, 1088), (800, 1216), (1088, 800)}
    assert not any(b.flips.any() for b in batches)


def test_flipped_and_scaled_boxes_frame_the_same_pixels(folder_config):
    dataset = open_dataset(folder_config.data, "train")
    colors = np.array([[220, 30, 30], [30, 200, 30], [40, 40, 230]])
    data = dataclasses.replace(folder_config.data, short_side=128, max_side=192)
    checked = 0
    for flip in (False, True):
        for index, record in enumerate(dataset.records):
            plan = plans.BatchPlan(
                0, (192, 192), np.array([index]), np.array([128]), np.array([flip]), np.zeros(1, np.int32)
            )
            batch = Loader(dataset, data).training_batch(plan)
            height, width = batch["image_sizes"][0]
            assert not batch["images"][0, height:].any()
            assert not batch["images"][0, :, width:].any()
            # The last object is on top: its middle shows its colour.
            for box, label in list(zip(batch["boxes"][0], batch["classes"][0]))[
                len(record.boxes) - 1 : len(record.boxes)
            ]:
                x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
                assert np.abs(batch["images"][0, y, x].astype(int) - colors[label - 1]).max() < 20
                checked += 1
    assert checked == 10


@pytest.mark.parametrize("short_side", [128, 48])  # photos grow, and shrink
def test_the_quick_way_stays_within_one_grey_level(folder_config, short_side):
    pytest.importorskip("cv2")
    dataset = open_dataset(folder_config.data, "train")
    exact = dataclasses.replace(folder_config.data, short_side=short_side, max_side=192)
    quick = dataclasses.replace(exact, fast_resize=True)
    for index, flip in ((0, False), (1, True)):
        plan = plans.BatchPlan(
            0, (192, 192), np.array([index]), np.array([short_side]), np.array([flip]), np.zeros(1, np.int32)
        )
        expected, found = (Loader(dataset, data).training_batch(plan) for data in (exact, quick))
        difference = np.abs(expected["images"].astype(int) - found["images"])
        assert difference.max() <= 1
        assert expected["images"].any()
        for name in set(expected) - {"images"}:
            np.testing.assert_array_equal(expected[name], found[name])


def test_without_opencv_the_quick_way_is_refused(folder_config, monkeypatch):
    dataset = open_dataset(folder_config.data, "train")
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "fpn_tf.fast_photos", raising=False)
    monkeypatch.delattr(fpn_tf, "fast_photos", raising=False)
    with pytest.raises(ConfigError, match="data.fast_resize=true: needs OpenCV"):
        Loader(dataset, dataclasses.replace(folder_config.data, fast_resize=True))


def test_batches_are_those_of_the_plan_and_resume_in_the_middle(folder_config):
    dataset = open_dataset(folder_config.data, "train")

    def take(first, count, replicas=1):
        loader = Loader(dataset, folder_config.data)
        batches = training_batches(loader, folder_config.data, 2, 0, first, replicas)
        assert batches.options().autotune.enabled is False  # its thread can outlive the iterator
        return [
            (x["images"].numpy(), y["boxes"].numpy(), y["sample_seeds"].numpy())
            for x, y in batches.take(count)
        ]

    whole = take(0, 5)
    for a, b in zip(whole[3:], take(3, 2)):
        for left, right in zip(a, b):
            np.testing.assert_array_equal(left, right)
    halves = take(0, 10, replicas=2)
    np.testing.assert_array_equal(np.concatenate([halves[0][0], halves[1][0]]), whole[0][0])
    assert whole[0][0].dtype == np.uint8


@pytest.mark.parametrize("wanted", [True, False])
def test_photos_are_flipped_only_where_the_config_says_so(folder_config, wanted):
    data = dataclasses.replace(folder_config.data, flip=wanted)
    dataset = open_dataset(data, "train")
    upright = {
        photos.decode_rgb(dataset.read_bytes(i), record.name).tobytes(): record.boxes
        for i, record in enumerate(dataset.records)
    }
    seen = 0
    for x, y in training_batches(Loader(dataset, data), data, 1, 0).take(20):  # at the photos' own size
        boxes = upright.get(x["images"].numpy().tobytes())
        if boxes is not None:
            np.testing.assert_array_equal(y["boxes"][0], boxes)
            seen += 1
    assert seen < 20 if wanted else seen == 20


def test_truth_fields_follow_their_boxes_into_every_replica(folder_config, coco_folder):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    for annotation in coco["annotations"]:  # told again by each box's own size, which is whole
        _, _, width, height = annotation["bbox"]
        annotation |= {"pair": [width, height], "is_wide": width > height}
    path.write_text(json.dumps(coco))
    fields = {"pair": TruthField((2,), "float32"), "is_wide": TruthField(dtype="bool")}
    data = dataclasses.replace(folder_config.data, keep_empty=True)  # at the photos' own size
    dataset = open_dataset(data, "train", fields)

    def take(replicas):
        batches = training_batches(Loader(dataset, data), data, 2, 0, replicas=replicas)
        _, spec = batches.element_spec
        assert (spec["pair"].shape.as_list(), spec["pair"].dtype) == ([2 // replicas, None, 2], tf.float32)
        assert (spec["is_wide"].shape.as_list(), spec["is_wide"].dtype) == ([2 // replicas, None], tf.bool)
        return [{key: value.numpy() for key, value in y.items()} for _, y in batches.take(6 * replicas)]

    whole, halves = take(1), take(2)
    for y in whole:
        sides = y["boxes"][..., 2:] - y["boxes"][..., :2]
        np.testing.assert_allclose(y["pair"], sides, atol=1e-4)  # zeros where not valid
        np.testing.assert_array_equal(y["is_wide"], np.round(sides[..., 0]) > np.round(sides[..., 1]))
    assert any(not y["valid"].all() for y in whole)
    for i, y in enumerate(whole):
        for slot, half in enumerate(halves[2 * i : 2 * i + 2]):
            kept = half["valid"][0]
            for name in fields:
                np.testing.assert_array_equal(y[name][slot][y["valid"][slot]], half[name][0][kept])


def test_reserved_names_are_those_of_a_batch():
    assert set(BATCH_KEYS) == {*SPECS, "images"}


def truncate(folder, name):
    path = folder / "images" / name
    path.write_bytes(path.read_bytes()[:500])


def test_a_truncated_photo_is_named_counted_and_replaced(folder_config, coco_folder, caplog):
    truncate(coco_folder, "photo_0.png")
    dataset = open_dataset(folder_config.data, "train")
    loader = Loader(dataset, folder_config.data)
    plan = plans.BatchPlan(
        0, (64, 96), np.array([0, 2]), np.array([64] * 2), np.zeros(2, bool), np.zeros(2, np.int32)
    )
    batch = loader.training_batch(plan)
    assert list(loader.bad) == [0]
    assert "photo_0.png" in loader.bad[0]
    np.testing.assert_array_equal(batch["images"][0], batch["images"][1])  # record 2 is the next that fits
    found = [
        b["indices"].numpy()
        for b in evaluation_batches(Loader(dataset, folder_config.data), folder_config.data, 2)
    ]
    assert sorted(np.concatenate(found)) == [1, 2, 3, 4, 5]


def test_a_size_that_disagrees_with_the_file_counts_as_bad(folder_config, coco_folder):
    Image.new("RGB", (50, 50)).save(coco_folder / "images" / "photo_1.png")
    dataset = open_dataset(folder_config.data, "train")
    loader = Loader(dataset, folder_config.data)
    list(evaluation_batches(loader, folder_config.data, 1))
    assert loader.bad == {1: f"{coco_folder}/images/photo_1.png: is 50x50 pixels; the annotations say 64x96"}


def test_too_many_bad_files_end_the_run(folder_config, coco_folder):
    truncate(coco_folder, "photo_0.png")
    truncate(coco_folder, "photo_1.png")
    strict = override(folder_config, ["data.max_bad_fraction=0.2"])

    class Nothing:
        def x_spec(self):
            return {"images": None}

        def __call__(self, x):
            return BatchDetections(*[tf.zeros(tf.shape(x["images"])[:1])] * 4)

        def in_photo(self, *parts):
            return parts

    with pytest.raises(
        DataError, match=r"2 of 6 photos cannot be read, more than data.max_bad_fraction=0.2"
    ) as caught:
        make_detector(Nothing(), open_dataset(strict.data, "eval"), strict, make_cluster())()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["evaluation", "training"])
def test_a_pipeline_that_is_dropped_leaves_no_data(folder_config, kind):
    """TensorFlow keeps every Python function that a pipeline has called."""
    dataset = open_dataset(folder_config.data, "train")
    loader = Loader(dataset, folder_config.data)
    if kind == "evaluation":
        batches = evaluation_batches(loader, folder_config.data, 2)
        assert sum(len(batch["indices"]) for batch in batches) == 6
        assert sum(len(batch["indices"]) for batch in batches) == 6  # and once more
    else:
        batches = training_batches(loader, folder_config.data, 2, seed=0)
        assert [len(x["images"]) for x, _ in batches.take(2)] == [2, 2]
    references = [weakref.ref(dataset), weakref.ref(loader)]
    del dataset, loader, batches
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_an_iterator_alone_keeps_its_data(folder_config):
    def iterator():
        dataset = open_dataset(folder_config.data, "train")
        return iter(evaluation_batches(Loader(dataset, folder_config.data), folder_config.data, 1))

    batches = iterator()
    gc.collect()
    assert sum(len(batch["indices"]) for batch in batches) == 6
