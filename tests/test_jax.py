"""The core under KERAS_BACKEND=jax, in processes of their own."""

import importlib.util

import keras
import pytest
from backends import CORE, check_same_detections, check_tests, check_training, run_without_tensorflow

from fpn_tf import config

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None or keras.config.backend() != "tensorflow",
    reason="needs jax beside tensorflow",
)


@pytest.mark.slow
def test_the_core_passes_its_tests_on_jax():
    # Of whole detectors what is quick without a compiled graph.
    check_tests("jax", CORE, "-k", "not models or by_hand or fit_and_evaluate")


def test_imports_without_tensorflow(tmp_path):
    names = "*(getattr(fpn_tf, n) for n in fpn_tf.__all__)"
    program = f"import fpn_tf, keras; print(keras.backend.backend(), {names})"
    assert run_without_tensorflow("jax", program, tmp_path).startswith("jax <class")


@pytest.mark.slow
@pytest.mark.parametrize("sampling_ratio", [2, 0])  # fixed, and as many as a box needs
def test_same_weights_same_detections_on_jax(tmp_path, sampling_ratio):
    check_same_detections("jax", tmp_path, sampling_ratio)


@pytest.mark.slow
def test_fit_and_what_follows_on_jax(tmp_path, tiny_config):
    one_map = config.replace(tiny_config, **{"model.neck": "c4"})  # compiles in half the time
    check_training("jax", tmp_path, one_map)
