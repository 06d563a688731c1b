import dataclasses

import keras
import numpy as np
import pytest
from conftest import make_tiny_config

import fpn_tf
from fpn_tf import config
from fpn_tf.assemble import build, parts_of
from fpn_tf.checkpoint import Checkpoints, write_model
from fpn_tf.errors import CheckpointError
from fpn_tf.pretrained import naming, parts
from fpn_tf.pretrained.loading import load, save_npz
from fpn_tf.pretrained.parts import copy_parts, joined, rpn_of, start_from

FILES = {"data.train_proposals": "train.npz", "data.eval_proposals": "eval.npz"}


def make_run(folder, settings, **changes):
    """A model_dir with random weights. Returns: the model."""
    settings = config.replace(settings, **changes)
    model = build(settings)
    config.save(settings, folder / "config.json")
    Checkpoints(folder).save(3, lambda beside: write_model(model, beside))
    return model


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def test_what_both_have_is_copied_and_nothing_else(tiny_config, tmp_path):
    fast = make_run(tmp_path / "fast", tiny_config, **{"model.kind": "fast_rcnn"}, **FILES)
    rpn = build(config.replace(tiny_config, **{"model.kind": "rpn"}))
    head = rpn.rpn.get_weights()
    assert not same(fast.backbone, rpn.backbone)
    told = start_from(rpn, tmp_path / "fast")
    assert told == f"starting with backbone, neck of {tmp_path / 'fast'} (step 3)"
    assert same(fast.backbone, rpn.backbone)
    assert same(fast.neck, rpn.neck)
    for before, after in zip(head, rpn.rpn.get_weights()):
        np.testing.assert_array_equal(before, after)


NAMES = {"data.class_names": ("a", "b", "c"), "data.category_ids": (1, 2, 3)}


@pytest.fixture(scope="module")
def pair():
    """Two models of one network: one that was trained, and one that begins with it."""
    settings = config.replace(make_tiny_config(), **NAMES)
    return build(settings), build(settings)


@pytest.fixture
def begin(pair, monkeypatch):
    """Begins with the first model under changes of the config: (the model before, it, the note)."""

    def begin(changes):
        source, model = pair
        if "model.num_classes" in changes:
            model = build(config.replace(source.config, **changes))
        monkeypatch.setattr(parts, "load_model_dir", lambda path: (source.config, source, 3))
        monkeypatch.setattr(model, "config", config.replace(source.config, **changes))
        order = changes.get("model.pixel_order", "rgb")
        shown = dataclasses.replace(source.preprocessor, pixel_order=order)
        monkeypatch.setattr(model, "preprocessor", shown)
        for weight in model.weights:
            weight.assign(weight + 1)
        before = naming.state_dict(model)
        return before, model, start_from(model, "first")

    return begin


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, ""),
        ({"model.num_classes": 5}, "; the predictor is new: 5 classes, not their 3"),
        ({"data.class_names": ("a", "b", "d")}, "; the predictor is new: 3 other classes"),
        ({"data.class_names": ("b", "a", "c")}, "; the predictor is new: 3 other classes"),
    ],
)
def test_other_classes_begin_with_all_but_the_predictor(pair, begin, changes, note):
    before, model, told = begin(changes)
    assert told == f"starting with backbone, neck, rpn, box_head of first (step 3){note}"
    theirs = naming.state_dict(pair[0])
    for name, array in naming.state_dict(model).items():
        is_new = bool(note) and "box_predictor" in name
        np.testing.assert_array_equal(array, (before if is_new else theirs)[name], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.pixel_order": "bgr"}, "has model.pixel_order=rgb, this run asks for bgr"),
        ({"model.stride_in_1x1": True}, "has model.stride_in_1x1=False, this run asks for True"),
        ({"model.rpn.anchor_sizes": (9, 16, 32, 64, 96)}, r"has model.rpn.anchor_sizes=\(8.*asks for \(9"),
        ({"model.roi.aligned": False}, "has model.roi.aligned=True, this run asks for False"),
    ],
)
def test_weights_that_would_mean_something_else_are_refused(begin, changes, message):
    with pytest.raises(CheckpointError, match=f"first: {message}"):
        begin(changes)


def test_settings_under_which_weights_mean_the_same_may_change(begin):
    free = {"model.frozen_stages": 2, "model.rpn.samples": 16, "model.roi.foreground_fraction": 0.5}
    assert "the predictor" not in begin(free)[2]


