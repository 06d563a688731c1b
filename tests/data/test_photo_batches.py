import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from fpn_tf import build, config, photos
from fpn_tf.data.photo_batches import batches
from fpn_tf.errors import DataError
from fpn_tf.preprocessing import Preprocessor
from fpn_tf.structures import TruthField

SMALL = Preprocessor(short_side=64, max_side=96)  # the drawn photos' own size


def make(folder, **arguments):
    return batches(folder / "annotations.json", folder / "images", **({"preprocessor": SMALL} | arguments))


def edit(folder, change):
    path = folder / "annotations.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))


def image_ids(made, epoch):
    plans = [made.plan(epoch, index) for index in range(len(made))]
    return [[made.dataset.records[i].image_id for i in plan.indices] for plan in plans]


def test_every_batch_has_the_same_shapes(coco_folder):
    # Photos of 64 x 96 and 96 x 64 lie on 96 x 96; the fullest has three boxes.
    edit(coco_folder, lambda c: c["annotations"].append(c["annotations"][2] | {"id": 77}))
    made = make(coco_folder, batch_size=4)
    assert len(made) == 2
    for x, y in made:
        assert (x["images"].shape, x["images"].dtype) == ((4, 96, 96, 3), np.uint8)
        assert (x["image_sizes"].shape, x["image_sizes"].dtype) == ((4, 2), np.int32)
        assert (y["boxes"].shape, y["boxes"].dtype) == ((4, 3, 4), np.float32)
        assert (y["classes"].shape, y["classes"].dtype) == ((4, 3), np.int32)
        assert (y["valid"].shape, y["valid"].dtype) == ((4, 3), bool)
        assert (y["sample_seeds"].shape, y["sample_seeds"].dtype) == ((4,), np.int32)
    with pytest.raises(IndexError):
        made[2]


def test_without_shuffle_every_photo_comes_once_in_order(coco_folder):
    made = make(coco_folder, batch_size=4, shuffle=False)
    assert image_ids(made, 0) == image_ids(made, 3) == [[100, 110, 120, 130], [140, 150]]
    (x, y), (_, last) = made
    for slot, record in enumerate(made.dataset.records[:4]):
        height, width = record.size
        photo = photos.decode_rgb(made.dataset.read_bytes(slot))
        assert x["image_sizes"][slot].tolist() == [height, width]
        np.testing.assert_array_equal(x["images"][slot, :height, :width], photo)
        assert not x["images"][slot, height:].any()
        np.testing.assert_array_equal(y["boxes"][slot][y["valid"][slot]], record.boxes)
        np.testing.assert_array_equal(y["classes"][slot][y["valid"][slot]], record.classes)
    assert y["valid"].sum(axis=1).tolist() == [2, 2, 2, 0]  # the fourth photo is empty, and kept
    assert last["boxes"].shape == (2, 2, 4)
    made.on_epoch_end()
    np.testing.assert_array_equal(made[0][1]["sample_seeds"], y["sample_seeds"])


def test_a_shuffled_epoch_deals_every_photo_and_fills_its_last_batch_up(coco_folder):
    made = make(coco_folder, batch_size=4, seed=5)
    epochs = [np.concatenate(image_ids(made, epoch)).tolist() for epoch in range(3)]
    for ids in epochs:
        assert sorted(ids[:6]) == [100, 110, 120, 130, 140, 150]
        assert ids[6:] == ids[:2]
    assert epochs[0] != epochs[1] != epochs[2]
    again, other = make(coco_folder, batch_size=4, seed=5), make(coco_folder, batch_size=4, seed=6)
    assert epochs == [np.concatenate(image_ids(again, epoch)).tolist() for epoch in range(3)]
    assert epochs[0] != np.concatenate(image_ids(other, 0)).tolist()
    assert [len(ids) for ids in image_ids(make(coco_folder, batch_size=8), 0)] == [8]


