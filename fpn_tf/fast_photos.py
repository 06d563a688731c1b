"""`fpn_tf.photos` by OpenCV, an extra: for training photos, at several times Pillow's pace."""

import io

import numpy as np
from PIL import Image

from fpn_tf import photos
from fpn_tf.errors import ConfigError

try:
    import cv2
except ImportError:
    raise ConfigError(
        "data.fast_resize=true: needs OpenCV; expected pip install opencv-python-headless"
    ) from None

cv2.setNumThreads(1)  # photos are read in parallel already


def decode_rgb(data, name="photo"):
    """As `photos.decode_rgb`, with the same pixels.

    OpenCV decodes what it decodes alike: upright colour JPEG files that have their end.
    """
    if _is_plain(data):
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if photo is not None:
            return photo
    return photos.decode_rgb(data, name)


def _is_plain(data):
    if not data.endswith(b"\xff\xd9"):  # the mark of a JPEG file's end
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = image.getexif().get(photos.ORIENTATION, 1) == 1
            return image.format == "JPEG" and image.mode == "RGB" and upright
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def mirrored(photo):
    """As `photos.mirrored`."""
    return cv2.flip(photo, 1)


def resize_into(target, photo, kind="detectron2"):
    """As `photos.resize_into`, within one grey level of it.

    OpenCV has no antialiasing that is Pillow's, so it does not shrink.
    """
    if target.shape[0] >= photo.shape[0] and target.shape[1] >= photo.shape[1]:
        cv2.resize(photo, target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    else:
        photos.resize_into(target, photo, kind)
