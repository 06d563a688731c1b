"""The detectors compute what torchvision's and Detectron2's compute: recorded outputs, seeded weights."""

import json
import pathlib
import pickle

import keras
import numpy as np
import pytest
import seeded
from keras import ops

import fpn_tf
from fpn_tf import config, photos
from fpn_tf.pretrained import naming

GOLDENS = pathlib.Path(__file__).parent / "goldens"
SIZES = [f"data.short_side={seeded.SHORT_SIDE}", f"data.max_side={seeded.MAX_SIDE}"]
FAMILIES = (
    "torchvision_resnet18",
    "torchvision_v2",
    "detectron2_r50",
    "torchvision_v1",
    "detectron2_x50",
    "detectron2_x101",
)
pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="minutes elsewhere")


def all_but_the_first_slow(count):
    """The families as a test's parameters; those after the first `count` are slow."""
    return [*FAMILIES[:count], *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[count:])]


@pytest.fixture(scope="module", params=all_but_the_first_slow(3))
def case(request, tmp_path_factory):
    """(golden, its weights as they were drawn, the detector loaded from a file of them)."""
    golden = np.load(GOLDENS / f"{request.param}.npz")
    arrays = seeded.weights(json.loads(str(golden["shapes"])), json.loads(str(golden["scales"])))
    folder = tmp_path_factory.mktemp(request.param)
    if request.param.startswith("detectron2"):
        path = folder / "model_final.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    else:
        path = folder / "model.npz"
        np.savez(path, **arrays)
    return golden, arrays, fpn_tf.load(path, SIZES)


def close(found, expected):
    found = ops.convert_to_numpy(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_every_stage(case):
    golden, _, model = case
    data = model.config.data
    photo = seeded.photo(0)
    size = photos.resized_size(photo.shape[:2], data.short_side, data.max_side, data.resize)
    image = photos.on_canvas(photos.resize(photo, size, data.resize), photos.canvas_size(size))
    maps = model.backbone(model.preprocessor.normalize(image[None], np.array([size], np.int32)))
    pyramid = model.neck(maps)
    logits, deltas = model.rpn.head(pyramid)
    for level in (2, 3, 4, 5, 6):
        if level < 6:
            close(seeded.sample(ops.convert_to_numpy(maps[f"c{level}"])), golden[f"c{level}"])
        close(seeded.sample(ops.convert_to_numpy(pyramid[f"p{level}"])), golden[f"p{level}"])
        close(seeded.sample(ops.convert_to_numpy(logits[f"p{level}"])), golden[f"logits{level}"])
        close(seeded.sample(ops.convert_to_numpy(deltas[f"p{level}"])), golden[f"deltas{level}"])

    scores, boxes = model.box_head.predict(pyramid, np.array([seeded.ROIS], np.float32))
    wanted_scores, wanted_boxes = golden["scores"], golden["boxes"]
    if model.config.data.resize == "detectron2":  # background is its last class and has no box
        wanted_scores = np.roll(wanted_scores, 1, axis=1)
    else:
        wanted_boxes = wanted_boxes[:, 4:]
    close(scores[0], wanted_scores)
    close(ops.reshape(boxes[0], [len(seeded.ROIS), -1]), wanted_boxes)


@pytest.mark.parametrize("case", all_but_the_first_slow(1), indirect=True)
@pytest.mark.parametrize("threshold", [0.0, pytest.param(0.05, marks=pytest.mark.slow)])
def test_detections_in_order(case, threshold):
    golden, _, model = case
    settings = config.override(model.config, [f"eval.score_threshold={threshold}"])
    detector = fpn_tf.build(settings)
    detector.set_weights(model.get_weights())
    # Convolutions on 1000 RoIs take seconds a photo: a landscape and a portrait do.
    for number in range(2 if settings.model.roi.conv_layers else len(seeded.PHOTO_SIZES)):
        [found] = detector.detect([seeded.photo(number)])
        boxes, scores, labels = (golden[f"{k}_{threshold}_{number}"] for k in ("boxes", "scores", "labels"))
        assert len(found.scores) == len(scores) > 20
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
        order = places_of(boxes, found.boxes)
        assert np.abs(scores[order] - scores).max() < 1e-5  # equal scores may change places
        first = 0 if settings.data.resize == "detectron2" else 1  # number of the first class
        np.testing.assert_array_equal(found.classes, detector.category_ids(labels[order] - first + 1))
        np.testing.assert_allclose(found.boxes, boxes[order], atol=0.01)


def places_of(boxes, found):
    """For every found box the number of the one among `boxes` that it is, each taken once."""
    distance = np.abs(found[:, None] - boxes[None]).max(axis=-1)
    order = []
    for row in distance:
        row = np.where(np.isin(np.arange(len(row)), order), np.inf, row)
        order.append(int(np.argmin(row)))
    return np.array(order)


def test_weights_are_written_back_as_they_were_read(case):
    _, arrays, model = case
    written = naming.state_dict(model)
    if model.config.data.resize == "detectron2":
        assert len(written) == len(arrays)
        return
    assert written.keys() == arrays.keys()
    for name, array in written.items():
        expected = arrays[name].copy()
        if "box_predictor.bbox_pred" in name:
            expected[:4] = 0  # background's, which nothing reads
        np.testing.assert_array_equal(array, expected, err_msg=name)
        assert array.dtype == expected.dtype


def test_configuration_comes_with_the_weights(case, request):
    _, _, model = case
    settings = model.config.model
    wanted = {
        "torchvision_resnet18": ("resnet18", 2, "frozen_bn", ""),
        "torchvision_v1": ("resnet50", 90, "sync_bn", ""),
        "torchvision_v2": ("resnet50", 3, "sync_bn", "sync_bn"),
        "detectron2_r50": ("resnet50", 5, "frozen_bn", ""),
        "detectron2_x50": ("resnext50_32x4d", 5, "frozen_bn", ""),
        "detectron2_x101": ("resnext101_32x8d", 80, "frozen_bn", ""),
    }[request.node.callspec.params["case"]]
    assert (settings.backbone, settings.num_classes, settings.norm, settings.neck_norm) == wanted
    if settings.num_classes in (80, 90):
        names = dict(zip(model.config.data.category_ids, model.config.data.class_names))
        assert (names[1], names[90]) == ("person", "toothbrush")