def test_a_batch_is_a_function_of_seed_epoch_and_index(coco_folder):
    made, again = (make(coco_folder, flip=True, seed=1) for _ in range(2))
    first = made[2]
    made.on_epoch_end()
    assert made.epoch == 1
    again.epoch = 1
    for key, value in made[2][1].items():
        np.testing.assert_array_equal(again[2][1][key], value)
    assert made[2][1]["sample_seeds"].tolist() != first[1]["sample_seeds"].tolist()
    seeds = [s for e in range(5) for i in range(3) for s in made.plan(e, i).sample_seeds.tolist()]
    assert len(set(seeds)) == 30


@pytest.mark.parametrize("flip", [False, True])
def test_flipped_where_asked_for(coco_folder, flip):
    made = make(coco_folder, batch_size=3, shuffle=False, flip=flip)
    drawn = np.concatenate([made.plan(epoch, i).flips for epoch in range(100) for i in range(2)])
    assert 0.4 < drawn.mean() < 0.6 if flip else not drawn.any()
    plan = made.plan(0, 0)
    _, y = made[0]
    for slot, record in enumerate(made.dataset.records[:3]):
        boxes = record.boxes
        if plan.flips[slot]:
            boxes = np.stack(
                [record.size[1] - boxes[:, 2], boxes[:, 1], record.size[1] - boxes[:, 0], boxes[:, 3]], 1
            )
        np.testing.assert_array_equal(y["boxes"][slot], boxes)


def test_classes_follow_the_preprocessors_ids(coco_folder):
    by_file = make(coco_folder, shuffle=False)
    assert by_file.dataset.category_ids == (7, 3, 90)
    ids = Preprocessor(64, 96, category_ids=(90, 5, 3, 7))
    made = make(coco_folder, preprocessor=ids, shuffle=False)
    renumbered = np.array([0, 4, 3, 1])  # of no class, 7, 3, 90
    for (_, told), (_, y) in zip(by_file, made, strict=True):
        np.testing.assert_array_equal(renumbered[told["classes"]], y["classes"])
    assert made.dataset.class_names == ("blue", "class 2", "green", "red")


def test_a_category_that_the_model_does_not_know_is_told(coco_folder):
    with pytest.raises(DataError) as caught:
        make(coco_folder, preprocessor=Preprocessor(64, 96, category_ids=(7, 3)))
    assert str(caught.value) == (
        f"{coco_folder}/annotations.json: category_id 90 (blue), in image 110: expected one of the "
        "preprocessor's category_ids, 7, 3"
    )
    edit(coco_folder, lambda c: c["categories"].append({"id": 1, "name": "of no box"}))
    make(coco_folder, preprocessor=Preprocessor(64, 96, category_ids=(7, 3, 90)))


def test_classes_of_the_same_names_may_have_other_ids(coco_folder):
    by_file = [y["classes"] for _, y in make(coco_folder, shuffle=False)]
    new = {7: 3, 3: 90, 90: 1}

    def change(coco):
        for entry in coco["categories"]:
            entry["id"] = new[entry["id"]]
        for annotation in coco["annotations"]:
            annotation["category_id"] = new[annotation["category_id"]]

    edit(coco_folder, change)
    known = Preprocessor(64, 96, category_ids=(7, 3, 90), class_names=("red", "green", "blue"))
    made = make(coco_folder, preprocessor=known, shuffle=False)
    for (_, y), classes in zip(made, by_file, strict=True):
        np.testing.assert_array_equal(y["classes"], classes)
    assert made.dataset.category_ids == (7, 3, 90)
    others = Preprocessor(64, 96, category_ids=(7, 3, 90), class_names=("cat", "dog", "cow"))
    with pytest.raises(DataError, match="the model has 7: cat, 3: dog, 90: cow"):
        make(coco_folder, preprocessor=others)


