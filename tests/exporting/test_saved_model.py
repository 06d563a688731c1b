"""The SavedModel, in a process that has TensorFlow and not fpn_tf."""

import functools
import io
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fpn_tf import ConfigError, FasterRCNN, Preprocessor, build, config, photos
from fpn_tf.exporting import saved_model
from fpn_tf.exporting.saved_model import export
from fpn_tf.kernels import winograd
from fpn_tf.models.conv_norm import conv3x3

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
for number, file in enumerate(data):  # a photo's result does not depend on the others
    alone = model.signatures["serving_default"](image_bytes=file[None])
    for name, value in alone.items():
        np.testing.assert_array_equal(value[0], found[name][number], err_msg=name)
for signature, photos in (("serving_default", tf.zeros([0], tf.string)), ("image_tensor", tensor[:0])):
    for value in model.signatures[signature](photos).values():
        assert value.shape[0] == 0
"""


def check(found, photo_list, model):
    names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    assert set(found) - {"error"} == set(names)
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
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = ["JPEG", "PNG", "JPEG", "GIF", "BMP", "WEBP"]
    for i, (size, kind) in enumerate(zip([(64, 80), (96, 64)] + 4 * [(64, 96)], kinds, strict=True)):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            size[::-1], Image.Resampling.BICUBIC
        )
        file = io.BytesIO()
        small.save(file, kind, **({"exif": turned} if i == 2 else {}))
        files.append(tmp_path / f"{i}.{kind.lower()}")
        files[-1].write_bytes(file.getvalue())
    whole = [file.read_bytes() for file in files]
    bad = [b"", b"no photo", whole[0][:-100], *(bytes(rng.permutation(list(data))) for data in whole)]
    for i, data in enumerate(bad):
        files.insert(i * 3 // 2, tmp_path / f"bad_{i}")
        files[i * 3 // 2].write_bytes(data)
    tensor = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    np.save(tmp_path / "tensor.npy", tensor)
    path = export(model, tmp_path / "export", platform="cpu", server_files=True)
    names = ["1", "batching_parameters.txt", "models.config"]
    assert sorted(p.name for p in (tmp_path / "export").iterdir()) == names
    assert (path / "assets.extra" / "labels.txt").read_text() == "7\tclass 1\n3\tclass 2\n90\tclass 3\n"
    # Every weight is written once: as a constant of the graph, or as a variable.
    graph, weights = path / "saved_model.pb", sum(file.stat().st_size for file in path.glob("variables/*"))
    assert 4 * model.count_params() < weights < graph.stat().st_size + weights < 6 * model.count_params()
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(path), str(tmp_path), *map(str, files)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    served = dict(np.load(tmp_path / "bytes.npz", allow_pickle=True))
    is_good = np.array([not file.name.startswith("bad") for file in files])
    assert [text == b"" for text in served["error"]] == is_good.tolist()
    assert served["num_detections"][~is_good].tolist() == [-1] * len(bad)
    assert not any(served[name][~is_good].any() for name in served if name.startswith("detection"))
    good = [photos.read_rgb(file) for file, is_one in zip(files, is_good, strict=True) if is_one]
    check({name: value[is_good] for name, value in served.items()}, good, model)
    check(dict(np.load(tmp_path / "tensor.npz")), list(tensor), model)
    assert len(traces) == 1  # the export and all of `detect`


@pytest.mark.parametrize("category", [2**31, -(2**31) - 1, 2**62])
def test_ids_that_int32_cannot_hold_are_told_and_nothing_is_written(tmp_path, category):
    model = types.SimpleNamespace(preprocessor=Preprocessor(category_ids=(7, category)))
    with pytest.raises(ConfigError, match=f"data.category_ids={category}: .* int32; expected ids of -2147"):
        export(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_model_for_any_platform_has_no_kernel_of_a_cpu(monkeypatch):
    """Its convolutions are TensorFlow's own op; a net for a CPU has been traced already."""
    spec, kernel = [tf.TensorSpec([None, None, None, 64])], tf.ones([3, 3, 64, 64]) / 64

    def compiled(model):
        return tf.function(lambda x: conv3x3(x, kernel), input_signature=spec, autograph=False)

    model = types.SimpleNamespace(detector=functools.partial(functools.cache(compiled), None))
    monkeypatch.setattr(saved_model, "compiled_detector", compiled)
    on_this = model.detector().get_concrete_function()
    assert winograd.is_in(on_this.graph)
    assert saved_model._net_for(model, "cpu") is on_this
    on_any = saved_model._net_for(model, "any")
    assert not winograd.is_in(on_any.graph)
    x = tf.random.stateless_uniform([1, 9, 11, 64], [0, 0])
    np.testing.assert_allclose(on_any(x), on_this(x), rtol=1e-5)
    assert on_any(x[:0]).shape == (0, 9, 11, 64)
