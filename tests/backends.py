"""The other backends of Keras: tensors for any of them, and processes that run on one."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
from conftest import make_coco_folder, make_tiny_config
from keras import ops
from on_a_backend import save_detections

from fpn_tf import build, config, files

TESTS = pathlib.Path(__file__).parent
CORE = ("geometry", "targets", "models", "test_losses.py", "test_preprocessing.py")


def tensors_of(structure):
    """The arrays in records, dicts and tuples as tensors of the backend in use.

    PyTorch's tensors do not compute with NumPy's arrays; TensorFlow's and JAX's do.
    """
    return keras.tree.map_structure(ops.convert_to_tensor, structure)


def run_on(backend, *arguments):
    """`python *arguments` in a process with that backend; a backend is chosen at import."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    if backend == "jax":
        environment["JAX_PLATFORMS"] = "cpu"
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiles in half the time
    else:
        environment["OMP_NUM_THREADS"] = "1"  # tiny tensors: threads would wait for each other
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def check_tests(backend, names, *options):
    """Runs files and folders of tests on a backend; they pass, or are TensorFlow's own and skipped."""
    quiet = ("-n", "0", "-p", "no:cacheprovider", "-m", "slow or not slow")
    done = run_on(backend, "-m", "pytest", *quiet, *options, *(str(TESTS / name) for name in names))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def run_without_tensorflow(backend, program, folder):
    """A Python program with a folder as its `sys.argv[1]`, in which an import of TensorFlow fails."""
    done = run_on(backend, "-c", f"import sys; sys.modules['tensorflow'] = None\n{program}", str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_same_detections(backend, folder, sampling_ratio):
    """A model saved on TensorFlow detects the same without it.

    The classifier's kernel is enlarged, so that scores differ by more than a backend's rounding.
    """
    settings = config.replace(make_tiny_config(), **{"model.roi.sampling_ratio": sampling_ratio})
    photo = np.random.default_rng(0).integers(0, 256, (75, 110, 3), dtype=np.uint8)
    config.save(settings, folder / "config.json")
    np.save(folder / "photo.npy", photo)
    keras.utils.set_random_seed(1)
    model = build(settings)
    kernel = model.box_head.head.classifier.kernel
    kernel.assign(30 * kernel)
    model.save_weights(folder / "model.weights.h5")
    save_detections(model, photo, folder / "expected.npz")
    run_without_tensorflow(backend, "from on_a_backend import detect; detect(sys.argv[1])", folder)
    expected, result = np.load(folder / "expected.npz"), np.load(folder / "detections.npz")
    assert len(expected["scores"]) > 3
    assert np.ptp(expected["scores"]) > 0.05
    np.testing.assert_array_equal(result["classes"], expected["classes"])
    np.testing.assert_allclose(result["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(result["boxes"], expected["boxes"], atol=1e-3)


def check_training(backend, folder, settings):
    """`fit`, `evaluate`, `fpn_tf.evaluate`, saving and thresholds do without TensorFlow what they should."""
    make_coco_folder(folder / "data")
    config.save(settings, folder / "config.json")
    np.save(folder / "photo.npy", np.random.default_rng(0).integers(0, 256, (75, 110, 3), dtype=np.uint8))
    run_without_tensorflow(backend, "from on_a_backend import train; train(sys.argv[1])", folder)
    results = files.read_json(folder / "results.json")
    first, *_, last = results["fit"]
    assert last < 0.9 * first
    names = ("rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss")
    losses = results["evaluate"]
    assert set(losses) == {"loss", *names}
    np.testing.assert_allclose(losses["loss"], sum(losses[name] for name in names), rtol=1e-4)
    assert results["evaluate_again"] == losses  # the same anchors are drawn
    assert 0 <= results["AP"] <= 1
    every, some, threshold = (results[name] for name in ("scores", "scores_above", "threshold"))
    assert 0 < len(some) < len(every)
    np.testing.assert_allclose(some, [score for score in every if score > threshold], atol=1e-5)
    np.testing.assert_allclose(results["scores_of_the_saved"], every, atol=1e-5)
    assert np.isfinite(results["fit_of_the_saved"]).all()
    for message in results["misuse"]:
        assert "expected {'images': [B, H, W, 3], 'image_sizes': [B, 2]}, or model.detect(photos)" in message
