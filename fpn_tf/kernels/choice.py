"""Which form of a function runs: the plain one, or a kernel that gives its numbers in less time or memory.

A plain function is written in `keras.ops` to be read, and marked by `replaceable`. It runs on every backend
and in TensorFlow graphs of unknown sizes. `chosen` alone decides when a kernel takes its place; each kernel
says in its docstring how far its numbers may lie from the plain ones.

All kernels are turned off by `with plain():`, or in a whole process by the environment variable
FPN_TF_PLAIN_KERNELS=1: to find out whether one of them is at fault, and to export a graph for engines other
than TensorFlow, which know neither its own ops nor its dynamic shapes. For training and detection here,
kernels are what is meant to run.
"""

import contextlib
import functools
import importlib
import os

import keras

ENVIRONMENT_VARIABLE = "FPN_TF_PLAIN_KERNELS"
FEWEST_CHANNELS = 64  # that Winograd's transforms pay for
KERNELS = {  # function -> {backend, else "gpu" where there is one, else "any": module of fpn_tf.kernels}
    "add": {"tensorflow": "tf_sums"},
    "add_bias": {"tensorflow": "tf_sums"},
    "conv3x3": {"tensorflow": "winograd"},
    "gather_rows": {"tensorflow": "tf_rows"},
    "momentum_step": {"tensorflow": "tf_sums"},
    "nms": {"tensorflow": "tf_nms", "gpu": "batched_nms", "any": "chunked_nms"},
    "norm_in_groups": {"tensorflow": "tf_norm"},
    "outputs_at_anchors": {"any": "sampled_cells"},
    "outputs_at_cells": {"any": "sampled_cells"},
    "roi_align": {"tensorflow": "tf_roi_align"},
    "roi_pool": {"tensorflow": "tf_roi_pool", "any": "pooling_tables"},
    "scaled": {"tensorflow": "tf_sums"},
    "sizes_of": {"tensorflow": "tf_rows"},
    "with_decay": {"tensorflow": "tf_sums"},
}

_plain_blocks = 0  # how many `plain()` are open; of the process, for replicas run in threads of their own
_platform = ""  # that convolutions are chosen for: "cpu", "any", or "": what is here


@contextlib.contextmanager
def plain():
    """Turns every kernel off inside a `with` block, in all threads.

    What counts is when a function is called or traced: compiled functions keep the form of their trace.
    """
    global _plain_blocks
    _plain_blocks += 1
    try:
        yield
    finally:
        _plain_blocks -= 1


@contextlib.contextmanager
def convolving_for(platform):
    """Has convolutions that are traced inside a `with` block chosen for another machine, in all threads.

    Args:
        platform: "cpu", or "any": by TensorFlow's own op, which every platform and version has.
    """
    global _platform
    before, _platform = _platform, platform
    try:
        yield
    finally:
        _platform = before


def plain_is_asked_for():
    """Whether all kernels are off: inside `plain()`, or by the environment variable."""
    return _plain_blocks > 0 or os.environ.get(ENVIRONMENT_VARIABLE, "") not in ("", "0")


def chosen(name, *arguments):
    """The kernel that takes a function's place for these arguments.

    Args:
        name: of the function, one of `KERNELS`.
        *arguments: what the function is called with.

    Returns:
        A function of the same arguments; None where the plain one runs.
    """
    if plain_is_asked_for():
        return None
    module = _module_of(KERNELS[name])
    if module is None or (name == "conv3x3" and not _winograd_is_faster(*arguments)):
        return None
    return getattr(importlib.import_module(f"fpn_tf.kernels.{module}"), name)


def replaceable(function):
    """Marks a plain function: calls go to the kernel of its name where `chosen` gives one.

    The function itself remains at hand as `function.plain`.
    """

    @functools.wraps(function)
    def plain_or_kernel(*arguments, **options):
        kernel = chosen(function.__name__, *arguments)
        return (kernel or function)(*arguments, **options)

    plain_or_kernel.plain = function
    return plain_or_kernel


def gpu_is_there():
    """Whether Keras' backend computes on a GPU."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.default_backend() == "gpu"
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def _module_of(modules):
    """The name of the module that has the kernel on this backend and device, of an entry of `KERNELS`."""
    if keras.config.backend() in modules:
        return modules[keras.config.backend()]
    if "gpu" in modules and gpu_is_there():
        return modules["gpu"]
    return modules.get("any")


def _winograd_is_faster(x, kernel):
    """For many channels in float32 on a CPU; on a GPU cuDNN chooses an algorithm itself."""
    is_on_cpu = _platform == "cpu" if _platform else not gpu_is_there()
    return min(kernel.shape[2:]) >= FEWEST_CHANNELS and x.dtype == "float32" and is_on_cpu