def test_of_a_part_that_the_other_model_lacks_nothing_is_asked(pair, monkeypatch):
    source, model = pair
    rpn = rpn_of(model)
    changes = {"model.kind": "rpn", "model.roi.aligned": False}
    monkeypatch.setattr(rpn, "config", config.replace(model.config, **changes))
    monkeypatch.setattr(parts, "load_model_dir", lambda path: (source.config, source, 3))
    assert start_from(rpn, "first") == "starting with backbone, neck, rpn of first (step 3)"


def test_further_heads_are_taken_where_their_shapes_agree(tiny_config, tmp_path):
    class Tint(fpn_tf.Head):
        def __init__(self, count, **kwargs):
            super().__init__(**kwargs)
            self.layer = keras.layers.Dense(count)
            self.layer.build((None, 4))

        def predict(self, pyramid, boxes, training=False):
            return {self.name: self.layer(boxes)}

    def detector(counts):
        heads = [Tint(count, name=name) for name, count in counts.items()]
        model = fpn_tf.FasterRCNN(**parts_of(tiny_config), heads=heads)
        model.config = tiny_config
        return model

    source, model = detector({"kept": 2, "wider": 3}), detector({"kept": 2, "wider": 4})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "load_model_dir", lambda path: (tiny_config, source, 7))
        told = start_from(model, "first")
    assert told.endswith("rpn, box_head, kept of first (step 7); new as well, of another shape: wider")
    assert same(source.heads[0], model.heads[0])


def test_another_shape_is_refused_whole(tiny_config):
    wide = build(config.replace(tiny_config, **{"model.kind": "rpn", "model.neck_channels": 24}))
    model = build(tiny_config)
    before = model.get_weights()
    with pytest.raises(CheckpointError, match="there: its neck has another shape"):
        copy_parts(wide, model, "there")
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_the_rpn_of_a_detector(tiny_config, batch):
    model = build(tiny_config)
    x, _ = batch
    proposals = model.propose(x).proposals
    found = rpn_of(model)(x)
    np.testing.assert_array_equal(np.asarray(found.boxes), np.asarray(proposals.boxes))
    with pytest.raises(CheckpointError, match="fast_rcnn: has no RPN"):
        rpn_of(build(config.replace(tiny_config, **{"model.kind": "fast_rcnn"}, **FILES)))


def test_two_that_share_their_trunk_are_joined(tiny_config, tmp_path, batch):
    rpn = make_run(tmp_path / "rpn", tiny_config, **{"model.kind": "rpn", "model.rpn.nms_threshold": 0.6})
    settings = {"model.kind": "fast_rcnn", "train.freeze": ("backbone", "neck")} | FILES
    make_run(tmp_path / "other", tiny_config, **settings)
    with pytest.raises(CheckpointError, match="backbone differs; expected the same, frozen"):
        joined(tmp_path / "rpn", tmp_path / "other")
    deeper = {"model.backbone": "resnet18"}
    make_run(tmp_path / "deeper", tiny_config, **settings, **deeper)
    with pytest.raises(CheckpointError, match="backbone differs"):
        joined(tmp_path / "rpn", tmp_path / "deeper")
    with pytest.raises(CheckpointError, match="model.kind=fast_rcnn: expected rpn"):
        joined(tmp_path / "other", tmp_path / "rpn")
    fast = make_run(tmp_path / "fast", tiny_config, **settings, **{"train.initial_model_dir": "rpn"})
    copy_parts(rpn, fast, "rpn")
    Checkpoints(tmp_path / "fast").save(4, lambda beside: write_model(fast, beside))
    model = joined(tmp_path / "rpn", tmp_path / "fast")
    assert model.config.model.kind == "faster_rcnn"
    assert model.config.model.rpn.nms_threshold == 0.6
    assert model.config.train.freeze == ()
    x, _ = batch
    found = rpn(x)
    x_fast = x | {"proposal_boxes": np.asarray(found.boxes), "proposal_valid": np.asarray(found.valid)}
    for a, b in zip(model(x)[:4], fast(x_fast)[:4]):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.neck": "c4", "model.roi.head": "conv5", "model.roi.pool_size": 14},
        {"model.neck": "c5"},
        {"model.neck": "bottom_up", "model.rpn.shared_head": False},
        {"model.neck": "top_down"},
        {"model.neck": "finest"},
    ],
)
def test_every_neck_passes_through_an_npz(tiny_config, tmp_path, changes):
    model = build(config.replace(tiny_config, **changes))
    save_npz(model, tmp_path / "detector.npz")
    again = load(tmp_path / "detector.npz")
    assert again.config == model.config
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
