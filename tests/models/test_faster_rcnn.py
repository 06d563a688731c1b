import keras
import numpy as np
import pytest
from backends import tensors_of
from keras import ops

from fpn_tf import FasterRCNN, FeaturePyramid, Head, Preprocessor, build, config
from fpn_tf.geometry.boxes import decode_deltas
from fpn_tf.models.heads.box import BoxHead, BoxStage
from fpn_tf.models.heads.rpn import ProposalStage
from fpn_tf.structures import Proposals, RPNOutputs

ON_TENSORFLOW = keras.config.backend() == "tensorflow"


def values_of(losses):
    return [float(ops.convert_to_numpy(loss)) for loss in losses.values()]


@pytest.fixture
def model(tiny_config):
    keras.utils.set_random_seed(0)
    return build(tiny_config)


def test_proposals_by_hand():
    anchors = np.array([[0, 0, 20, 20], [0, 0, 20, 19], [40, 40, 60, 60], [90, 0, 130, 20]], np.float32)
    rpn = tensors_of(
        RPNOutputs(
            logits={"p2": np.array([[1.0, 2.0, 0.5, 3.0]], np.float32)},
            deltas={"p2": np.zeros((1, 4, 4), np.float32)},
            anchors={"p2": anchors},
        )
    )
    stage = ProposalStage(pre_nms_test=8, post_nms_test=3)
    found = stage.propose(rpn, np.array([[64, 96]]))
    boxes, logits, valid, numbers = (ops.convert_to_numpy(x)[0] for x in found)
    # Clipped to 96 wide, best first; the first anchor falls to the second (IoU 0.95).
    np.testing.assert_array_equal(boxes, [[90, 0, 96, 20], [0, 0, 20, 19], [40, 40, 60, 60]])
    np.testing.assert_array_equal(logits, [3, 2, 0.5])
    np.testing.assert_array_equal(ops.convert_to_numpy(rpn.logits["p2"])[0, numbers], logits)
    assert valid.all()


def test_detections_by_hand():
    proposals = tensors_of(
        Proposals(
            np.array([[[0, 0, 20, 20], [0, 0, 20, 20], [30, 30, 40, 40]]], np.float32),
            np.zeros((1, 3), np.float32),
            np.array([[True, True, False]]),
            np.array([[0, 1, 2]]),
        )
    )
    logits = np.log(np.array([[[0.1, 0.6, 0.3], [0.5, 0.45, 0.05], [0.0001, 0.9, 0.1]]], np.float32))
    deltas = np.zeros((1, 3, 2, 4), np.float32)
    stage = BoxStage(BoxHead(2), max_detections=4)
    found = stage.decode(logits, deltas, proposals, np.array([[64, 96]]), score_threshold=0.1)
    boxes, scores, classes, valid = (ops.convert_to_numpy(x)[0] for x in found[:4])
    # Class 1 at 0.6 beats class 1 at 0.45 on the same box; class 2 at 0.3 is another class.
    assert valid.tolist() == [True, True, False, False]
    np.testing.assert_allclose(scores, [0.6, 0.3, 0, 0], atol=1e-6)
    assert classes.tolist() == [1, 2, 0, 0]
    np.testing.assert_allclose(boxes[:2], [[0, 0, 20, 20]] * 2, atol=1e-5)


def test_a_score_that_equals_the_threshold_is_not_above_it():
    box = np.array([[[0, 0, 20, 20]]], np.float32)
    proposals = Proposals(box, np.zeros((1, 1), np.float32), np.array([[True]]), np.array([[0]]))
    logits, deltas = np.zeros((1, 1, 3), np.float32), np.zeros((1, 1, 2, 4), np.float32)
    score = float(ops.convert_to_numpy(ops.softmax(ops.convert_to_tensor(logits)))[0, 0, 1])
    stage, sizes = BoxStage(BoxHead(2), max_detections=4), np.array([[64, 96]])
    for threshold, count in ((score, 0), (np.nextafter(np.float32(score), np.float32(0)), 2)):
        inputs = tensors_of((logits, deltas, proposals, sizes))
        detections = stage.decode(*inputs, score_threshold=threshold)
        assert int(ops.sum(ops.cast(detections.valid, "int32"))) == count


