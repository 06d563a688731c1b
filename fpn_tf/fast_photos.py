"""`fpn_tf.photos` by OpenCV, an extra: for training photos, at several times Pillow's pace."""

import io

import numpy as np

from fpn_tf import photos
from fpn_tf.errors import ConfigError, PhotoError

try:
    import cv2
except ImportError:
    raise ConfigError(
        "data.fast_resize=true: needs OpenCV; expected pip install opencv-python-headless"
    ) from None

cv2.setNumThreads(1)  # photos are read in parallel already
# Whether a photo is upright, Pillow tells: of odd EXIF the two make different things.
UPRIGHT_COLOUR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def decode_rgb(data, name="photo"):
    """As `photos.decode_rgb`, with the same pixels.

    OpenCV decodes what it decodes alike: upright colour JPEG files that have their end.
    """
    if _is_plain(data):
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), UPRIGHT_COLOUR)
        if photo is not None:
            return photo
    return photos.decode_rgb(data, name)


def _is_plain(data):
    if not data.endswith(b"\xff\xd9"):  # the mark of a JPEG file's end
        return False
    try:
        with photos.opened(io.BytesIO(data), "photo") as image:
            return image.format == "JPEG" and image.mode == "RGB" and photos.orientation_of(image) == 1
    except PhotoError:
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
