"""What a Keras user types, line by line: each of these lines works."""

import keras
import numpy as np
import pytest
from PIL import Image

import fpn_tf
from fpn_tf import config as config_lib


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from conftest import make_coco_folder

    return make_coco_folder(tmp_path_factory.mktemp("contract") / "data")


@pytest.fixture(scope="module")
def model(photos):
    """A detector on a backbone of keras.applications, after an epoch."""
    keras.utils.set_random_seed(0)
    small = fpn_tf.Preprocessor(short_side=64, max_side=96)
    model = fpn_tf.FasterRCNN(
        backbone=fpn_tf.backbone(
            keras.applications.MobileNetV3Small(
                include_top=False, weights=None, input_shape=(None, None, 3), alpha=0.75, minimalistic=True
            )
        ),
        neck=fpn_tf.FeaturePyramid(channels=16),
        num_classes=3,
        preprocessor=small,
    )
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9))
    batches = fpn_tf.batches(
        photos / "annotations.json", photos / "images", batch_size=2, preprocessor=model.preprocessor
    )
    assert isinstance(batches, keras.utils.PyDataset)
    history = model.fit(batches, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    return model


def test_a_name_and_a_number_of_classes_make_a_detector():
    model = fpn_tf.FasterRCNN(backbone="resnet_tiny", num_classes=3)
    assert model.num_classes == 3
    assert {name: level.shape[-1] for name, level in model.neck.compute_output_spec(maps()).items()} == {
        f"p{k}": 256 for k in (2, 3, 4, 5, 6)
    }
    with pytest.raises(ValueError, match="num_classes=None: expected"):
        fpn_tf.FasterRCNN(backbone="resnet_tiny")
    with pytest.raises(ValueError, match="backbone='resnet51': expected one of resnet_tiny"):
        fpn_tf.FasterRCNN(backbone="resnet51", num_classes=3)


def maps():
    return {f"c{k}": keras.KerasTensor((None, None, None, 32 * 2 ** (k - 2))) for k in (2, 3, 4, 5)}


@pytest.mark.usefixtures("eagerly")
def test_evaluate_scores_the_losses(model, photos):
    held_out = fpn_tf.batches(
        photos / "annotations.json",
        photos / "images",
        batch_size=2,
        preprocessor=model.preprocessor,
        shuffle=False,
    )
    losses = model.evaluate(held_out, verbose=0, return_dict=True)
    assert set(losses) == {"loss", "rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss"}
    assert np.isfinite(list(losses.values())).all()


def test_photos_in_every_form_give_the_same_detections(model, photos):
    path = photos / "images" / "photo_0.png"
    photo = np.asarray(Image.open(path))
    forms = [photo, Image.fromarray(photo), path, str(path)]
    first, *others = model.detect(forms, score_threshold=0)
    assert len(first) > 0
    for other in others:
        np.testing.assert_array_equal(other.boxes, first.boxes)
    assert len(model.detect(photo)) == 1  # a photo alone is a photo
    with pytest.raises(ValueError, match=r"images\[1\].*expected"):
        model.detect([photo, photo / 255])


def test_another_threshold_filters_and_traces_nothing(model, photos, monkeypatch):
    photo = np.asarray(Image.open(photos / "images" / "photo_1.png"))
    [every] = model.detect([photo], score_threshold=0)
    traces, original = [], type(model).call
    monkeypatch.setattr(type(model), "call", lambda *a, **k: traces.append(1) or original(*a, **k))
    threshold = float(np.median(every.scores))
    [some] = model.detect([photo], score_threshold=threshold)
    assert not traces or keras.config.backend() == "torch"  # which runs without a trace
    assert 0 < len(some) < len(every)
    np.testing.assert_array_equal(some.boxes, every[every.scores > threshold].boxes[: len(some)])


def test_detections_are_a_record(model, photos, tmp_path):
    photo = np.asarray(Image.open(photos / "images" / "photo_0.png"))
    [found] = model.detect([photo], score_threshold=0)
    assert len(found) == len(found.names) == len(found.scores)
    assert set(found.names) <= {"class 1", "class 2", "class 3"}
    best = found[found.scores > float(np.median(found.scores))]
    assert len(best) == (found.scores > np.median(found.scores)).sum()
    assert len(found[0]) == 1
    assert len(found[:3]) == 3
    boxes, scores, classes = found
    assert boxes is found.boxes
    assert scores is found.scores
    assert classes is found.classes
    found.draw(photo).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] % photo.shape[1] == 0


