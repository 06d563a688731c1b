"""Backbones from elsewhere: models of keras.applications, KerasHub's form, layers of one's own."""

import importlib

import keras
import numpy as np
import pytest
from keras import layers, ops
from nets import net

import fpn_tf
from fpn_tf import config as config_lib
from fpn_tf.assemble import make_backbone
from fpn_tf.checkpoint import check_complete
from fpn_tf.errors import ConfigError, WeightsError
from fpn_tf.models.backbones import applications
from fpn_tf.models.heads.rpn import ProposalStage
from fpn_tf.models.necks.baselines import SingleMap
from fpn_tf.preprocessing import IMAGENET
from fpn_tf.pretrained.backbone_files import load_backbone_weights

ON_TENSORFLOW = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's training")
SMALL = "keras_applications/MobileNetV3Small"
ANY_SIZE = {"include_top": False, "weights": None, "input_shape": (None, None, 3)}


def small_application(name="MobileNetV3Small", **options):
    return keras.applications.MobileNetV3Small(
        **ANY_SIZE, alpha=0.75, minimalistic=True, name=name, **options
    )


@pytest.fixture(scope="module")
def classifier():
    """A small model of keras.applications, whose preprocessing is inside."""
    return small_application()


def with_top():
    """`net` as a classifier."""
    body = net()
    scores = layers.Dense(7, name="scores")(layers.GlobalAveragePooling2D()(body.output))
    return keras.Model(body.input, scores)


class Strided(layers.Layer):
    """A layer of its own: a convolution for each of its maps."""

    def __init__(self, levels=(2, 3, 4, 5), **kwargs):
        super().__init__(**kwargs)
        self.levels = levels
        self.convs = [layers.Conv2D(8, 3, 2**k, "same") for k in levels]

    def call(self, images, training=False):
        return {f"c{k}": conv(images) for k, conv in zip(self.levels, self.convs, strict=True)}


def noise(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


# The maps -----------------------------------------------------------------------------------------


def test_the_last_map_of_each_stride_is_found():
    backbone = fpn_tf.backbone(net())
    ends = {name: output._keras_history.operation.name for name, output in backbone.output.items()}
    assert ends == {"c2": "relu2", "c3": "relu3", "c4": "relu4", "c5": "product"}


def test_an_applications_maps_are_its_own(classifier):
    backbone = fpn_tf.backbone(classifier)
    images = noise(1, 64, 96, 3)
    maps = backbone(images)
    assert {name: tuple(level.shape[1:3]) for name, level in maps.items()} == {
        "c2": (16, 24),
        "c3": (8, 12),
        "c4": (4, 6),
        "c5": (2, 3),
    }
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (maps["c5"], classifier(images))))
    assert {id(v) for v in backbone.weights} == {id(v) for v in classifier.weights}


def test_an_application_of_no_given_size_is_one_of_any_size():
    application = keras.applications.ConvNeXtTiny(include_top=False, weights=None)
    maps = fpn_tf.backbone(application).compute_output_spec(keras.KerasTensor((1, 96, 64, 3)))
    assert {name: tuple(level.shape) for name, level in maps.items()} == {
        "c2": (1, 24, 16, 96),
        "c3": (1, 12, 8, 192),
        "c4": (1, 6, 4, 384),
        "c5": (1, 3, 2, 768),
    }


def test_kerashubs_form_serves_as_it_is():
    source = net()
    ends = {f"P{k}": source.get_layer(f"relu{k}").output for k in (1, 2, 3, 4, 5)}
    hub = keras.Model(source.input, source.output, name="res_net_backbone")
    hub.pyramid_outputs = ends
    model = fpn_tf.FasterRCNN(hub, 3, neck=fpn_tf.FeaturePyramid(8))
    images = noise(1, 64, 64, 3)
    maps = model.backbone(images)
    assert list(maps) == ["c2", "c3", "c4", "c5"]
    expected = keras.Model(source.input, ends["P4"])(images)
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (maps["c4"], expected)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: keras.Model(i := keras.Input((64, 64, 3)), layers.Conv2D(4, 3, 4)(i), name="fixed"),
            r"fixed: its input is \(64, 64, 3\).*input_shape=\(None, None, 3\)",
        ),
        (
            lambda: keras.Model(
                i := keras.Input((None, None, 3)), layers.Conv2D(4, 3, 4, "same")(i), name="flat"
            ),
            "flat: has no map of stride 8; expected 4, 8, 16 and 32",
        ),
        (Strided, "Strided: expected a functional Keras model"),
    ],
)
def test_models_without_the_maps_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        fpn_tf.backbone(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            "keras_applications/ResNet51",
            "ResNet51: keras.applications has no such model; expected one of Conv",
        ),
        ("resnet51", "backbone='resnet51': expected one of resnet_tiny"),
        (3, "backbone=3: expected a name, or a Keras model or layer"),
        (net, "backbone=<function net"),
    ],
)
def test_what_is_no_backbone_is_refused_in_one_line(backbone, message):
    with pytest.raises(ValueError, match=message) as caught:
        fpn_tf.FasterRCNN(backbone, 3)
    assert "\n" not in str(caught.value)


