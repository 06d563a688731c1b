"""What differs between Keras' backends outside the geometry kernels."""

import keras


def replica_count():
    """Replicas of the current `tf.distribute` strategy; 1 on other backends."""
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def compiled_detector(model, pixel_dtype):
    """x -> BatchDetections of a FasterRCNN as NumPy arrays, compiled.

    On TensorFlow one trace serves every batch and image size (Keras' own predict function would
    trace anew for several of them); elsewhere Keras compiles per shape.

    Args:
        model: FasterRCNN.
        pixel_dtype: of its images.
    """
    if keras.config.backend() != "tensorflow":
        return model.predict_on_batch
    import tensorflow as tf

    spec = {
        "images": tf.TensorSpec([None, None, None, 3], pixel_dtype),
        "image_sizes": tf.TensorSpec([None, 2], tf.int32),
    }
    options = {"input_signature": [spec], "jit_compile": False, "autograph": False}
    detect = tf.function(lambda x: model(x, training=False), **options)
    return lambda x: tf.nest.map_structure(lambda t: t.numpy(), detect(x))
