"""The SavedModel, in a process that has TensorFlow and not fpn_tf."""

import io
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image

from fpn_tf import ConfigError, FasterRCNN, Preprocessor, build, config, photos
from fpn_tf.exporting.saved_model import export

CLIENT = """
import sys
sys.modules["fpn_tf"] = None
import numpy as np, tensorflow as tf
folder, out, *files = sys.argv[1:]
model = tf.saved_model.load(folder)
data = tf.constant([open(f, "rb").read() for f in files])
found = model.signatures["serving_default"](image_bytes=data)
tensor = tf.constant(np.load(out + "/tensor.npy"))
other = model.signatures["image_tensor"](image_tensor=tensor)
np.savez(out + "/bytes.npz", **{k: v.numpy() for k, v in found.items()})
np.savez(out + "/tensor.npz", **{k: v.numpy() for k, v in other.items()})
"""


def check(found, photo_list, model):
    names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    assert set(found) == set(names)
    limit = model.config.eval.max_detections
    assert found["detection_boxes"].shape == (len(photo_list), limit, 4)
    assert all(np.isfinite(found[name]).all() for name in names)
    for i, expected in enumerate(model.detect(photo_list)):
        count = found["num_detections"][i]
        assert count == len(expected.scores) > 0
        np.testing.assert_array_equal(found["detection_classes"][i, :count], expected.classes)
        np.testing.assert_allclose(found["detection_scores"][i, :count], expected.scores, atol=1e-4)
        np.testing.assert_allclose(found["detection_boxes"][i, :count], expected.boxes, atol=0.05)
        assert not found["detection_boxes"][i, count:].any()
        assert not found["detection_classes"][i, count:].any()


def test_it_serves_what_detect_gives(tiny_config, tmp_path, monkeypatch):
    traces, propose = [], FasterRCNN.propose
    monkeypatch.setattr(FasterRCNN, "propose", lambda *a, **k: traces.append(1) or propose(*a, **k))
    keras.utils.set_random_seed(0)
    settings = config.replace(tiny_config, **{"data.category_ids": (7, 3, 90)})
    model = build(settings)
    # A large head and classifier make the random scores differ clearly.
    model.box_head.head.classifier.kernel.assign(model.box_head.head.classifier.kernel * 30)
    rng = np.random.default_rng(0)
    files = []  # of the size that the net sees: tests/test_preprocessing.py compares the resizing
    for i, (size, kind) in enumerate([((64, 80), "JPEG"), ((96, 64), "PNG"), ((64, 96), "JPEG")]):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            size[::-1], Image.Resampling.BICUBIC
        )
        file = io.BytesIO()
        small.save(file, kind)
        files.append(tmp_path / f"{i}.{kind.lower()}")
        files[-1].write_bytes(file.getvalue())
    tensor = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    np.save(tmp_path / "tensor.npy", tensor)
    assert export(model, tmp_path / "export").name == "1"
    path = export(model, tmp_path / "export")
    assert path.name == "2"
    assert sorted(p.name for p in (tmp_path / "export").iterdir()) == ["1", "2"]
    # Every weight is written once: as a constant of the graph, or as a variable.
    written = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert 4 * model.count_params() < written < 1.5 * 4 * model.count_params()
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(path), str(tmp_path), *map(str, files)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    check(dict(np.load(tmp_path / "bytes.npz")), [photos.read_rgb(f) for f in files], model)
    check(dict(np.load(tmp_path / "tensor.npz")), list(tensor), model)
    assert len(traces) == 1  # two exports and all of `detect`


@pytest.mark.parametrize("category", [2**31, -(2**31) - 1, 2**62])
def test_ids_that_int32_cannot_hold_are_told_and_nothing_is_written(tmp_path, category):
    model = types.SimpleNamespace(preprocessor=Preprocessor(category_ids=(7, category)))
    with pytest.raises(ConfigError, match=f"data.category_ids={category}: .* int32; expected ids of -2147"):
        export(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()