def test_a_classifier_by_itself_is_told_how_to_become_a_backbone(classifier):
    with pytest.raises(ValueError, match=r"MobileNetV3Small: gives 1 map\(s\).*fpn_tf.backbone\(model\)"):
        fpn_tf.FasterRCNN(classifier, 3)


# The pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "ResNet50",
        "VGG16",
        "ResNet50V2",
        "MobileNet",
        "MobileNetV2",
        "DenseNet121",
        "ConvNeXtTiny",
        SMALL[19:],
    ],
)
def test_pixels_are_those_of_the_applications_own_preprocessing(name):
    module = importlib.import_module(getattr(keras.applications, name).__module__)
    images = noise(2, 32, 32, 3)
    pixels = applications.pixel_format(f"keras_applications/{name}")
    normalized = fpn_tf.Preprocessor().resolved(pixels).normalize(images, np.full((2, 2), 32))
    expected = module.preprocess_input(images.copy(), data_format="channels_last")
    np.testing.assert_allclose(normalized, expected, rtol=1e-5, atol=1e-5)


def test_a_models_pixels_are_told_by_its_layers_or_its_name(classifier):
    minus_one_to_one = ("rgb", (127.5,) * 3, (127.5,) * 3)
    mobile = keras.applications.MobileNet(**ANY_SIZE, alpha=0.25)  # to which Keras gives no name
    assert fpn_tf.backbone(mobile).pixel_format == minus_one_to_one
    assert applications.pixel_format(classifier) == applications.RAW
    assert applications.pixel_format(small_application("mine")) == applications.RAW
    assert applications.pixel_format(net()) == IMAGENET
    named = keras.Model(*[keras.Input((None, None, 3))] * 2, name="resnet50v2")
    assert applications.pixel_format(named) == minus_one_to_one
    # A layer is none of keras.applications' models, whatever its name.
    assert applications.pixel_format(fpn_tf.ResNet(18, name="resnet50")) == IMAGENET


def test_a_detector_takes_its_backbones_pixels_unless_told_others(classifier):
    model = fpn_tf.FasterRCNN(fpn_tf.backbone(classifier), 3, neck=fpn_tf.FeaturePyramid(8))
    assert model.preprocessor.pixel_std == (1, 1, 1)
    bgr = fpn_tf.Preprocessor(pixel_order="bgr", pixel_std=(2, 2, 2))
    model = fpn_tf.FasterRCNN(fpn_tf.backbone(classifier), 3, fpn_tf.FeaturePyramid(8), preprocessor=bgr)
    assert (model.preprocessor.pixel_order, model.preprocessor.pixel_std) == ("bgr", (2, 2, 2))
    assert model.preprocessor.pixel_mean == (0, 0, 0)


# What is constant ---------------------------------------------------------------------------------


def test_frozen_norms_keep_their_statistics_and_are_not_learned():
    model = fpn_tf.backbone(net())
    applications.freeze_norms(model)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {
        *(f"conv{k}" for k in range(1, 6)),
        "dense",
    }
    before = [np.array(v) for v in model.weights]
    model(noise(2, 64, 64, 3), training=True)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("stages", range(6))
def test_frozen_stages_are_the_first_ones(stages):
    model = fpn_tf.backbone(net())
    applications.freeze_stages(model, stages)
    learned = {v.path.split("/")[0] for v in model.trainable_variables}
    expected = {f"{kind}{k}" for kind in ("conv", "norm") for k in range(stages + 1, 6)}
    assert learned == expected | ({"dense"} if stages < 5 else set())


