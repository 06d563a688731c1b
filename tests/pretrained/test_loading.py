"""Files of detectors become models and model_dirs, whole or not at all."""

import pickle

import keras
import numpy as np
import pytest
from keras import ops

import fpn_tf
from fpn_tf import coco_classes, config
from fpn_tf.assemble import build
from fpn_tf.errors import CheckpointError, WeightsError
from fpn_tf.pretrained import detectron, detectron2, naming, torchvision
from fpn_tf.pretrained.backbone_files import load_backbone_weights
from fpn_tf.pretrained.loading import save_npz

SMALL = ["data.short_side=64", "data.max_side=96", "eval.score_threshold=0.0", "model.frozen_stages=0"]


def tiny(tiny_config, **changes):
    changes = {"model.num_classes": 2, "model.norm": "frozen_bn"} | changes
    keras.utils.set_random_seed(5)
    model = build(config.replace(tiny_config, **changes))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + rng.normal(size=weight.shape) * 0.05)
    return model


@pytest.fixture
def arrays(tiny_config):
    """A tiny detector's {torchvision's name: array}."""
    return naming.state_dict(tiny(tiny_config))


@pytest.fixture
def weights_file(arrays, tmp_path):
    np.savez(tmp_path / "weights.npz", **arrays)
    return tmp_path / "weights.npz"


def assert_same(model, arrays):
    for name, array in naming.state_dict(model).items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def test_load_reads_the_architecture_off_the_file(weights_file, arrays):
    model = fpn_tf.load(weights_file)
    assert_same(model, arrays)
    found = model.config.model
    assert (found.backbone, found.num_classes, found.neck_channels) == ("resnet_tiny", 2, 16)
    assert (found.roi.hidden_units, found.roi.pool_size, found.norm) == (32, 7, "frozen_bn")
    assert model.config.data.resize == "torchvision"
    assert torchvision.unlike(model.config) == {}
    other = config.replace(model.config, **{"model.pixel_order": "bgr", "model.rpn.anchor_sizes": (8,) * 5})
    assert set(torchvision.unlike(other)) == {"pixel_order", "rpn.anchor_sizes"}


@pytest.mark.parametrize(
    "changes",
    [
        {"model.norm": "sync_bn", "model.neck_norm": "sync_bn", "model.rpn.conv_layers": 2},
        {"model.roi.conv_layers": 2, "model.roi.fc_layers": 1, "model.roi.norm": "frozen_bn"},
        {"model.norm": "group_norm", "model.neck_norm": "group_norm", "model.roi.pool_size": 5},
    ],
)
def test_other_parts_are_recognized(tiny_config, tmp_path, changes):
    source = tiny(tiny_config, **changes)
    np.savez(tmp_path / "w.npz", **naming.state_dict(source))
    model = fpn_tf.load(tmp_path / "w.npz")
    assert_same(model, naming.state_dict(source))
    for key, value in changes.items():
        section, *rest = key.removeprefix("model.").split(".")
        found = getattr(model.config.model, section)
        assert (getattr(found, rest[0]) if rest else found) == value


def test_names_of_old_torchvision(arrays, tmp_path):
    old = {}
    for name, array in arrays.items():
        name = name.replace("blocks.0.0.", "blocks.0.").replace("conv.0.0.", "conv.")
        for i in (1, 2, 3):
            name = name.replace(f"blocks.{i}.0.", f"blocks.{i}.")
        old[name] = array
    assert "rpn.head.conv.weight" in old
    np.savez(tmp_path / "old.npz", **old)
    assert_same(fpn_tf.load(tmp_path / "old.npz"), arrays)


