"""TensorFlow's `nms`: a C++/CUDA kernel on every row."""

import tensorflow as tf


def nms(boxes, scores, valid, iou_threshold, max_output):
    """See `fpn_tf.geometry.selection.nms`; the same boxes,
    unless an IoU is within a rounding of the threshold.
    """
    boxes, scores = tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)
    lowest = scores.dtype.min
    scores = tf.where(valid, scores, lowest)

    def one_row(row):
        # Not tf.image.non_max_suppression_padded: that is a loop of small ops, many times slower.
        indices, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=row[0],
            scores=row[1],
            max_output_size=max_output,
            iou_threshold=iou_threshold,
            score_threshold=lowest,
            pad_to_max_output_size=True,
        )
        return indices, tf.range(max_output) < count

    signature = (tf.TensorSpec([max_output], tf.int32), tf.TensorSpec([max_output], tf.bool))
    return tf.map_fn(one_row, (boxes, scores), fn_output_signature=signature)