@ON_TENSORFLOW
@pytest.mark.slow
def test_synchronized_norms_see_the_whole_batch_on_two_replicas():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images = noise(2, 64, 64, 3)
    with strategy.scope():
        model = fpn_tf.backbone(net())
        applications.synchronize_norms(model)
    halves = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(images[context.replica_id_in_sync_group :][:1])
    )
    tf.function(lambda x: strategy.run(lambda half: model(half, training=True)["c5"], args=(x,)))(halves)
    first = model.get_layer("norm1")
    convolved = model.get_layer("conv1")(np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0))))
    mean, variance = np.mean(convolved, (0, 1, 2)), np.var(convolved, (0, 1, 2))
    np.testing.assert_allclose(first.moving_mean, mean / 2, rtol=1e-4, atol=1e-4)  # momentum 0.5, from 0
    np.testing.assert_allclose(first.moving_variance, (1 + variance) / 2, rtol=1e-4)


# In a config --------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, tiny_config):
    """A config whose backbone is `net`, as if it were a model of keras.applications."""

    def small_one(include_top, weights, input_shape):
        model = net()
        if weights == "imagenet":
            raise Exception(
                "URL fetch failure on https://somewhere: None -- [Errno -2] No name\nfurther lines"
            )
        if weights:
            model.load_weights(weights)
        return model

    monkeypatch.setattr(applications, "_constructors", lambda: {"MobileNetV3Small": small_one})
    small_one.__module__ = keras.applications.MobileNetV3Small.__module__
    return config_lib.override(tiny_config, [f"model.backbone={SMALL}", "model.norm=sync_bn"])


def test_a_configs_backbone_has_its_norms_and_frozen_stages(small):
    def norms(backbone):
        return [x for x in backbone.layers if isinstance(x, layers.BatchNormalization)]

    synchronized = norms(make_backbone(small))
    assert len(synchronized) == 5
    assert all(norm.trainable for norm in synchronized)
    has_replicas = keras.config.backend() == "tensorflow"
    assert all(norm.synchronized == has_replicas for norm in synchronized)
    frozen = make_backbone(config_lib.override(small, ["model.norm=frozen_bn", "model.frozen_stages=2"]))
    assert not any(norm.trainable for norm in norms(frozen))
    end = frozen.layers.index(frozen.output["c2"]._keras_history.operation)
    assert not any(layer.trainable for layer in frozen.layers[: end + 1])
    learned = [x for x in frozen.layers[end + 1 :] if not isinstance(x, layers.BatchNormalization)]
    assert all(layer.trainable for layer in learned)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model.backbone=keras_applications/Nope",
            "model.backbone=keras_applications/Nope: keras.applications has",
        ),
        ("model.norm=group_norm", "model.norm=group_norm: keras.applications has frozen_bn and sync_bn"),
    ],
)
def test_what_an_application_does_not_have_is_told_with_its_key(small, change, message):
    with pytest.raises(ConfigError, match=message):
        make_backbone(config_lib.override(small, [change]))


def test_an_application_is_not_computed_twice_to_save_memory(small):
    config = config_lib.override(small, ["model.norm=frozen_bn", "train.remat=true"])
    with pytest.raises(ConfigError, match="train.remat=true: expected a ResNet as model.backbone"):
        make_backbone(config)