def test_every_tensor_is_accounted_for(arrays, tmp_path):
    arrays["backbone.body.layer2.0.extra"] = np.zeros((2, 3), np.float32)
    del arrays["backbone.body.layer3.0.bn1.bias"]
    arrays["rpn.head.cls_logits.bias"] = np.zeros(5, np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError) as caught:
        fpn_tf.load(tmp_path / "w.npz")
    told = str(caught.value)
    assert "backbone.body.layer3.0.bn1.bias (128,) is missing" in told
    assert "rpn.head.cls_logits.bias is (5,), expected (3,)" in told
    assert "backbone.body.layer2.0.extra (2, 3) is left over" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"x": np.zeros(1)}, "holds x, ...; expected a detector"),
        (
            lambda a: {k.removeprefix("backbone.body."): v for k, v in a.items() if "body" in k},
            "backbone alone",
        ),
        (lambda a: {k: v for k, v in a.items() if "layer2" not in k}, r"\(1, 0, 1, 1\) basic blocks"),
        (lambda a: a | {"rpn.head.cls_logits.weight": np.zeros((9, 16, 1, 1))}, "9 anchors in a cell"),
    ],
)
def test_files_of_other_kinds(arrays, tmp_path, change, message):
    np.savez(tmp_path / "w.npz", **change(arrays))
    with pytest.raises(WeightsError, match=message):
        fpn_tf.load(tmp_path / "w.npz")


def test_our_own_files(tiny_config, tmp_path):
    model = tiny(tiny_config)
    save_npz(model, tmp_path / "own.npz")
    assert fpn_tf.load(tmp_path / "own.npz").config == model.config
    model.save_weights(tmp_path / "m.weights.h5")
    config.save(model.config, tmp_path / "config.json")
    for name in ("own.npz", "m.weights.h5"):
        assert_same(fpn_tf.load(tmp_path / name), naming.state_dict(model))
    (tmp_path / "m.weights.h5").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"m.weights.h5: does not fit"):
        fpn_tf.load(tmp_path / "m.weights.h5")


# Other libraries -----------------------------------------------------------------------------


def as_detectron2(arrays):
    """Torchvision's names written as Detectron2's, background last and without a box."""
    renamed = {}
    for name, array in arrays.items():
        part = name.split(".")
        if name.startswith("backbone.body."):
            at = "stem" if part[2] in ("conv1", "bn1") else f"res{int(part[2][-1]) + 1}.{part[3]}"
            rest = part[2:] if at == "stem" else part[4:]
            if rest[0] == "downsample":
                rest = ["shortcut", *(["norm"] if rest[1] == "1" else []), rest[2]]
            elif rest[0].startswith("bn"):
                rest = [f"conv{rest[0][2:]}", "norm", rest[1]]
            name = f"backbone.bottom_up.{at}.{'.'.join(rest)}"
        elif name.startswith("backbone.fpn."):
            kind = "lateral" if part[2].startswith("inner") else "output"
            name = f"backbone.fpn_{kind}{int(part[3]) + 2}.{part[5]}"
        elif name.startswith("rpn.head."):
            layer = {"conv": "conv", "cls_logits": "objectness_logits", "bbox_pred": "anchor_deltas"}[part[2]]
            name = f"proposal_generator.rpn_head.{layer}.{part[-1]}"
        name = name.replace("fc6", "fc1").replace("fc7", "fc2")
        if "cls_score" in name:
            array = np.roll(array, -1, axis=0)
        elif "box_predictor.bbox_pred" in name:
            array = array[4:]
        renamed[name] = array
    return renamed


