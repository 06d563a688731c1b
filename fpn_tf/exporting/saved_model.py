"""A SavedModel for TF Serving: photos in, detections out, nothing of `fpn_tf` needed to run it."""

import contextlib
import errno
import os
import pathlib
import shutil

import keras
import tensorflow as tf

from fpn_tf.errors import ConfigError
from fpn_tf.files import path_for_tensorflow


def export(model, folder):
    """Writes `<folder>/<version>/`, the version one above the highest that is there.

    Signatures, each giving `detection_boxes` float32 [b, D, 4] (x1, y1, x2, y2 in pixels of the
    photo), `detection_scores` float32 [b, D], `detection_classes` int32 [b, D] (the data set's
    category ids) and `num_detections` int32 [b]; rows beyond it are 0:

        serving_default: image_bytes, string [b], JPEG or PNG files of any sizes
        image_tensor: image_tensor, uint8 [b, h, w, 3], RGB

    Args:
        model: FasterRCNN.
        folder: of the exports.

    Returns:
        The path written.

    Raises:
        ConfigError: a category id that int32 cannot hold.
        OSError: it cannot be written; nothing is left of it.
    """
    for category in model.preprocessor.category_ids:
        if not tf.int32.min <= category <= tf.int32.max:
            raise ConfigError(
                f"data.category_ids={category}: a SavedModel's detection_classes are int32; expected ids "
                f"of {tf.int32.min} to {tf.int32.max}"
            )
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    versions = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
    target = folder / str(max(versions, default=0) + 1)
    beside = folder / f".{target.name}.part"
    shutil.rmtree(beside, ignore_errors=True)

    # A concrete function, which TensorFlow does not trace again while it saves.
    net = model.detector().get_concrete_function()

    def serve_bytes(image_bytes):
        return _serve_bytes(model, net, image_bytes)

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
    try:
        with _disk_errors(target):
            archive.write_out(path_for_tensorflow(beside), verbose=False)
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


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


def _serve_bytes(model, net, image_bytes):
    """Photo by photo: their sizes differ, and a photo's result must not depend on the others."""

    def detect(data):
        # Decodes PNG as well; this transform is the one that Pillow uses.
        photo = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
        return {name: value[0] for name, value in _serve_tensor(model, net, photo[None]).items()}

    limit = model.max_detections
    signature = {
        "detection_boxes": tf.TensorSpec([limit, 4], tf.float32),
        "detection_scores": tf.TensorSpec([limit], tf.float32),
        "detection_classes": tf.TensorSpec([limit], tf.int32),
        "num_detections": tf.TensorSpec([], tf.int32),
    }
    return tf.map_fn(detect, image_bytes, fn_output_signature=signature)


def _serve_tensor(model, net, images):
    preprocessor = model.preprocessor
    x, shown_size = preprocessor.tf_inputs(images)
    detections = net(x | {"score_threshold": tf.constant(model.score_threshold)})
    boxes = preprocessor.tf_boxes_in_photo(detections.boxes, shown_size, tf.shape(images)[1:3])
    return {
        "detection_boxes": tf.where(detections.valid[..., None], boxes, 0.0),
        "detection_scores": detections.scores,
        "detection_classes": preprocessor.tf_ids_of(detections.classes),
        "num_detections": tf.reduce_sum(tf.cast(detections.valid, tf.int32), axis=1),
    }
