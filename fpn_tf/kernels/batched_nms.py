"""`nms` of all rows at once, for GPUs: a loop over rows would leave most of one idle.

On an accelerator the host asks after every round of a loop whether another follows, at some 20 microseconds:
eighty classes of eight images, a row after the other, are thousands of rounds.
"""

import math

from fpn_tf.kernels import chunked_nms

CELLS = 2**28
"""IoUs of all rows whose comparison is held at once: 256 MB."""


def nms(boxes, scores, valid, iou_threshold, max_output):
    """See `fpn_tf.geometry.selection.nms`; the same boxes, for any number of rows and boxes."""
    rows = boxes.shape[0] or 1
    chunk = max(math.isqrt(CELLS // rows), 1)
    return chunked_nms.nms_of_rows(boxes, scores, valid, iou_threshold, max_output, chunk)
