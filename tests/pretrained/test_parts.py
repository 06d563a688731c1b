import numpy as np
import pytest

from fpn_tf import config
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints, write_model
from fpn_tf.errors import CheckpointError
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
