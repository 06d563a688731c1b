"""A detector in files of Keras: what is read back, and what is refused in one line."""

import keras
import numpy as np
import pytest
from conftest import make_quick_config

import fpn_tf

on_tensorflow = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow exports")


@pytest.fixture
def model():
    return fpn_tf.build(make_quick_config())


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_quantized_model_is_read_back(model, tmp_path, mode):
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    [before] = model.detect(photo)
    model.quantize(mode)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.box_head.head.classifier.quantization_mode == mode
    [quantized], [read] = model.detect(photo), again.detect(photo)
    np.testing.assert_array_equal(read.boxes, quantized.boxes)
    np.testing.assert_array_equal(read.scores, quantized.scores)
    assert not np.array_equal(quantized.scores, before.scores)


@pytest.mark.parametrize("name", ["m.h5", "m.hdf5"])
def test_hdf5_is_refused_with_what_to_write_instead(model, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name}: Keras reads no .*; expected a path that ends in .keras"):
        model.save(tmp_path / name)
    assert not (tmp_path / name).exists()
    model.save_weights(tmp_path / "m.weights.h5")


@pytest.mark.parametrize("form", ["onnx", "openvino", "litert", "torch", "pb"])
def test_other_formats_are_refused_in_one_line(model, tmp_path, form):
    with pytest.raises(ValueError, match=f"^format='{form}': expected tf_saved_model$"):
        model.export(tmp_path / "m", format=form)
    assert not list(tmp_path.iterdir())


def test_arguments_that_an_export_does_not_have_are_named(model, tmp_path):
    with pytest.raises(ValueError, match=r"^input_signature, is_static: expected none"):
        model.export(tmp_path / "m", input_signature=[], is_static=True)


def test_a_model_that_needs_more_than_photos_is_not_exported(tmp_path):
    changes = {"model.kind": "fast_rcnn", "data.train_proposals": "a", "data.eval_proposals": "b"}
    model = fpn_tf.build(fpn_tf.config.replace(make_quick_config(), **changes))
    with pytest.raises(ValueError, match="^FastRCNN: is not exported; expected a FasterRCNN or RPN$"):
        model.export(tmp_path / "m")


@on_tensorflow
def test_export_without_arguments_writes_what_the_command_writes(model, tmp_path, monkeypatch):
    from fpn_tf.exporting import saved_model

    written = []
    monkeypatch.setattr(saved_model, "write", lambda *args, **kwargs: written.append((args, kwargs)))
    model.export(tmp_path / "m")
    model.export(tmp_path / "m", "tf_saved_model", verbose=True, platform="cpu")
    assert written == [((model, tmp_path / "m"), {}), ((model, tmp_path / "m"), {"platform": "cpu"})]
