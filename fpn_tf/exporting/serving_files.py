"""What TF Serving reads beside a model: requests to warm up with, names of classes, its configuration."""

import functools
import io
import pathlib

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from fpn_tf import files

EXTRA = "assets.extra"  # the folder of a SavedModel for what its graph does not read
WARM_UP = "tf_serving_warmup_requests"
WARM_UP_SIZE = (480, 640)  # height, width
MODEL_NAME = "detector"
MODELS_CONFIG = f"""\
model_config_list {{
  config {{
    name: "{MODEL_NAME}"
    base_path: "/models/{MODEL_NAME}"
    model_platform: "tensorflow"
  }}
}}
"""
BATCHING_PARAMETERS = """\
# Photos of several requests in one run: up to 8, no more than 5 ms after the first.
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""
STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
# Of prediction_log.proto, predict.proto and model.proto of tensorflow_serving/apis what is written here:
# message -> {field: (number, type, or the message that it holds)}. A TensorProto stands as its bytes.
MESSAGES = {
    "ModelSpec": {"name": (1, STRING), "signature_name": (3, STRING)},
    "Input": {"key": (1, STRING), "value": (2, BYTES)},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "Input")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


def write_extra_assets(path, class_names):
    """Writes the warm-up requests and `labels.txt` into a SavedModel.

    Args:
        path: its folder.
        class_names: {category id: name}; a line of the labels is an id, a tab and its name.
    """
    extra = pathlib.Path(path) / EXTRA
    extra.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(files.path_for_tensorflow(extra / WARM_UP)) as writer:
        for name, inputs in _warm_up_inputs().items():
            writer.write(prediction_log(name, inputs))
    lines = [f"{number}\t{' '.join(name.split())}\n" for number, name in class_names.items()]
    files.write_text(extra / "labels.txt", "".join(lines))


def write_configuration(folder):
    """Writes `models.config` and `batching_parameters.txt` into the folder of the versions."""
    folder = pathlib.Path(folder)
    files.write_text(folder / "models.config", MODELS_CONFIG)
    files.write_text(folder / "batching_parameters.txt", BATCHING_PARAMETERS)


def prediction_log(signature, inputs):
    """A request as TF Serving reads it for its warm-up.

    Args:
        signature: the name of the signature that is called.
        inputs: {name: array}.

    Returns:
        bytes, a serialised tensorflow.serving.PredictionLog.
    """
    log = _prediction_log_class()()
    log.predict_log.request.model_spec.name = MODEL_NAME
    log.predict_log.request.model_spec.signature_name = signature
    for name, array in inputs.items():
        value = tf.make_tensor_proto(array).SerializeToString()
        log.predict_log.request.inputs.add(key=name, value=value)
    return log.SerializeToString()


def _warm_up_inputs():
    """{signature: {input: array}} of a grey photo."""
    photo = np.full((*WARM_UP_SIZE, 3), 128, np.uint8)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG")
    return {
        "serving_default": {"image_bytes": np.array([file.getvalue()], object)},
        "image_tensor": {"image_tensor": photo[None]},
    }


@functools.cache
def _prediction_log_class():
    """The class of the last of `MESSAGES`, in a pool of its own: TF Serving's may be imported as well."""
    file = descriptor_pb2.FileDescriptorProto(
        name="prediction_log.proto", package="tensorflow.serving", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            is_message = isinstance(kind, str)
            message.field.add(
                name=field,
                number=number,
                label=3 if field == "inputs" else 1,  # repeated, or optional
                type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE if is_message else kind,
                type_name=f".tensorflow.serving.{kind}" if is_message else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictionLog"))
