"""SGD as Detectron and PyTorch do it, and its learning-rate schedule."""

import math

import keras
from keras import ops

from fpn_tf.backend import momentum_step, with_decay


@keras.saving.register_keras_serializable("fpn_tf")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then steps down or a cosine to 0.

    Args:
        peak: the learning rate after warm-up.
        steps: length of the run.
        kind: "step" or "cosine".
        decay_at: for "step", shares of `steps` at which the rate is multiplied by `decay_factor`.
        decay_factor: see above.
        warmup_steps: steps over which the rate rises to that of the schedule.
        warmup_factor: share of the rate at step 0.
    """

    def __init__(
        self, peak, steps, kind="step", decay_at=(), decay_factor=0.1, warmup_steps=0, warmup_factor=0.001
    ):
        self.peak, self.steps, self.kind = peak, steps, kind
        self.decay_at, self.decay_factor = tuple(decay_at), decay_factor
        self.warmup_steps, self.warmup_factor = warmup_steps, warmup_factor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        if self.kind == "cosine":
            rate = self.peak * 0.5 * (1 + ops.cos(math.pi * ops.minimum(step / self.steps, 1.0)))
        else:
            drops = sum(ops.cast(step >= round(share * self.steps), "float32") for share in self.decay_at)
            rate = self.peak * ops.power(ops.cast(self.decay_factor, "float32"), drops)
        if self.warmup_steps:
            progress = ops.minimum(step / self.warmup_steps, 1.0)
            rate = rate * (self.warmup_factor * (1 - progress) + progress)
        return rate

    def get_config(self):
        return dict(vars(self))


class ClipAfterReduce:
    """Mixed into a Keras optimizer: clips the gradient AFTER it was summed over replicas.

    Keras clips each replica's own part, which makes the step depend on their number.
    """

    def _clip_gradients(self, grads):
        # On TensorFlow each replica holds its own part here: see _all_reduce_sum_gradients.
        return grads if keras.config.backend() == "tensorflow" else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        grads, variables = zip(*super()._all_reduce_sum_gradients(grads_and_vars))
        return list(zip(super()._clip_gradients(grads), variables))


@keras.saving.register_keras_serializable("fpn_tf")
class DetectronSGD(ClipAfterReduce, keras.optimizers.Optimizer):
    """SGD with momentum and COUPLED weight decay: g += decay * w; v = momentum * v + g; w -= lr * v.

    Differs from `keras.optimizers.SGD`: the decay enters the momentum (Keras' is decoupled, about
    ten times weaker at momentum 0.9) and the velocity does not contain the learning rate (a drop
    takes effect at once).

    Args:
        learning_rate: float or schedule.
        momentum: float.
        coupled_decay: decay of convolution and dense kernels; biases and norms have none.
        global_clipnorm: largest norm of the whole gradient; None is off.
    """

    def __init__(self, learning_rate=0.02, momentum=0.9, coupled_decay=1e-4, name="sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.coupled_decay = momentum, coupled_decay

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate):
        velocity = self.velocities[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        if self.coupled_decay and is_kernel(variable):
            gradient = with_decay(gradient, variable, self.coupled_decay)
        momentum_step(variable, velocity, gradient, self.momentum, ops.cast(learning_rate, variable.dtype))

    def get_config(self):
        return super().get_config() | {"momentum": self.momentum, "coupled_decay": self.coupled_decay}


@keras.saving.register_keras_serializable("fpn_tf")
class ClippedAdamW(ClipAfterReduce, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` that clips after the all-reduce."""


def is_kernel(variable):
    """Whether a variable (Keras' or TensorFlow's) is a convolution's or dense layer's kernel."""
    return variable.name.split(":")[0].endswith("kernel")


def make_optimizer(train):
    """The optimizer of a TrainConfig."""
    schedule = WarmupSchedule(
        train.peak_learning_rate,
        train.steps,
        train.schedule,
        train.decay_at,
        train.decay_factor,
        train.warmup_steps,
        train.warmup_factor,
    )
    options = {"global_clipnorm": train.clip_norm or None}
    if train.ema_decay:
        options |= {"use_ema": True, "ema_momentum": train.ema_decay}
    if train.optimizer == "sgd":
        optimizer = DetectronSGD(schedule, train.momentum, train.weight_decay, **options)
    else:
        optimizer = ClippedAdamW(schedule, weight_decay=train.weight_decay, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if train.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
