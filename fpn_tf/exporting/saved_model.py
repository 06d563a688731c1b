"""A SavedModel for TF Serving: photos in, detections out, nothing of `fpn_tf` needed to run it."""

import contextlib
import errno
import os

import keras
import tensorflow as tf

from fpn_tf import kernels
from fpn_tf.errors import ConfigError
from fpn_tf.exporting import serving_files, versions
from fpn_tf.exporting.photo_decoding import MOST_PIXELS, decoded
from fpn_tf.files import path_for_tensorflow
from fpn_tf.models.on_backends import compiled_detector


def export(model, folder, platform="any", max_pixels=MOST_PIXELS, server_files=False):
    """Writes `<folder>/<version>/`, the version one above the highest that is there.

    Args:
        model: FasterRCNN or RPN.
        folder: of the exports.
        platform: "any" or "cpu", see `fpn_tf.ExportConfig`.
        max_pixels: of a photo's file.
        server_files: write TF Serving's configuration into `folder` as well.

    Returns:
        The path written.

    Raises:
        ConfigError: as `write`.
    """
    check_ids(model)
    with versions.next_version(folder) as version:
        write(model, version.beside, platform, max_pixels)
    if server_files:
        serving_files.write_configuration(folder)
    return version.path


def write(model, path, platform="any", max_pixels=MOST_PIXELS):
    """Writes a SavedModel.

    Signatures, each giving `detection_boxes` float32 [b, D, 4] (x1, y1, x2, y2 in pixels of the
    photo), `detection_scores` float32 [b, D], `detection_classes` int32 [b, D] (the data set's
    category ids) and `num_detections` int32 [b]; rows beyond it are 0:

        serving_default: image_bytes, string [b], files of any formats (JPEG, PNG, GIF, BMP, WebP) and
            sizes. It gives `error` as well, string [b]: "", or why a photo cannot be read, whose
            `num_detections` is -1. The others' results are those of a request without it.
        image_tensor: image_tensor, uint8 [b, h, w, 3], RGB

    Args:
        model, platform, max_pixels: as for `export`.
        path: the folder to write.

    Raises:
        ConfigError: a category id that int32 cannot hold.
        OSError: it cannot be written; nothing is left of it.
    """
    check_ids(model)
    net = _net_for(model, platform)

    def serve_bytes(image_bytes):
        return _serve_bytes(model, net, image_bytes, max_pixels)

    def serve_tensor(image_tensor):
        return _serve_tensor(model, net, image_tensor)

    archive = keras.export.ExportArchive()
    weights = tf.Module()
    weights.all = [variable.value for variable in model.variables]
    archive.track(weights)
    archive.add_endpoint("serving_default", serve_bytes, [tf.TensorSpec([None], tf.string, "image_bytes")])
    archive.add_endpoint(
        "image_tensor", serve_tensor, [tf.TensorSpec([None, None, None, 3], tf.uint8, "image_tensor")]
    )
    with _disk_errors(path):
        archive.write_out(path_for_tensorflow(path), verbose=False)
    serving_files.write_extra_assets(path, model.class_names)


def check_ids(model):
    """Raises ConfigError where a category id is too large for a SavedModel's int32."""
    for category in model.preprocessor.category_ids:
        if not tf.int32.min <= category <= tf.int32.max:
            raise ConfigError(
                f"data.category_ids={category}: a SavedModel's detection_classes are int32; expected ids "
                f"of {tf.int32.min} to {tf.int32.max}"
            )


def _net_for(model, platform):
    """The model at test time, convolving for a platform.

    Returns:
        A concrete function, which TensorFlow does not trace again while it saves.
    """
    from fpn_tf.kernels import choice, winograd

    traced = model.detector().get_concrete_function()
    fits = not winograd.is_in(traced.graph) if platform == "any" else not choice.gpu_is_there()
    if fits:
        return traced
    with kernels.convolving_for(platform):
        return compiled_detector(model).get_concrete_function()


@contextlib.contextmanager
def _disk_errors(path):
    """A context in which TensorFlow's error at a disk's fault is the OSError that names it, of `path`."""
    try:
        yield
    except tf.errors.OpError as error:
        numbers = {os.strerror(number): number for number in errno.errorcode}
        reasons = [text for text in numbers if f"; {text}" in error.message]  # behind a file's path
        if not reasons:
            raise
        reason = max(reasons, key=len)
        raise OSError(numbers[reason], reason, str(path)) from None


def _serve_bytes(model, net, image_bytes, max_pixels):
    """Photo by photo: their sizes differ, and a photo's result must not depend on the others."""
    limit = model.max_detections
    signature = {
        "detection_boxes": tf.TensorSpec([limit, 4], tf.float32),
        "detection_scores": tf.TensorSpec([limit], tf.float32),
        "detection_classes": tf.TensorSpec([limit], tf.int32),
        "num_detections": tf.TensorSpec([], tf.int32),
        "error": tf.TensorSpec([], tf.string),
    }

    def nothing():
        empty = {
            name: tf.zeros(spec.shape, spec.dtype) for name, spec in signature.items() if name != "error"
        }
        return empty | {"num_detections": tf.constant(-1)}

    def detect(data):
        photo, error = decoded(data, max_pixels)

        def detections():
            return {name: value[0] for name, value in _serve_tensor(model, net, photo[None]).items()}

        return tf.cond(error == "", detections, nothing) | {"error": error}

    return tf.map_fn(detect, image_bytes, fn_output_signature=signature)


def _serve_tensor(model, net, images):
    preprocessor = model.preprocessor
    # Of no photos the net is shown a black one: some of its ops do not take an empty batch.
    count = tf.shape(images)[0]
    batch = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
    x, shown_size = preprocessor.tf_inputs(batch)
    detections = net(x | {"score_threshold": tf.constant(model.score_threshold)})
    boxes = preprocessor.tf_boxes_in_photo(detections.boxes, shown_size, tf.shape(images)[1:3])
    outputs = {
        "detection_boxes": tf.where(detections.valid[..., None], boxes, 0.0),
        "detection_scores": detections.scores,
        "detection_classes": preprocessor.tf_ids_of(detections.classes),
        "num_detections": tf.reduce_sum(tf.cast(detections.valid, tf.int32), axis=1),
    }
    return {name: value[:count] for name, value in outputs.items()}
