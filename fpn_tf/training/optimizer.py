"""SGD as Detectron and PyTorch do it, and its learning-rate schedule."""

import math

import keras
from keras import ops

from fpn_tf.kernels.choice import replaceable


@keras.saving.register_keras_serializable("fpn_tf")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up times the schedule: steps down, or a cosine to 0.

    At step t of T, with W steps of warm-up that begin at the factor f and p = min(t / W, 1), the rate is
    s(t) * (f * (1 - p) + p), where s(t) is peak * decay_factor^(drops so far) or
    peak * (1 + cos(pi * t / T)) / 2.

    Differs from Detectron2 of today inside the warm-up alone. Its rate goes in a straight line from
    f * s(0) to s(W), and a warm-up longer than the run is shortened to the run. (Its older
    `WarmupMultiStepLR` and `WarmupCosineLR` multiply, as this one does.) Steps down that all come after the
    warm-up give the same rates. A drop inside it divides the rate from that step on, while Detectron2's
    whole line is lower. With a cosine this rate is higher by up to 0.39 * (pi * W / 2T)^2 of the
    peak (for small W / T): 0.0001 of it for W = 1000 and T = 90000, 0.0007 for W = 50 and T = 1800.

    Args:
        peak: float, the learning rate after warm-up.
        steps: int, T: length of the run.
        kind: "step" or "cosine".
        decay_at: for "step", shares of `steps`; the rate is multiplied by `decay_factor` from the step
            round(share * steps) on, counted from 0.
        decay_factor: float, see `decay_at`.
        warmup_steps: int, W; 0 is no warm-up.
        warmup_factor: float, f: share of the rate at step 0.
    """

    def __init__(
        self, peak, steps, kind="step", decay_at=(), decay_factor=0.1, warmup_steps=0, warmup_factor=0.001
    ):
        self.peak, self.steps, self.kind = peak, steps, kind
        self.decay_at, self.decay_factor = tuple(decay_at), decay_factor
        self.warmup_steps, self.warmup_factor = warmup_steps, warmup_factor

    def __call__(self, step):
        """The learning rate, float32, of a step that is counted from 0."""
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

    Keras clips each replica's gradient, which makes the step depend on the number of replicas.
    """

    def _clip_gradients(self, grads):
        # On TensorFlow these are one replica's gradients: see _all_reduce_sum_gradients.
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
        coupled_decay: float, the decay of the variables that `is_decayed` names.
        decay_biases: bool, whether biases decay as kernels do (Detectron2, torchvision) or not
            (Detectron).
        name: of the optimizer.
        **kwargs: of `keras.optimizers.Optimizer`; global_clipnorm is the largest norm of the whole
            gradient.
    """

    def __init__(
        self,
        learning_rate=0.02,
        momentum=0.9,
        coupled_decay=1e-4,
        decay_biases=False,
        name="sgd",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.coupled_decay = momentum, coupled_decay
        self.decay_biases = decay_biases

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        self.decays = [
            self.coupled_decay if is_decayed(variable, self.decay_biases) else 0.0 for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        if self.decays[index]:
            gradient = with_decay(gradient, variable, self.decays[index])
        rate = ops.cast(learning_rate, variable.dtype)
        momentum_step(variable, self.velocities[index], gradient, self.momentum, rate)

    def get_config(self):
        return super().get_config() | {
            "momentum": self.momentum,
            "coupled_decay": self.coupled_decay,
            "decay_biases": self.decay_biases,
        }


@keras.saving.register_keras_serializable("fpn_tf")
class ClippedAdamW(ClipAfterReduce, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` that clips after the all-reduce and decays what `is_decayed` names.

    Args:
        *args: of `keras.optimizers.AdamW`.
        decay_biases: bool, whether biases decay as kernels do.
        **kwargs: of `keras.optimizers.AdamW`.
    """

    def __init__(self, *args, decay_biases=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.decay_biases = decay_biases

    def build(self, variables):
        if self.built:
            return
        self.exclude_from_weight_decay([v for v in variables if not is_decayed(v, self.decay_biases)])
        super().build(variables)

    def get_config(self):
        return super().get_config() | {"decay_biases": self.decay_biases}


def is_decayed(variable, decay_biases):
    """Whether weight decay pulls a variable to 0: kernels always, norms never.

    Args:
        variable: Keras variable of a model, whose name decides. (The name of TensorFlow's variable
            behind it is another one on every replica.)
        decay_biases: bool, whether the biases of convolutions and dense layers decay as well.
    """
    return variable.name.endswith("kernel") or (decay_biases and variable.name.endswith("bias"))


def make_schedule(train):
    """The WarmupSchedule of a TrainConfig."""
    return WarmupSchedule(
        train.peak_learning_rate,
        train.steps,
        train.schedule,
        train.decay_at,
        train.decay_factor,
        train.warmup_steps,
        train.warmup_factor,
    )


def make_optimizer(train):
    """The optimizer of a training run, not built yet.

    Args:
        train: TrainConfig.

    Returns:
        DetectronSGD or ClippedAdamW; inside a `keras.optimizers.LossScaleOptimizer` where
        `train.precision` is mixed_float16.
    """
    schedule = make_schedule(train)
    options = {"global_clipnorm": train.clip_norm or None, "decay_biases": train.decay_biases}
    if train.ema_decay:
        options |= {"use_ema": True, "ema_momentum": train.ema_decay}
    if train.optimizer == "sgd":
        optimizer = DetectronSGD(schedule, train.momentum, train.weight_decay, **options)
    else:
        optimizer = ClippedAdamW(schedule, weight_decay=train.weight_decay, **options)
    if train.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


@replaceable
def with_decay(gradient, variable, decay):
    """gradient + decay * w, with a weight's coupled decay.

    Args:
        gradient: of w's shape and dtype.
        variable: w, as Keras hands it to `Optimizer.update_step`.
        decay: float.
    """
    return gradient + decay * ops.convert_to_tensor(variable)


@replaceable
def momentum_step(variable, velocity, gradient, momentum, learning_rate):
    """v = momentum * v + gradient; w -= learning_rate * v.

    Args:
        variable: w, as Keras hands it to `Optimizer.update_step`.
        velocity: v, a Keras variable.
        gradient: of w's shape and dtype.
        momentum: float.
        learning_rate: scalar of that dtype.
    """
    velocity.assign(momentum * velocity + gradient)
    variable.assign_sub(learning_rate * velocity)
