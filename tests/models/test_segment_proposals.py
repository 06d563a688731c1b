import json

import keras
import numpy as np
import pytest
from backends import tensors_of
from commands import SMALL
from conftest import folder_overrides
from keras import ops

from fpn_tf import config
from fpn_tf.assemble import build
from fpn_tf.models.heads.segment import SegmentHead
from fpn_tf.models.segment_proposals import tight_boxes

SIZES = {"p2": (5, 7), "p3": (3, 4), "p4": (1, 2)}


def segment_config(settings, **changes):
    small = {
        "model.segment.canonical_size": 8.0,
        "model.segment.hidden_units": 16,
        "model.segment.samples": 32,
    }
    kind = {"model.kind": "segment_proposals", "data.segments": True, "model.segment.max_proposals": 40}
    return config.replace(settings, **(kind | small | changes))


@pytest.fixture
def segment_batch(batch):
    """The batch, its objects filling their boxes."""
    x, y = batch
    grids = np.zeros((2, 2, 64, 64), np.uint8)
    grids[:, :, 1:-1, 1:-1] = 255
    return x, y | {"segments": grids, "image_sizes": x["image_sizes"]}


@pytest.mark.parametrize("window", [5, 7])
def test_single_windows_have_the_numbers_of_the_whole_maps(window):
    random = np.random.default_rng(0)
    pyramid = {name: random.normal(size=(2, *size, 6)).astype("f") for name, size in SIZES.items()}
    head = SegmentHead(window, hidden_units=8, segment_size=3)
    head.build({name: value.shape for name, value in pyramid.items()})
    head.built = True
    for weight in head.weights:
        weight.assign(keras.random.normal(weight.shape, stddev=0.3, seed=1))
    whole = np.concatenate([ops.convert_to_numpy(s) for s in head(pyramid).values()], axis=1)
    assert whole.shape == (2, 35 + 12 + 2)
    cells = np.stack([np.random.default_rng(1).permutation(49)] * 2).astype("int32")
    scores, segments = head.at_cells(*tensors_of((pyramid, cells)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(scores), np.take_along_axis(whole, cells, 1), rtol=1e-4, atol=1e-5
    )
    hidden, bias = (ops.convert_to_numpy(x) for x in (head.hidden(pyramid["p2"]), head.segment.bias))
    for row, column in np.ndindex(3, 3):  # a segment's pixel is a 1x1 convolution on the same hidden layer
        kernel = ops.convert_to_numpy(head.segment.kernel)[..., row * 3 + column]
        level = (bias[row * 3 + column] + np.sum(hidden * kernel[0, 0], axis=-1)).reshape(2, -1)
        is_of_p2 = cells < 35
        expected = level[np.nonzero(is_of_p2)[0], cells[is_of_p2]]
        np.testing.assert_allclose(
            ops.convert_to_numpy(segments)[is_of_p2][:, row, column], expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("windows", [(5,), (7,), (5, 7)])
def test_proposals_are_the_highest_scores_inside_the_image(tiny_config, batch, windows):
    keras.utils.set_random_seed(0)
    model = build(segment_config(tiny_config, **{"model.segment.windows": windows}))
    x, _ = batch
    proposals = model(x)
    assert proposals.segments.shape == (2, 40, 14, 14)
    scores = ops.convert_to_numpy(proposals.scores)
    assert np.all(np.diff(scores, axis=1) <= 0)
    assert ops.convert_to_numpy(proposals.valid).all()
    pyramid = model.propose(x).pyramid
    every = np.concatenate(
        [ops.convert_to_numpy(s)[1] for h in model.segment_head.heads for s in h(pyramid).values()]
    )
    centers = ops.convert_to_numpy(model.segment_head.windows_on(pyramid).centers)
    every = every[np.all(centers < [80, 50], axis=1)]  # the second image is 50 x 80
    np.testing.assert_allclose(scores[1], 1 / (1 + np.exp(-np.sort(every)[::-1][:40])), rtol=1e-5)


def test_learns_a_batch(tiny_config, segment_batch):
    keras.utils.set_random_seed(0)
    model, (x, y) = build(segment_config(tiny_config)), segment_batch
    model.compile(keras.optimizers.Adam(0.004))
    first = model.train_on_batch(x, y, return_dict=True)
    assert set(first) == {"loss", "segment_score_loss", "segment_loss"}
    assert first["segment_loss"] == pytest.approx(10 * np.log(2), rel=0.1)
    for _ in range(20):
        model.train_on_batch(x, y)
    model.reset_metrics()
    last = model.train_on_batch(x, y, return_dict=True)
    assert last["segment_loss"] < 0.6 * first["segment_loss"]
    assert last["loss"] == pytest.approx(last["segment_score_loss"] + last["segment_loss"], rel=1e-5)


def test_boxes_are_tight_around_the_segments():
    segments = np.zeros((3, 4, 4), np.float32)
    segments[0, 1:3, 2] = 0.9
    segments[1] = 0.7
    regions = np.array([[0, 0, 8, 16], [4, 4, 8, 8], [1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(tight_boxes(regions, segments), [[4, 4, 6, 12], [4, 4, 8, 8], [1, 2, 3, 4]])


@pytest.mark.slow
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="main.py trains on TensorFlow")
def test_a_run_from_photos_to_recall(coco_folder, tmp_path, main_here):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    path.write_text(json.dumps(coco))
    model_dir = tmp_path / "run"
    overrides = [*SMALL, *folder_overrides(coco_folder), "model.kind=segment_proposals", "data.segments=true"]
    overrides += [
        "model.segment.canonical_size=8",
        "model.segment.hidden_units=16",
        "model.segment.max_proposals=40",
    ]
    status, out, err = main_here(
        "--experiment=coco_r50_fpn_1x", f"--model_dir={model_dir}", overrides=overrides
    )
    assert status == 0, err
    assert "score 0." in out
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    assert 0 <= metrics["AR1000"] <= 1
    results = json.loads((model_dir / "eval" / "detections.json").read_text())
    assert len(results) == 6 * 40
    assert not (model_dir / "eval" / "report.html").exists()  # which is of classes
    assert "report" not in out
    assert set(results[0]) == {"image_id", "category_id", "segmentation", "bbox", "score"}
    assert len(list((model_dir / "pictures").glob("*.png"))) == 2
    status, _, err = main_here("--mode=export", f"--model_dir={model_dir}")
    assert (status, err.count("\n")) == (1, 1)
    assert "model.kind=segment_proposals: expected faster_rcnn or rpn" in err