def test_truth_fields_are_in_y(coco_folder):
    def change(coco):
        for annotation in coco["annotations"]:
            annotation["pair"] = annotation["bbox"][2:]

    edit(coco_folder, change)
    fields = {"pair": TruthField((2,), "float32")}
    for _, y in make(coco_folder, truth_fields=fields):
        assert (y["pair"].shape, y["pair"].dtype) == ((2, 2, 2), np.float32)
        np.testing.assert_allclose(y["pair"], y["boxes"][..., 2:] - y["boxes"][..., :2], atol=1e-4)


@pytest.mark.parametrize("name", ["batch_size", "seed"])
@pytest.mark.parametrize("value", [-1, 1.5])
def test_bad_numbers_are_told(coco_folder, name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: expected a whole number of at least"):
        make(coco_folder, **{name: value})


def truncate(folder, number, length):
    path = folder / "images" / f"photo_{number}.png"
    path.write_bytes(path.read_bytes()[:length])


def test_one_photo_that_cannot_be_read_is_replaced_by_the_next(coco_folder):
    truncate(coco_folder, 2, 500)
    made = make(coco_folder, shuffle=False)
    np.testing.assert_array_equal(made[1][0]["images"][0], made[1][0]["images"][1])


@pytest.mark.parametrize("length", [0, 500])  # the header tells, or only the decoding
def test_too_many_that_cannot_be_read_end_it(coco_folder, length):
    for number in (0, 2):
        truncate(coco_folder, number, length)
    with pytest.raises(DataError, match="2 of 6 photos cannot be") as caught:
        list(make(coco_folder, shuffle=False))
    assert "\n" not in str(caught.value)


class Nothing(keras.Model):
    """A model whose steps learn nothing."""

    def train_step(self, *state_and_data):
        return {"loss": 0.0}


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="JAX's steps return a state")
def test_every_epoch_of_fit_has_a_plan_of_its_own(coco_folder, monkeypatch):
    model = Nothing()
    model.compile(run_eagerly=True)
    made = make(coco_folder, batch_size=4, flip=True)
    asked, plan = [], made.plan
    monkeypatch.setattr(made, "plan", lambda epoch, index: asked.append((epoch, index)) or plan(epoch, index))
    model.fit(made, epochs=5, verbose=0)
    last = made.epoch  # Keras' fit ends an epoch before its first one, too
    assert set(asked) >= {(epoch, index) for epoch in range(last - 5, last) for index in range(2)}


@pytest.mark.slow
def test_fit_and_evaluate(quick_config, coco_folder):
    keras.utils.set_random_seed(0)
    model = build(quick_config)
    model.compile(keras.optimizers.Adam(0.002))
    made, whole = make(coco_folder, batch_size=4, flip=True), make(coco_folder, batch_size=4, shuffle=False)
    before = model.evaluate(whole, verbose=0, return_dict=True)
    model.fit(made, epochs=5, verbose=0)
    assert model.evaluate(whole, verbose=0, return_dict=True)["loss"] < 0.9 * before["loss"]


SCRIPT = """
import sys
sys.modules["tensorflow"] = None
import keras, numpy as np
from fpn_tf import build, config
from fpn_tf.data.photo_batches import batches
from fpn_tf.preprocessing import Preprocessor
folder = sys.argv[1]
model = build(config.load(folder + "/config.json"))
model.compile(keras.optimizers.SGD(0.003, momentum=0.9))
made, whole = (batches(folder + "/annotations.json", folder + "/images", 4, Preprocessor(64, 96), shuffle=s)
               for s in (True, False))
before = model.evaluate(whole, verbose=0)[0]
model.fit(made, epochs=6, verbose=0)
print(keras.backend.backend(), before, model.evaluate(whole, verbose=0)[0])
"""


@pytest.mark.slow
def test_fit_and_evaluate_without_tensorflow(tiny_config, coco_folder):
    pytest.importorskip("jax")
    config.save(tiny_config, coco_folder / "config.json")
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(coco_folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, before, after = done.stdout.split()
    assert name == "jax"
    assert float(after) < 0.9 * float(before)
