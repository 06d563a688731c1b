"""What a detector does in another way on each of Keras' backends."""

import functools

import keras


def replica_count():
    """Replicas of the current `tf.distribute` strategy; 1 on other backends."""
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def compiled_detector(model):
    """The model at test time, compiled.

    On TensorFlow one trace serves every batch and image size (Keras' own predict function would
    trace anew for several of them); JAX compiles for each shape, and the weights stay where they are
    (Keras' own would write all of them back after every batch).

    Args:
        model: `fpn_tf.models.detector.Detector`.

    Returns:
        {inputs, "score_threshold" among them} -> BatchDetections; on TensorFlow a tf.function.
    """
    if keras.config.backend() == "jax":
        return jax_detector(model)
    if keras.config.backend() != "tensorflow":
        return model.predict_on_batch
    import tensorflow as tf

    inputs = model.x_spec() | {"score_threshold": ((), "float32")}
    spec = {key: tf.TensorSpec(*shape_and_dtype) for key, shape_and_dtype in inputs.items()}
    at_test_time = functools.partial(model, training=False)
    return tf.function(at_test_time, input_signature=[spec], jit_compile=False, autograph=False)


def jax_detector(model):
    """`compiled_detector` on JAX."""
    import jax

    variables = model.variables

    @jax.jit
    def at_test_time(values, inputs):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return model(inputs, training=False)

    return lambda inputs: at_test_time([variable.value for variable in variables], inputs)


def with_added_losses(model, compute):
    """What a function gives, and the losses that the model's layers add in it which Keras would drop.

    Keras keeps on JAX what `add_loss` is told in a model's `call`, and forgets it in its `compute_loss`.
    Elsewhere nothing is dropped: it is among `model.losses`.

    Args:
        model: `keras.Model`.
        compute: () -> anything.

    Returns:
        (what `compute` gives, a list of scalars).
    """
    return _in_scope_of_its_own(model, compute) if keras.config.backend() == "jax" else (compute(), [])


def _in_scope_of_its_own(model, compute):
    """`with_added_losses` where Keras' variables are values in a scope."""
    before = [(variable, variable.value) for variable in model.variables]
    with keras.StatelessScope(before, collect_losses=True) as scope:
        result = compute()
    for variable, value in before:
        after = scope.get_current_value(variable)
        if after is not value:
            variable.assign(after)
    return result, scope.losses