def test_evaluate_gives_cocos_numbers(model, photos):
    metrics = fpn_tf.evaluate(model, photos / "annotations.json", photos / "images")
    assert {"AP", "AP50", "AR100", "per_class"} <= set(metrics)
    assert set(metrics["per_class"]) == {"red", "green", "blue"}


@pytest.mark.usefixtures("eagerly")
def test_cocos_numbers_are_among_the_logs_of_fit(photos, tmp_path):
    """And the callbacks after it can watch them."""
    small = fpn_tf.Preprocessor(short_side=64, max_side=96)
    model = fpn_tf.FasterRCNN(
        backbone="resnet_tiny", neck=fpn_tf.FeaturePyramid(16), num_classes=3, preprocessor=small
    )
    model.compile(keras.optimizers.SGD(0.0))
    batches = fpn_tf.batches(photos / "annotations.json", photos / "images", batch_size=6, preprocessor=small)
    path = tmp_path / "best.keras"
    callbacks = [
        fpn_tf.CocoMetrics(photos / "annotations.json", photos / "images"),
        keras.callbacks.ModelCheckpoint(path, monitor="AP", mode="max", save_best_only=True),
    ]
    history = model.fit(batches, epochs=1, verbose=0, callbacks=callbacks).history
    metrics = fpn_tf.evaluate(model, photos / "annotations.json", photos / "images")
    assert history["AP"] == [pytest.approx(metrics["AP"], abs=1e-6)]
    assert history["AP/red"] == [pytest.approx(metrics["per_class"]["red"], abs=1e-6)]
    assert path.is_file()


def test_evaluate_of_perfect_detections_is_one(model, photos, monkeypatch):
    """The classes 1..K of a model without ids are the file's categories in their order."""
    from fpn_tf.data import coco_folder

    dataset = coco_folder.load(photos / "annotations.json", photos / "images")
    records = iter(dataset.records)

    def perfect(images):
        record = next(records)
        return [fpn_tf.Detections(record.boxes, np.ones(len(record.boxes)), record.classes.astype(np.int64))]

    monkeypatch.setattr(model, "detect", perfect)
    metrics = fpn_tf.evaluate(model, photos / "annotations.json", photos / "images")
    assert metrics["AP"] == pytest.approx(1)


@pytest.mark.usefixtures("eagerly")
def test_a_saved_model_is_the_same(model, photos, tmp_path):
    photo = np.asarray(Image.open(photos / "images" / "photo_0.png"))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.preprocessor == model.preprocessor
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    [before], [after] = (m.detect([photo], score_threshold=0) for m in (model, again))
    np.testing.assert_allclose(after.boxes, before.boxes, atol=1e-3)


def test_build_makes_the_same_parts_of_a_config(tiny_config):
    model = fpn_tf.build(tiny_config)
    assert type(model) is fpn_tf.FasterRCNN
    assert model.config == tiny_config
    assert model.neck.channels == 16
    assert model.rpn.anchor_sizes == tiny_config.model.rpn.anchor_sizes
    rpn = fpn_tf.build(config_lib.replace(tiny_config, **{"model.kind": "rpn"}))
    assert type(rpn) is fpn_tf.RPN


def test_fit_draws_other_anchors_in_every_step(quick_config, batch):
    """The seeds lie in y; the steps count themselves."""
    model = fpn_tf.build(quick_config)
    seeds = []

    def compute_losses(y, outputs, training=True):
        seeds.append(np.asarray(y["sample_seeds"]).tolist())
        return type(model).compute_losses(model, y, outputs, training)

    model.compute_losses = compute_losses
    model.compile(keras.optimizers.SGD(0.001), run_eagerly=True)
    model.fit(*batch, batch_size=2, epochs=3, verbose=0, shuffle=False)
    assert len({tuple(each) for each in seeds}) == 3
    losses = [model.evaluate(*batch, batch_size=2, verbose=0) for _ in range(2)]
    np.testing.assert_array_equal(*losses)  # but every evaluation draws the same


def test_a_call_with_a_photo_says_what_to_call(model):
    photo = np.zeros((64, 96, 3), np.uint8)
    for call in (lambda: model(photo), lambda: model.predict(photo[None], verbose=0)):
        with pytest.raises(ValueError, match=r"model.detect\(photos\)"):
            call()
