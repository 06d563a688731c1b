"""The core under KERAS_BACKEND=torch, in processes of their own."""

import importlib.util

import keras
import pytest
from backends import CORE, check_same_detections, check_tests, check_training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None or keras.config.backend() != "tensorflow",
        reason="needs torch beside tensorflow",
    ),
]


def test_the_core_passes_its_tests_on_torch():
    check_tests("torch", (*CORE, "test_contract.py"))


@pytest.mark.parametrize("sampling_ratio", [2, 0])  # fixed, and as many as a box needs
def test_same_weights_same_detections_on_torch(tmp_path, sampling_ratio):
    check_same_detections("torch", tmp_path, sampling_ratio)


def test_fit_and_what_follows_on_torch(tmp_path, tiny_config):
    check_training("torch", tmp_path, tiny_config)
