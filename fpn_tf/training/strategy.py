"""On which devices a run takes place."""

import tensorflow as tf

from fpn_tf.errors import ConfigError


def make_strategy(num_replicas=0, batch_size=None):
    """MirroredStrategy over GPUs, or over logical CPU devices where there are none.

    Args:
        num_replicas: 0 for every GPU (or one CPU device), else how many of either.
        batch_size: if given, "every GPU" is the largest number of them that divides it.

    Raises:
        ConfigError: more replicas than GPUs, or too late to split the CPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        usable = [n for n in range(1, len(gpus) + 1) if batch_size is None or batch_size % n == 0]
        count = num_replicas or max(usable)
        if count > len(gpus):
            raise ConfigError(f"train.num_replicas={num_replicas}: there are {len(gpus)} GPUs")
        devices = [f"GPU:{i}" for i in range(count)]
    else:
        count = max(num_replicas, 1)
        _split_cpu(count)
        devices = [f"CPU:{i}" for i in range(count)]
    if count == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)


def _split_cpu(count):
    """Makes at least `count` logical CPU devices; only possible before TensorFlow's first op."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = tf.config.get_logical_device_configuration(cpu) or [None]
    if len(logical) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        raise ConfigError(
            f"train.num_replicas={count}: TensorFlow is already running with {len(logical)} CPU device(s)"
        ) from None