def as_detectron(arrays):
    """Torchvision's names written as Detectron's blobs, batch norms as factor and offset."""
    blobs = {"lr": np.zeros(1), "conv1_w_momentum": np.zeros(3), "fc1000_w": np.zeros(1)}
    for name, array in arrays.items():
        part, kind = name.split("."), {"weight": "w", "bias": "b"}.get(name.rsplit(".", 1)[1])
        if kind is None:
            continue  # mean 0 and variance 1
        if name.startswith("backbone.body.layer"):
            stage, block, conv = int(part[2][-1]) + 1, part[3], part[4]
            branch = "branch1" if conv == "downsample" else f"branch2{'abc'[int(conv[-1]) - 1]}"
            norm = conv.startswith("bn") or part[5] == "1"
            end = f"bn_{'s' if kind == 'w' else 'b'}" if norm else kind
            blobs[f"res{stage}_{block}_{branch}_{end}"] = array
        elif name.startswith("backbone.body."):
            blobs["conv1_w" if part[2] == "conv1" else f"res_conv1_bn_{'s' if kind == 'w' else 'b'}"] = array
        elif name.startswith("backbone.fpn."):
            stage = int(part[3]) + 2
            if part[2] == "inner_blocks":
                blobs[f"fpn_inner_res{stage}_0_sum{'_lateral' if stage < 5 else ''}_{kind}"] = array
            else:
                blobs[f"fpn_res{stage}_0_sum_{kind}"] = array
        elif name.startswith("rpn.head."):
            layer = {"conv": "conv_rpn", "cls_logits": "rpn_cls_logits", "bbox_pred": "rpn_bbox_pred"}[
                part[2]
            ]
            blobs[f"{layer}_fpn2_{kind}"] = array
        else:
            blobs[f"{part[-2]}_{kind}"] = array
    return blobs


def without_moments(arrays):
    """The arrays with mean 0 and variance 1 in every norm."""
    fixed = {}
    for name, array in arrays.items():
        fixed[name] = np.zeros_like(array) if name.endswith("mean") else array
        if name.endswith("var"):
            fixed[name] = np.ones_like(array)
    return fixed


def test_detectron2(arrays, tmp_path):
    extras = {
        "pixel_mean": np.array([1.0, 2, 3]).reshape(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": np.array([[-8.0, -4, 8, 4], [-4, -8, 4, 8]]),
    }
    for i in range(1, 5):
        name = "proposal_generator.anchor_generator.cell_anchors"
        extras[f"{name}.{i}"] = extras[f"{name}.0"] * 2**i
    arrays["rpn.head.cls_logits.weight"] = arrays["rpn.head.cls_logits.weight"][:2]
    arrays["rpn.head.cls_logits.bias"] = arrays["rpn.head.cls_logits.bias"][:2]
    arrays["rpn.head.bbox_pred.weight"] = arrays["rpn.head.bbox_pred.weight"][:8]
    arrays["rpn.head.bbox_pred.bias"] = arrays["rpn.head.bbox_pred.bias"][:8]
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": as_detectron2(arrays) | extras}))
    model = fpn_tf.load(tmp_path / "w.pkl")
    assert_same(model, arrays)
    found = model.config.model
    assert found.pixel_mean == (1, 2, 3)
    assert found.rpn.anchor_ratios == (0.5, 2.0)
    np.testing.assert_allclose(found.rpn.anchor_sizes, 128**0.5 * 2.0 ** np.arange(5), atol=1e-3)
    assert (found.stride_in_1x1, found.pixel_order, found.roi.sampling_ratio) == (True, "bgr", 0)
    wrong = as_detectron2(arrays)
    wrong[f"{detectron2.BOXES}weight"] = wrong[f"{detectron2.BOXES}weight"][:4]
    with pytest.raises(WeightsError, match="class-agnostic"):
        detectron2.convert(wrong, "w.pkl")


def test_detectron2_from_the_weights_of_torchvision(arrays):
    """Its runs from torchvision's ImageNet weights read red first and stride in the 3x3."""
    pixels = {
        "pixel_mean": np.array([123.675, 116.28, 103.53]),
        "pixel_std": np.array([58.395, 57.12, 57.375]),
    }
    model = detectron2.convert(as_detectron2(arrays) | pixels, "file")[0].model
    assert (model.pixel_order, model.stride_in_1x1) == ("rgb", False)
    assert model.pixel_std == (58.395, 57.12, 57.375)


def test_detectron(arrays, tmp_path):
    expected = without_moments(arrays)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"blobs": as_detectron(arrays), "cfg": "text"}, protocol=2))
    model = fpn_tf.load(tmp_path / "w.pkl")
    assert_same(model, expected)
    found = model.config.model
    assert (found.norm_epsilon, found.rpn.anchor_rounding, found.roi.inclusive) == (0.0, "detectron", True)
    arrays["backbone.body.conv1.bias"] = np.full(32, 2.0, np.float32)
    blobs = as_detectron(arrays) | {"conv1_b": arrays["backbone.body.conv1.bias"]}
    renamed = detectron.rename(blobs)
    np.testing.assert_array_equal(renamed["backbone.body.bn1.running_mean"], -2 * np.ones(32))
    assert "backbone.body.conv1.bias" not in renamed


