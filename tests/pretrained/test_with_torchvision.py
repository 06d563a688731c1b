"""Beside torchvision itself, at the published settings: needs torch and torchvision.

    pip install torch torchvision && pytest -m slow tests/pretrained/test_with_torchvision.py

FPN_TF_PHOTOS=folder takes the photos of a folder (at most eight) instead of drawn ones.
"""

import glob
import json
import os
import pathlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")  # before TensorFlow, or it may crash

import seeded  # noqa: E402
from test_parity import places_of  # noqa: E402

import fpn_tf  # noqa: E402
from fpn_tf import modes, photos  # noqa: E402

GOLDENS = pathlib.Path(__file__).parent / "goldens"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def some_photos():
    folder = os.environ.get("FPN_TF_PHOTOS")
    if folder:
        return [photos.read_rgb(p) for p in sorted(glob.glob(f"{folder}/*.jpg"))[:8]]
    return [seeded.photo(number).repeat(3, axis=0).repeat(3, axis=1) for number in range(4)]


def compare(reference, model, threshold):
    reference.roi_heads.score_thresh = threshold
    for photo in some_photos():
        with torch.no_grad():
            [expected] = reference([torch.from_numpy(photo.copy()).permute(2, 0, 1) / 255])
        [found] = model.detect([photo])
        boxes, scores, labels = (expected[key].numpy() for key in ("boxes", "scores", "labels"))
        assert len(found.scores) == len(scores)
        order = places_of(boxes, found.boxes)
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
        assert np.abs(scores[order] - scores).max() < 1e-5
        np.testing.assert_array_equal(found.classes, labels[order])
        np.testing.assert_allclose(found.boxes, boxes[order], atol=0.01)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_there_and_back(name, tmp_path):
    golden = np.load(GOLDENS / f"torchvision_{name}.npz")
    classes, scales = (91 if name == "v1" else 4), json.loads(str(golden["scales"]))
    make = detection.fasterrcnn_resnet50_fpn if name == "v1" else detection.fasterrcnn_resnet50_fpn_v2

    def new():
        return make(weights=None, weights_backbone=None, num_classes=classes).eval()

    arrays = seeded.weights(json.loads(str(golden["shapes"])), scales)
    reference = new()
    reference.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    torch.save(reference.state_dict(), tmp_path / "model.pth")
    for threshold in (0.05, 0.0):
        model = fpn_tf.load(tmp_path / "model.pth", [f"eval.score_threshold={threshold}"])
        compare(reference, model, threshold)

    modes.import_weights(str(tmp_path / "model.pth"), tmp_path / "run", [])
    modes.export(tmp_path / "run", [], "newest", "torchvision")
    again = new()
    state = torch.load(tmp_path / "run" / "export" / "torchvision.pth", weights_only=True)
    again.load_state_dict(state, strict=True)
    compare(again, model, 0.0)
