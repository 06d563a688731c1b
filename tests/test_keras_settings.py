"""A user's keras.json and KERAS_BACKEND: their precision is not ours, and no backend is a traceback."""

import json
import sys

import keras
import numpy as np
import pytest

import fpn_tf
from fpn_tf import build, command, keras_settings, kernels
from fpn_tf.errors import ConfigError
from fpn_tf.geometry import selection
from fpn_tf.geometry.bilinear_pooling import roi_align
from fpn_tf.geometry.boxes import anchor_grid
from fpn_tf.geometry.selection import uniform_noise
from fpn_tf.geometry.windows import window_grid
from fpn_tf.kernels import chunked_nms, pooling_tables
from fpn_tf.targets.box_targets import match, sample


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Writes keras.json in a home of its own, as another process would find it before Keras starts."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setitem(sys.modules, "keras", None)

    def write(**values):
        (tmp_path / "keras.json").write_text(json.dumps(values))
        return tmp_path / "keras.json"

    return write


def test_where_the_file_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "~/keras")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_settings.settings_file() == tmp_path / "keras" / "keras.json"
    monkeypatch.delenv("KERAS_HOME")
    assert keras_settings.settings_file() == tmp_path / ".keras" / "keras.json"


@pytest.mark.parametrize("backend", ["torch", "jax", "theano", "numpy"])
@pytest.mark.parametrize("where", ["file", "variable"])
def test_another_backend_ends_in_one_line(home, monkeypatch, main_here, backend, where):
    path = home(backend=backend if where == "file" else "tensorflow")
    if where == "variable":
        monkeypatch.setenv("KERAS_BACKEND", backend)
    for mode in ("train_and_eval", "eval", "export"):
        status, _, errors = main_here(f"--mode={mode}", "--model_dir=none")
        assert status == 1
        setting = f"{path}: backend={backend}" if where == "file" else f"KERAS_BACKEND={backend}"
        assert errors.startswith(
            f"error: {setting}: the modes train_and_eval, train, inspect, eval, predict, propose, join, "
            "export, import_weights and benchmark need TensorFlow; expected KERAS_BACKEND=tensorflow"
        )
        assert errors.count("\n") == 1


def test_the_variable_wins_over_the_file(home, monkeypatch):
    home(backend="jax")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras_settings.check_backend(["a", "b"])
    monkeypatch.setenv("KERAS_BACKEND", "")  # as if it were not set
    with pytest.raises(ConfigError, match="backend=jax"):
        keras_settings.check_backend(["a", "b"])


def test_a_process_in_which_keras_runs_already(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # too late
    keras_settings.check_backend(["a", "b"])
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ConfigError, match="Keras runs on torch in this process: the modes a and b need Tens"):
        keras_settings.check_backend(["a", "b"])


def test_without_tensorflow(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match="TensorFlow is not installed, and the modes a and b need it"):
        keras_settings.check_backend(["a", "b"])


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("theano", "expected one of Keras' backends, such as tensorflow, jax or torch"),
        ("torch", "torch is not installed; expected it, or another backend"),
    ],
)
def test_a_backend_that_cannot_be_had_is_told_in_python(home, monkeypatch, backend, message):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = home(backend=backend)
    for name in ("FasterRCNN", "load", "evaluate"):
        with pytest.raises(ConfigError) as caught:
            getattr(fpn_tf, name)
        assert str(caught.value) == f"{path}: backend={backend}: {message}"
    assert fpn_tf.TrainConfig(steps=3).steps == 3  # which needs no Keras
    home(backend="tensorflow")
    keras_settings.check_startable()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"floatx": "half"}, "floatx=half: expected one of float16, float32, float64"),
        ({"floatx": 32}, "floatx=32: expected one of"),
        ({"image_data_format": "NCHW"}, "image_data_format=NCHW: expected one of channels_last"),
        ({"epsilon": 1}, "epsilon=1: expected a number such as 1e-07"),
    ],
)
def test_values_that_keras_does_not_start_with(home, values, message):
    path = home(**values)
    with pytest.raises(ConfigError) as caught:
        keras_settings.check_file()
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_a_file_that_keras_passes_over_is_passed_over(home, text):
    home().write_text(text, encoding="latin-1")
    keras_settings.check_file()
    keras_settings.check_backend(["a", "b"])


def test_a_file_of_another_form(home):
    home().write_text("[]")
    with pytest.raises(ConfigError, match=r"keras.json: expected an object"):
        keras_settings.check_file()


@pytest.fixture
def usual():
    """Puts Keras' defaults back."""
    yield
    keras_settings.settle()


@pytest.mark.usefixtures("usual")
def test_the_command_settles_keras_defaults():
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(1e-3)
    command.import_modes()
    assert (keras.config.floatx(), keras.config.image_data_format()) == ("float32", "channels_last")
    assert (keras.config.dtype_policy().name, keras.config.epsilon()) == ("float32", 1e-7)


# In Python, where the command does not settle them --------------------------------------------------


def users_defaults(floatx):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    keras.config.set_image_data_format("channels_first")


def arrays_of(structure):
    return [np.asarray(value) for value in keras.tree.flatten(structure)]


def geometry():
    """What the pure functions give: more anchors than 16 bits can count among it."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (2, 40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 30, (2, 40, 2))], axis=-1).astype("float32")
    scores, valid = rng.uniform(0, 1, (2, 40)).astype("float32"), rng.uniform(0, 1, (2, 40)) > 0.2
    noise = uniform_noise(np.array([3, 4], "int32"), 40_000, 1)
    matched = match(boxes, boxes[:, :7] + 1, valid[:, :7], 0.7, 0.3, True)
    drawn = sample(matched[1], noise[:, :40], 16, 0.5)
    features, few = {2: rng.normal(size=(2, 5, 5, 2)).astype("float32")}, boxes[:, :2] / 4
    levels = np.full((2, 2), 2, "int32")
    return arrays_of(
        [
            anchor_grid((200, 200), 4, np.array([[-8.0, -8, 8, 8]])),
            window_grid({2: (9, 7)}, (32.0,), 0.25),
            noise,
            matched,
            drawn,
            *(kernel(boxes, scores, valid, 0.5, 10) for kernel in (selection.nms, chunked_nms.nms)),
            roi_align(features, few, levels, 2, 2, True),
            pooling_tables.roi_pool(features, few, levels, 2),
        ]
    )


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize("floatx", ["float16", pytest.param("float64", marks=pytest.mark.slow)])
def test_geometry_does_not_depend_on_a_users_default(floatx):
    """Keras makes Python's numbers as wide as its floatx: of float16, whole numbers of 16 bits."""
    with kernels.plain():
        expected = geometry()
        users_defaults(floatx)
        for a, b in zip(expected, geometry(), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("usual", "eagerly")
@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_a_model_of_a_config_computes_the_same_under_a_users_default(tiny_config, batch, floatx):
    keras.utils.set_random_seed(0)
    model = build(tiny_config)
    weights, (x, y) = model.get_weights(), batch
    expected = losses_and_boxes(model, x, y)
    users_defaults(floatx)
    other = build(tiny_config)
    assert {v.dtype for v in other.weights} == {"float32"}
    other.set_weights(weights)
    for a, b in zip(expected, losses_and_boxes(other, x, y), strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def losses_and_boxes(model, x, y):
    """A step's losses, and the boxes and scores that are detected."""
    losses = model.compute_losses(y, model.propose(x, training=True), True)
    detections = model(x, training=False)
    return arrays_of([*losses.values(), detections.boxes, detections.scores])
