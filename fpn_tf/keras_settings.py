"""Keras' own settings: its backend, and under the command the numbers it takes by default.

They come from `KERAS_BACKEND` and from the file keras.json in the user's home, which belong to other
programs as well: what a run computes must not depend on them. Nothing here imports Keras before its
settings are known to be ones that it starts with.
"""

import importlib.util
import json
import os
import pathlib
import sys

from fpn_tf.errors import ConfigError

BACKEND = "tensorflow"  # that the command runs on
BACKENDS = ("tensorflow", "jax", "torch", "numpy", "openvino")  # that Keras knows, by their modules
FLOAT_TYPES = ("float16", "float32", "float64")  # with others in its file Keras does not start
IMAGE_FORMATS = ("channels_last", "channels_first")


def settings_file():
    """The path of the file that Keras reads its settings from, as Keras finds it."""
    if "KERAS_HOME" in os.environ:
        folder = pathlib.Path(os.environ["KERAS_HOME"]).expanduser()
    else:
        home = pathlib.Path.home()
        folder = (home if os.access(home, os.W_OK) else pathlib.Path("/tmp")) / ".keras"
    return folder / "keras.json"


def chosen_backend():
    """(name of the backend that Keras runs or would start on, what names it, for messages)."""
    keras = sys.modules.get("keras")
    if keras is not None:  # in a notebook
        return keras.config.backend(), f"Keras runs on {keras.config.backend()} in this process"
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}"
    name = _values(settings_file()).get("backend", BACKEND)
    return name, f"{settings_file()}: backend={name}"


def check_backend(modes):
    """Raises ConfigError where Keras runs on another backend than the command, or on one that is absent.

    Args:
        modes: names of the modes that need TensorFlow, for the message.
    """
    name, setting = chosen_backend()
    listed = f"{', '.join(modes[:-1])} and {modes[-1]}"
    if name != BACKEND:
        raise ConfigError(
            f"{setting}: the modes {listed} need TensorFlow; expected KERAS_BACKEND={BACKEND} before the "
            "command (in Python the detectors train and detect on jax and torch as well)"
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise ConfigError(
            f"TensorFlow is not installed, and the modes {listed} need it; expected `pip install tensorflow`"
        )


def check_startable():
    """Raises ConfigError where Keras, which does not run yet, could not start: in one line what is absent."""
    if sys.modules.get("keras") is not None:
        return
    name, setting = chosen_backend()
    if name not in BACKENDS:
        raise ConfigError(f"{setting}: expected one of Keras' backends, such as tensorflow, jax or torch")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"{setting}: {name} is not installed; expected it, or another backend")
    check_file()


def check_file():
    """Raises ConfigError for values in keras.json that Keras does not start with."""
    path = settings_file()
    values = _values(path)
    for key, allowed in (("floatx", FLOAT_TYPES), ("image_data_format", IMAGE_FORMATS)):
        value = values.get(key, allowed[0])
        if value not in allowed:
            raise ConfigError(f"{path}: {key}={value}: expected one of {', '.join(allowed)}")
    if not isinstance(values.get("epsilon", 0.0), float):
        raise ConfigError(f"{path}: epsilon={values['epsilon']}: expected a number such as 1e-07")


def settle():
    """Gives Keras the defaults that this project's numbers were made with, whatever the user's file says.

    `train.precision` alone decides the precision of a run.
    """
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)


def _values(path):
    """{key: value} of keras.json; {} where Keras reads nothing from it either."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected an object, such as Keras writes")
    return values