def test_detectron_backbone_needs_its_convention(arrays, tiny_config, tmp_path):
    blobs = {k: v for k, v in as_detectron(arrays).items() if not k.startswith(("fpn", "conv_rpn", "rpn"))}
    blobs = {k: v for k, v in blobs.items() if not k.startswith(("fc6", "fc7", "cls", "bbox"))}
    path = tmp_path / "R.pkl"
    path.write_bytes(pickle.dumps(blobs))
    changes = {"model.backbone_weights": str(path), "model.norm": "frozen_bn"}
    settings = config.replace(tiny_config, **changes)
    model = build(settings)
    with pytest.raises(WeightsError, match="need model.pixel_order=bgr"):
        load_backbone_weights(model.backbone, settings.model)
    right = {"model.pixel_order": "bgr", "model.pixel_std": (1.0, 1.0, 1.0)}
    load_backbone_weights(model.backbone, config.replace(settings, **right).model)
    stem = ops.convert_to_numpy(model.backbone.stem.kernel).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(stem, arrays["backbone.body.conv1.weight"])


def test_the_backbone_of_a_detector(arrays, tiny_config, tmp_path, weights_file):
    right = {"model.backbone_weights": str(weights_file), "model.norm": "frozen_bn"}
    settings = config.replace(tiny_config, **right)
    model = build(settings)
    before = naming.state_dict(model)
    load_backbone_weights(model.backbone, settings.model)
    for name, array in naming.state_dict(model).items():
        expected = arrays if name.startswith("backbone.body.") else before
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    np.savez(tmp_path / "half.npz", **{k: v for k, v in arrays.items() if "layer3" not in k})
    settings = config.replace(settings, **{"model.backbone_weights": str(tmp_path / "half.npz")})
    with pytest.raises(WeightsError, match=r"half.npz and ResNet-tiny: .*layer3.0.conv1.weight .* missing"):
        load_backbone_weights(model.backbone, settings.model)


def test_coco_classes():
    assert coco_classes.WITHOUT_GAPS == 80
    assert coco_classes.settings(3) == {}
    assert coco_classes.settings(80)["data.category_ids"][11:13] == (13, 14)
    assert coco_classes.settings(90)["data.class_names"][11] == "unused 12"
    assert coco_classes.settings(90)["data.class_names"][12] == "stop sign"


def test_an_rpn_alone(arrays, tmp_path):
    alone = {k: v for k, v in as_detectron2(arrays).items() if "roi_heads" not in k}
    (tmp_path / "rpn.pkl").write_bytes(pickle.dumps({"model": alone}))
    model = fpn_tf.load(tmp_path / "rpn.pkl", ["data.short_side=64", "data.max_side=96"])
    assert isinstance(model, fpn_tf.RPN)
    assert not isinstance(model, fpn_tf.FasterRCNN)
    assert_same(model, arrays)
    [found] = model.detect([np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)])
    assert set(found.classes) == {1}
    assert np.all(np.diff(found.scores) <= 0)
    assert 0 < len(found.scores) <= model.max_detections == 1000
