"""A SavedModel for TF Serving: photos in, detections out, nothing of `fpn_tf` needed to run it."""

import os
import pathlib
import shutil

import keras
import tensorflow as tf

from fpn_tf import photos


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
    """
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
    archive.write_out(beside, verbose=False)
    os.replace(beside, target)
    return target


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
    data = model.config.data
    photo_size = tf.shape(images)[1:3]
    size = resized_size(photo_size, data.short_side, data.max_side, data.resize)
    images = resize(images, size, data.resize)
    bottom, right = tf.unstack(-size % photos.CANVAS_MULTIPLE)
    images = tf.pad(images, [[0, 0], [0, bottom], [0, right], [0, 0]])
    sizes = tf.repeat(size[None], tf.shape(images)[0], axis=0)
    found = net({"images": images, "image_sizes": sizes})
    height, width = tf.unstack(tf.cast(photo_size, tf.float32))
    limits = tf.stack([width, height, width, height])
    scale = tf.cast(tf.tile((photo_size / size)[::-1], [2]), tf.float32)
    boxes = tf.clip_by_value(found.boxes * scale, 0.0, limits)
    ids = tf.constant([0, *model.category_ids()], tf.int32)
    return {
        "detection_boxes": tf.where(found.valid[..., None], boxes, 0.0),
        "detection_scores": found.scores,
        "detection_classes": tf.gather(ids, found.classes),
        "num_detections": tf.reduce_sum(tf.cast(found.valid, tf.int32), axis=1),
    }


def resized_size(size, short_side, max_side, kind):
    """`fpn_tf.photos.resized_size` on an int32 tensor [2]."""
    sides = tf.cast(size, tf.float64)
    short, limit = tf.cast(short_side, tf.float64), tf.cast(max_side, tf.float64)
    if kind == "detectron2":
        sides *= short / tf.reduce_min(sides)
        sides *= tf.minimum(limit / tf.reduce_max(sides), 1.0)
        sides = tf.floor(sides + 0.5)
    else:
        sides *= tf.minimum(short / tf.reduce_min(sides), limit / tf.reduce_max(sides))
        sides = tf.floor(sides) if kind == "torchvision" else tf.round(sides)
    return tf.maximum(tf.cast(sides, tf.int32), 1)


def resize(images, size, kind):
    """`fpn_tf.photos.resize` on a uint8 tensor [b, h, w, 3].

    Pillow's way goes width first, rounded, then height: the two passes with whole numbers between
    them. A pixel differs from its result by at most 1, where its fixed-point weights round
    otherwise.
    """
    if kind != "detectron2":
        return tf.image.resize(tf.cast(images, tf.float32), size)
    for axes in ((tf.shape(images)[1], size[1]), (size[0], size[1])):
        exact = tf.image.resize(tf.cast(images, tf.float32), tf.stack(axes), antialias=True)
        images = tf.cast(tf.clip_by_value(tf.floor(exact + 0.5), 0, 255), tf.uint8)
    return images