@pytest.mark.parametrize(
    ("suffix", "make"),
    [(".weights.h5", net), (".h5", net), (".keras", net), (".weights.h5", with_top), (".keras", with_top)],
)
def test_a_file_that_keras_wrote_gives_the_weights(small, tmp_path, suffix, make):
    source = make()
    path = tmp_path / f"classifier{suffix}"
    source.save_weights(path) if suffix == ".weights.h5" else source.save(path)
    config = config_lib.override(small, [f"model.backbone_weights={path}"])
    backbone = make_backbone(config)
    load_backbone_weights(backbone, config.model)
    weights = source.get_weights()
    for a, b in zip(weights[: len(backbone.weights)], backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagenet", r"backbone_weights=imagenet: not to be had for .*URL fetch failure.*expected imagenet"),
        ("nowhere.h5", "backbone_weights=nowhere.h5: no such file; expected imagenet, or the path"),
        ("other.weights.h5", "backbone_weights=other.weights.h5: not to be had for "),
        ("with_top.h5", r"with_top.h5: not to be had for .*expected .* \.h5 \(without the top\)"),
    ],
)
def test_weights_that_cannot_be_had_are_told_in_one_line(small, tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    keras.Sequential([keras.Input((3,)), layers.Dense(2)]).save_weights("other.weights.h5")
    with_top().save("with_top.h5")
    config = config_lib.override(small, [f"model.backbone_weights={source}"])
    backbone = make_backbone(config)
    before = backbone.get_weights()
    with pytest.raises(WeightsError, match=message) as caught:
        load_backbone_weights(backbone, config.model)
    assert "\n" not in str(caught.value)
    for a, b in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# Layers of one's own ------------------------------------------------------------------------------


def detector(backbone, neck, **parts):
    preprocessor = fpn_tf.Preprocessor(64, 96)
    return fpn_tf.FasterRCNN(backbone, 3, neck, preprocessor=preprocessor, **parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "neck", "sizes"),
    [
        ((3, 4, 5), fpn_tf.FeaturePyramid(8), (16, 32, 64, 96)),  # p3..p6
        ((4,), SingleMap(4), (16, 32)),  # both on p4
        ((5,), fpn_tf.FeaturePyramid(8, extra_level=False), (32, 64)),
    ],
)
def test_maps_that_begin_elsewhere_make_a_detector(levels, neck, sizes, batch):
    model = detector(Strided(levels), neck, rpn=ProposalStage(anchor_sizes=sizes))
    inputs, truth = batch
    outputs = model(inputs, training=True)
    assert next(iter(outputs.pyramid)) == f"p{levels[0]}"
    losses = model.compute_losses(truth, outputs)
    assert np.isfinite([float(ops.convert_to_numpy(loss)) for loss in losses.values()]).all()
    assert ops.convert_to_numpy(model(inputs).valid).any()


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((3, 4, 5), "5 sizes for the levels p3, p4, p5, p6; expected one for each"),
        ((2, 4), "got maps c2, c4; expected consecutive levels"),
    ],
)
def test_maps_that_do_not_suit_the_other_parts_are_told_in_one_line(levels, message):
    with pytest.raises(ValueError, match=message) as caught:
        detector(Strided(levels), fpn_tf.FeaturePyramid(8))
    assert "\n" not in str(caught.value)


def test_a_functional_model_with_maps_by_name_is_a_backbone(batch):
    source = net()
    maps = {f"c{k}": source.get_layer(f"relu{k}").output for k in (2, 3, 4, 5)}
    own = keras.Model(source.input, maps)
    model = detector(own, fpn_tf.FeaturePyramid(8))
    assert model.backbone is own
    assert ops.convert_to_numpy(model(batch[0]).valid).any()


# Dropout ------------------------------------------------------------------------------------------


@ON_TENSORFLOW
def test_dropout_draws_what_the_images_seeds_say_and_leaves_nothing_to_save(batch, tmp_path):
    from fpn_tf.training.step import seed_dropout

    model = detector(fpn_tf.backbone(net(dropout=0.5)), fpn_tf.FeaturePyramid(8))
    model.save_weights(tmp_path / "m.weights.h5")
    check_complete(model, tmp_path / "m.weights.h5")

    def map_for(seeds):
        seed_dropout(model, seeds)
        return np.array(model.backbone(noise(1, 64, 64, 3), training=True)["c5"])

    first, other, again = (map_for(np.array(seeds, np.int32)) for seeds in ([5, 6], [7, 6], [5, 9]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first == 0).any()


@ON_TENSORFLOW
@pytest.mark.slow
def test_each_replicas_dropout_follows_its_own_images():
    import tensorflow as tf

    from fpn_tf.training.step import seed_dropout

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    images, seeds = tf.constant(noise(1, 64, 64, 3)), np.array([5, 7], np.int32)
    with strategy.scope():
        model = net(dropout=0.5)

    def map_for(seed):
        seed_dropout(model, seed[None])
        return model(images, training=True)

    per_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(seeds)[context.replica_id_in_sync_group]
    )
    for _ in range(2):  # nothing is carried from step to step
        maps = strategy.experimental_local_results(
            tf.function(lambda s: strategy.run(map_for, args=(s,)))(per_replica)
        )
        for seed, expected in zip(seeds, maps, strict=True):
            np.testing.assert_allclose(map_for(tf.constant(seed)), expected, rtol=1e-5, atol=1e-4)