def test_training_on_a_batch_lowers_the_loss(model, batch, monkeypatch):
    steps, original = [], FasterRCNN.compute_losses
    monkeypatch.setattr(FasterRCNN, "compute_losses", lambda *a: steps.append(1) or original(*a))
    model.compile(keras.optimizers.SGD(0.05))
    x, y = batch
    first = model.train_on_batch(x, y, return_dict=True)
    assert set(first) == {"loss", "rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss"}
    parts = [first[name] for name in first if name != "loss"]
    assert float(first["loss"]) == pytest.approx(float(sum(parts)), rel=1e-5)
    for _ in range(10):
        model.train_on_batch(x, y)
    model.reset_metrics()
    assert float(model.train_on_batch(x, y, return_dict=True)["loss"]) < 0.9 * float(first["loss"])
    assert len(steps) == 1 or not ON_TENSORFLOW  # traced once


@pytest.mark.usefixtures("eagerly")
def test_what_was_saved_goes_on(quick_config, batch, tmp_path):
    # Detects at a size of its own: see tests/training/test_replicas.py on what oneDNN remembers.
    changes = {"data.short_side": 96, "data.max_side": 160}
    model = build(config.replace(quick_config, **changes))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    model.train_on_batch(*batch)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    photo = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.detect(photo)[0], again.detect(photo)[0]):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    model.reset_metrics()
    losses = [one.train_on_batch(*batch, return_dict=True)["loss"] for one in (model, again)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_every_trainable_weight_gets_a_gradient(tiny_config, batch):
    model = build(config.replace(tiny_config, **{"model.rpn.samples": 1536}))  # anchors of every level
    if not ON_TENSORFLOW:
        pytest.skip("uses GradientTape")
    import tensorflow as tf

    x, y = batch
    with tf.GradientTape() as tape:
        total = sum(model.compute_losses(y, model(x, training=True)).values())
    gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
    names = [v.path for v, g in zip(model.trainable_variables, gradients) if g is None or not np.any(g)]
    assert names == []


def test_a_batch_without_ground_truth_has_a_finite_loss(model, batch):
    x, y = batch
    y = y | {"valid": np.zeros_like(y["valid"])}
    losses = model.compute_losses(y, model(x, training=True))
    assert np.isfinite(values_of(losses)).all()
    assert ops.convert_to_numpy(losses["rpn_box_loss"]) == 0
    assert ops.convert_to_numpy(losses["head_box_loss"]) == 0


def test_losses_depend_on_the_sample_seeds_alone(model, batch):
    x, y = batch
    outputs = model(x, training=True)
    again = values_of(model.compute_losses(y, outputs))
    assert values_of(model.compute_losses(y, outputs)) == again
    other = model.compute_losses(y | {"sample_seeds": y["sample_seeds"] + 1}, outputs)
    assert values_of(other) != again


def test_the_order_of_proposals_changes_nothing(model, batch):
    """Else the smallest difference in a score would draw quite another sample."""
    x, y = batch
    outputs = model(x, training=True)
    turned = type(outputs.proposals)(*(ops.flip(part, axis=1) for part in outputs.proposals))
    losses = [
        values_of(model.compute_losses(y, outputs._replace(proposals=proposals)))
        for proposals in (outputs.proposals, turned)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_batch_equals_its_images_one_by_one(model, batch):
    x, y = batch
    together = model.compute_losses(y, model(x, training=True))
    alone = []
    for i in range(2):
        xi, yi = ({k: v[i : i + 1] for k, v in d.items()} for d in (x, y))
        alone.append(values_of(model.compute_losses(yi, model(xi, training=True))))
    np.testing.assert_allclose(values_of(together), np.mean(alone, axis=0), rtol=1e-4)


def test_padding_does_not_reach_the_features(model, batch):
    x, _ = batch
    noisy = x["images"].copy()
    noisy[1, 50:], noisy[1, :, 80:] = 255, 255
    a = model.preprocessor.normalize(x["images"], x["image_sizes"])
    b = model.preprocessor.normalize(noisy, x["image_sizes"])
    np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    assert not ops.convert_to_numpy(a)[1, 50:].any()


def test_normalization_by_hand(tiny_config):
    bgr = config.replace(
        tiny_config,
        **{"model.pixel_order": "bgr", "model.pixel_mean": (1, 2, 3), "model.pixel_std": (1, 1, 2)},
    )
    image = np.full((1, 32, 32, 3), (10, 20, 30), np.uint8)
    found = build(bgr).preprocessor.normalize(image, np.array([[32, 32]]))
    np.testing.assert_allclose(ops.convert_to_numpy(found)[0, 0, 0], [30 - 1, 20 - 2, (10 - 3) / 2])


def test_detect_in_original_pixels_whatever_the_company(model):
    rng = np.random.default_rng(3)
    photos = [
        rng.integers(0, 256, size, dtype=np.uint8) for size in ((120, 200, 3), (90, 60, 3), (64, 96, 3))
    ]
    together = model.detect(photos)
    for photo, found in zip(photos, together):
        [alone] = model.detect(photo)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-4)
        assert found.boxes.shape == (len(found.scores), 4)
        assert (np.diff(found.scores) <= 0).all()
        assert found.boxes.min() >= 0
        assert (found.boxes <= [photo.shape[1], photo.shape[0]] * 2).all()
        assert set(found.classes) <= {1, 2, 3}


def test_detect_maps_to_the_datasets_ids(tiny_config):
    ids = config.replace(tiny_config, **{"data.category_ids": (7, 3, 90)})
    [found] = build(ids).detect(np.zeros((64, 96, 3), np.uint8))
    assert len(found.classes)
    assert set(found.classes) <= {7, 3, 90}


@pytest.mark.parametrize(
    "photo", [np.zeros((64, 96)), np.zeros((64, 96, 3)), np.zeros((64, 96, 5), np.uint8), 7]
)
def test_detect_says_what_it_expects(model, photo):
    with pytest.raises(ValueError, match=r"images\[0\].*expected"):
        model.detect([photo])


@pytest.mark.usefixtures("eagerly")
def test_fit_and_evaluate(quick_config, batch):
    model = build(quick_config)
    model.compile(keras.optimizers.SGD(0.01))
    history = model.fit(*batch, batch_size=2, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert set(model.evaluate(*batch, batch_size=2, verbose=0, return_dict=True)) >= {
        "loss",
        "head_class_loss",
    }


class Anxious(FeaturePyramid):
    """A neck that adds a loss."""

    def call(self, maps, training=False):
        self.add_loss(ops.mean(ops.abs(maps["c3"])))
        return super().call(maps, training=training)


@pytest.mark.usefixtures("eagerly")
def test_losses_that_layers_add_are_trained(batch):
    """Regularizers of weights and `add_loss`, as in any Keras model."""
    small = Preprocessor(short_side=64, max_side=96)
    model = FasterRCNN("resnet_tiny", 3, Anxious(16, name="neck"), preprocessor=small)
    kernel = next(v for v in model.trainable_variables if v.path.endswith("lateral3/kernel"))
    kernel.regularizer = keras.regularizers.L2(10.0)
    model.compile(keras.optimizers.SGD(0.0))
    map_of_c3 = model.backbone(model.preprocessor.pixels(batch[0]))["c3"]
    added = np.abs(ops.convert_to_numpy(map_of_c3)).mean()
    decay = 10 * np.square(ops.convert_to_numpy(kernel)).sum()
    for loss, *named in (model.train_on_batch(*batch), model.test_on_batch(*batch)):
        assert len(named) == 4
        np.testing.assert_allclose(float(loss) - sum(map(float, named)), added + decay, rtol=1e-4)
    assert min(added, decay) > 0.1


class Restless(Head):
    """A head that adds to Keras' losses what it names nowhere, and counts how often."""

    loss_names = ("restless_loss",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.count = keras.Variable(0.0, trainable=False)

    def predict(self, pyramid, boxes, training=False):
        return {"zero": ops.zeros_like(boxes[..., 0])}

    def losses(self, pyramid, rois, training=True):
        self.add_loss(ops.convert_to_tensor(3.0))
        self.count.assign(self.count + 1.0)
        return {"restless_loss": ops.mean(rois.rois) * 0.0 + 1.0}


def test_losses_and_state_of_a_heads_losses_are_kept_fit_and_evaluate(batch):
    """On every backend: Keras' trainer for JAX alone forgets what `add_loss` is told outside of `call`."""
    small = Preprocessor(short_side=64, max_side=96)
    neck = FeaturePyramid(8, name="neck")
    model = FasterRCNN("resnet_tiny", 3, neck, heads=[Restless()], preprocessor=small)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, jit_compile=False)
    for steps, run in enumerate((model.train_on_batch, model.test_on_batch), start=1):
        loss, *named = map(float, run(*batch))
        assert len(named) == 5
        np.testing.assert_allclose(loss - sum(named), 3.0, rtol=1e-4)
        assert float(ops.convert_to_numpy(model.heads[0].count)) == steps


def test_mixed_precision_keeps_geometry_and_losses_float32(tiny_config, batch):
    mixed = build(config.replace(tiny_config, **{"train.precision": "mixed_bfloat16"}))
    outputs = mixed(batch[0], training=True)
    assert keras.backend.standardize_dtype(outputs.pyramid["p2"].dtype) == "bfloat16"
    for value in (
        outputs.proposals.boxes,
        outputs.rpn.logits["p3"],
        outputs.rpn.deltas["p3"],
        outputs.rpn.anchors["p3"],
    ):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
    losses = mixed.compute_losses(batch[1], outputs)
    for loss in losses.values():
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    full = build(tiny_config)
    full.set_weights(mixed.get_weights())
    np.testing.assert_allclose(
        sum(values_of(losses)),
        sum(values_of(full.compute_losses(batch[1], full(batch[0], training=True)))),
        rtol=0.05,
    )


def test_num_classes_is_needed(tiny_config):
    with pytest.raises(config.ConfigError, match="model.num_classes=0"):
        build(config.replace(tiny_config, **{"model.num_classes": 0}))


def test_decoding_uses_the_head_weights():
    deltas = np.array([1.0, 0, 0, 0], np.float32)
    moved = decode_deltas(deltas, np.array([0, 0, 20, 20], np.float32), (10, 10, 5, 5))
    np.testing.assert_allclose(ops.convert_to_numpy(moved), [2, 0, 22, 20], atol=1e-5)


def test_an_rpn_is_the_detectors_first_half(tiny_config, batch, model, tmp_path):
    rpn = build(config.replace(tiny_config, **{"model.kind": "rpn"}))
    shared = rpn.backbone.weights + rpn.neck.weights + rpn.rpn.weights
    theirs = model.backbone.weights + model.neck.weights + model.rpn.weights
    for weight, source in zip(shared, theirs, strict=True):
        weight.assign(source)
    x, y = batch
    alone = rpn.compute_losses(y, rpn(x, training=True))
    whole = model.compute_losses(y, model(x, training=True))
    assert set(alone) == {"rpn_objectness_loss", "rpn_box_loss"}
    np.testing.assert_allclose(values_of(alone), values_of({name: whole[name] for name in alone}), rtol=1e-5)

    found = rpn(x, training=False)
    outputs = model.propose(x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found.boxes), ops.convert_to_numpy(outputs.proposals.boxes), atol=1e-4
    )
    assert np.all(np.diff(ops.convert_to_numpy(found.scores), axis=1) <= 0)
    rpn.save(tmp_path / "rpn.keras")
    again = keras.saving.load_model(tmp_path / "rpn.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(x, training=False).boxes), ops.convert_to_numpy(found.boxes)
    )
