"""TF Serving's files, as its protocol buffers are written byte by byte."""

import numpy as np
import pytest
import tensorflow as tf

from fpn_tf.exporting import serving_files


def field(number, data):
    """A message or text in a protocol buffer: its number and wire type 2, its length, its bytes."""
    length, digits = len(data), []
    while length > 127:
        digits.append(length % 128 + 128)
        length //= 128
    return bytes([number << 3 | 2, *digits, length]) + data


def test_a_warm_up_request_byte_by_byte():
    array = np.array([b"x" * 300], object)
    tensor = tf.make_tensor_proto(array).SerializeToString()
    spec = field(1, b"detector") + field(3, b"serving_default")
    request = field(1, spec) + field(2, field(1, b"image_bytes") + field(2, tensor))
    written = serving_files.prediction_log("serving_default", {"image_bytes": array})
    assert written == field(6, field(1, request))


def test_the_extra_assets_of_a_model(tmp_path):
    serving_files.write_extra_assets(tmp_path, {7: "red", 3: "two\nlines", 90: "grün"})
    extra = tmp_path / "assets.extra"
    assert (extra / "labels.txt").read_text(encoding="utf-8") == "7\tred\n3\ttwo lines\n90\tgrün\n"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))]
    assert len(records) == 2
    for record, signature in zip(records, (b"serving_default", b"image_tensor"), strict=True):
        assert signature in record


def test_warm_up_requests_are_read_by_tf_serving():
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    written = serving_files.prediction_log("image_tensor", {"image_tensor": np.ones((1, 2, 3, 3), np.uint8)})
    request = apis.PredictionLog.FromString(written).predict_log.request
    assert request.model_spec.signature_name == "image_tensor"
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["image_tensor"]), np.ones((1, 2, 3, 3)))
