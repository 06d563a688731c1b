"""The core under KERAS_BACKEND=jax, in processes of their own: a backend is chosen at import."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from fpn_tf import FasterRCNN, config

HERE = pathlib.Path(__file__).parent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None or keras.config.backend() != "tensorflow",
    reason="needs jax beside tensorflow",
)
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None\n"


def run_on_jax(*arguments):
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiles in half the time
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_the_core_passes_its_tests_on_jax():
    files = ("test_losses.py", "models/test_faster_rcnn.py", "models/test_pyramids.py")
    chosen = [HERE / name for name in ("geometry", "targets", *files)]
    # Of whole detectors what is quick without a compiled graph.
    names = "not models or by_hand or fit_and_evaluate"
    options = ("-n", "0", "-p", "no:cacheprovider", "-m", "slow or not slow", "-k", names)
    done = run_on_jax("-m", "pytest", *options, *map(str, chosen))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_imports_without_tensorflow():
    script = (
        "import fpn_tf, keras; print(keras.backend.backend(), *(getattr(fpn_tf, n) for n in fpn_tf.__all__))"
    )
    done = run_on_jax("-c", WITHOUT_TENSORFLOW + script)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("jax <class")


SCRIPT = """
import sys, numpy as np
from fpn_tf import FasterRCNN, config
folder = sys.argv[1]
model = FasterRCNN(config.load(folder + "/config.json"))
model.load_weights(folder + "/model.weights.h5")
[found] = model.detect([np.load(folder + "/photo.npy")])
np.savez(folder + "/jax.npz", **found._asdict())
"""


@pytest.mark.parametrize("sampling_ratio", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_same_weights_same_detections_on_jax(tiny_config, tmp_path, sampling_ratio):
    photo = np.random.default_rng(0).integers(0, 256, (75, 110, 3), dtype=np.uint8)
    settings = config.replace(tiny_config, **{"model.roi.sampling_ratio": sampling_ratio})
    keras.utils.set_random_seed(1)
    model = FasterRCNN(settings)
    config.save(settings, tmp_path / "config.json")
    model.save_weights(tmp_path / "model.weights.h5")
    np.save(tmp_path / "photo.npy", photo)
    done = run_on_jax("-c", WITHOUT_TENSORFLOW + SCRIPT, str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    [expected], found = model.detect([photo]), np.load(tmp_path / "jax.npz")
    assert len(expected.scores) > 3
    np.testing.assert_array_equal(found["classes"], expected.classes)
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-5)
    np.testing.assert_allclose(found["boxes"], expected.boxes, atol=1e-3)
