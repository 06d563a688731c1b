"""What the four numbers of a box may mean where they do not fit as [x, y, width, height].

Boxes are float [N, 4] as annotated, sizes float [N, 2] (width, height) of their photos in pixels.
"""

import numpy as np

FAR = 0.05  # of the photo's longer side: by as much slips of an annotator do not reach outside
OFTEN = 0.1  # share of the boxes: slips are fewer
MOSTLY = 1 / 3  # share of the boxes: photos of another size
NEARLY_ALL = 0.95
ENOUGH = 3  # boxes that a guess from some of them needs
X1Y1X2Y2 = "[x1, y1, x2, y2]: x2, y2 instead of width, height?"


def corners(boxes):
    """The (x1, y1, x2, y2) of [x, y, width, height]."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _of_centres(boxes):
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _of_shares(boxes, sizes):
    return corners(boxes) * np.tile(sizes, 2) / 100


READINGS = {  # (boxes, sizes) -> corners
    X1Y1X2Y2: lambda boxes, sizes: boxes,
    "[y, x, height, width]: y before x?": lambda boxes, sizes: corners(boxes[:, [1, 0, 3, 2]]),
    "[y1, x1, y2, x2]: y before x?": lambda boxes, sizes: boxes[:, [1, 0, 3, 2]],
    "[middle x, middle y, width, height]: middle instead of corner?": lambda boxes, sizes: _of_centres(boxes),
    "shares of 100: per cent instead of pixels?": _of_shares,
}
LARGER_PHOTOS = "pixels of larger photos: were they resized?"


def overhang(corners, sizes):
    """The most pixels by which boxes (x1, y1, x2, y2) reach outside their photo: [N], negative inside."""
    return np.concatenate([-corners[:, :2], corners[:, 2:] - sizes], axis=1).max(axis=1, initial=-np.inf)


def slack(sizes):
    """The pixels by which a box may reach outside its photo without being far outside: [N]."""
    return FAR * sizes.max(axis=1, initial=0)


def likelier_reading(boxes, sizes):
    """The reading that more boxes fit than [x, y, width, height].

    A guess is made where at least `OFTEN` of the boxes reach far outside their photo, and nearly all
    boxes fit another reading; or where nearly all that reach outside fit as corners; or where many do,
    and no reading fits.

    Returns:
        (text, bool [N]: the boxes that reach outside their photo and do not in this reading).
    """
    outside = overhang(corners(boxes), sizes) > slack(sizes)
    if outside.any():
        for text, corners_of in READINGS.items():
            fits = _fit(corners_of(boxes, sizes), sizes)
            if outside.mean() >= OFTEN and fits.mean() >= NEARLY_ALL:
                return text, outside & fits
        fits = _fit(boxes, sizes)
        if outside.sum() >= ENOUGH and fits[outside].mean() >= NEARLY_ALL:
            return X1Y1X2Y2, outside & fits
        if outside.mean() >= MOSTLY:
            return LARGER_PHOTOS, outside
    return "", np.zeros(len(boxes), bool)


def _fit(corners, sizes):
    """Whether boxes (x1, y1, x2, y2) have sides above 0 and lie in their photo, within a pixel: bool [N]."""
    return np.all(corners[:, 2:] > corners[:, :2], axis=1) & (overhang(corners, sizes) <= 1)


def are_shares(boxes, sizes):
    """Which boxes have four numbers of 0..1, on photos that are larger: bool [N]."""
    in_unit = np.all((boxes >= 0) & (boxes <= 1), axis=1) & np.all(boxes[:, 2:] > 0, axis=1)
    return in_unit & (sizes.min(axis=1, initial=np.inf) > 1)
