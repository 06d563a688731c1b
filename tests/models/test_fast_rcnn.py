import keras
import numpy as np
import pytest
from keras import ops

from fpn_tf import build, config
from fpn_tf.models.fast_rcnn import fixed
from fpn_tf.models.heads.conv5 import Conv5Head

FILES = {"data.train_proposals": "train.npz", "data.eval_proposals": "eval.npz"}
CONV5 = {"model.neck": "c4", "model.roi.head": "conv5", "model.roi.pool_size": 14}


def fast_config(tiny_config, **changes):
    return config.replace(tiny_config, **{"model.kind": "fast_rcnn"}, **FILES, **changes)


def with_proposals(x, model):
    """x with the proposals that an RPN has on it."""
    boxes, _, valid, _ = model.propose(x).proposals
    return x | {"proposal_boxes": ops.convert_to_numpy(boxes), "proposal_valid": ops.convert_to_numpy(valid)}


def test_given_the_rpns_own_proposals_it_is_the_faster_rcnn(tiny_config, batch):
    faster = build(tiny_config)
    fast = build(fast_config(tiny_config))
    for part in ("backbone", "neck", "box_head"):
        getattr(fast, part).set_weights(getattr(faster, part).get_weights())
    x, y = batch
    for a, b in zip(fast(with_proposals(x, faster))[:4], faster(x)[:4]):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-5)
    losses = fast.compute_losses(y, fast(with_proposals(x, faster), training=True))
    assert set(losses) == {"head_class_loss", "head_box_loss"}
    assert ops.convert_to_numpy(losses["head_class_loss"]) > 0


def test_detections_lie_in_the_photo_and_none_come_from_no_proposals(tiny_config):
    model = build(fast_config(tiny_config))
    photo = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)  # shown at half
    boxes = np.array([[10, 10, 90, 100], [100, 30, 190, 120]], np.float32)
    some, none = model.detect([photo, photo], [boxes, np.zeros((0, 4))])
    assert len(none.scores) == 0 < len(some.scores)
    centers = (some.boxes[:, :2] + some.boxes[:, 2:]) / 2
    near = np.abs(centers[:, None] - ((boxes[:, :2] + boxes[:, 2:]) / 2)[None]).max(axis=2).min(axis=1)
    assert near.max() < 10  # random deltas are small: no box strays from its proposal
    with pytest.raises(ValueError, match="zip"):
        model.detect([photo], [])


def test_fixed_pads_no_boxes_to_one():
    x = fixed(np.zeros((0, 4)))
    assert x["proposal_boxes"].shape == (1, 1, 4)
    assert not x["proposal_valid"].any()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(CONV5 | {"model.roi.pooling": "max"}, marks=pytest.mark.slow),  # as in Table 2 (a)
        pytest.param(CONV5, marks=pytest.mark.slow),
        pytest.param({"model.roi.pooling": "max"}, marks=pytest.mark.slow),
        pytest.param({"model.neck": "finest"}, marks=pytest.mark.slow),
    ],
)
def test_variants_learn_and_are_saved(tiny_config, batch, changes, tmp_path):
    keras.utils.set_random_seed(0)
    model = build(fast_config(tiny_config, **changes))
    x, y = batch
    x = x | {
        "proposal_boxes": np.array(
            [[[2, 2, 32, 44], [48, 8, 88, 62]], [[12, 10, 58, 50], [0, 0, 0, 0]]], "f"
        ),
        "proposal_valid": np.array([[True, True], [True, False]]),
    }
    model.compile(keras.optimizers.SGD(0.002, momentum=0.9))
    losses = [model.train_on_batch(x, y)[0] for _ in range(12)]  # each the mean of all so far
    assert losses[-1] < 0.9 * losses[0]
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for a, b in zip(model(x)[:4], again(x)[:4]):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6)


def test_conv5_head_is_the_backbones_fifth_stage(tiny_config, batch):
    """On the whole map of c4 as its only RoI, the head averages what the ResNet makes of it."""
    keras.utils.set_random_seed(0)
    whole = build(config.replace(tiny_config, **{"model.kind": "rpn"})).backbone
    head = Conv5Head(2, whole.get_config())
    maps = whole(np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32"))
    head.build((None, None, *maps["c4"].shape[1:]))
    for mine, theirs in zip(head.stage, whole.stages[-1], strict=True):
        mine.set_weights(theirs.get_weights())
    hidden = head.hidden(maps["c4"], training=False)
    expected = np.mean(ops.convert_to_numpy(maps["c5"]), axis=(1, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(hidden), expected, rtol=1e-5, atol=1e-6)


def test_frozen_parts_do_not_learn(tiny_config, batch):
    model = build(config.replace(tiny_config, **{"train.freeze": ("backbone", "neck")}))
    names = {v.path.split("/")[1] for v in model.trainable_variables}
    assert names == {"rpn", "box_head"}
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)  # one step is not worth a trace
    parts = {part: getattr(model, part) for part in config.PARTS}
    before = {part: layer.get_weights() for part, layer in parts.items()}
    model.train_on_batch(*batch)
    changed = {
        part: any(not np.array_equal(a, b) for a, b in zip(before[part], layer.get_weights()))
        for part, layer in parts.items()
    }
    assert changed == {"backbone": False, "neck": False, "rpn": True, "box_head": True}


def test_a_fast_rcnn_wants_files_and_no_other_does(tiny_config):
    with pytest.raises(config.ConfigError, match="data.train_proposals=: expected one"):
        config.replace(tiny_config, **{"model.kind": "fast_rcnn"}).validate()
    with pytest.raises(config.ConfigError, match="data.train_proposals=train.npz"):
        config.replace(tiny_config, **FILES).validate()
