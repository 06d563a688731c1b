"""Shared by all tests: quiet backends, a tiny config, a small COCO-format folder."""

import importlib
import json
import os
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fpn_tf.config import (
    Config,
    DataConfig,
    EvalConfig,
    ExportConfig,
    ModelConfig,
    ROIConfig,
    RPNConfig,
    TrainConfig,
    override,
)

LONG_FILES = ("test_jax", "test_loop", "test_survival", "test_main", "test_export", "test_readme")


@pytest.fixture(scope="session", autouse=True)
def tensorflow_for_tests(request):
    """Two CPU devices, for tests with replicas; and graphs that run as they were traced.

    TensorFlow optimises a graph for longer than a test runs it. Slow tests and processes of their
    own run graphs as a user's are run.

    Not at import: torchvision, where a test compares with it, has to be imported before TensorFlow.
    """
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return
    import tensorflow as tf

    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    if request.config.option.markexpr == "not slow":
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True)
def collective_keys(tensorflow_for_tests):
    """Every test's strategy numbers its collective sums for itself.

    TensorFlow remembers the shapes of a process' sums by their numbers, which each strategy counts from
    the same one; the sums of two strategies in one process would be taken for each other's.
    """
    tf = sys.modules.get("tensorflow")
    if tf is not None:
        tf.distribute.MirroredStrategy._collective_key_base += 100_000


@pytest.fixture
def eagerly(tensorflow_for_tests):
    """TensorFlow's functions run op by op: for a few steps that is faster than tracing them.

    What a graph alone can get wrong (shapes, retracing, replicas, export) other tests show.
    """
    tf = sys.modules.get("tensorflow")
    if tf is None:
        yield
        return
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def pytest_collection_modifyitems(items):
    """Long files come first, so that at the end no process waits for one of them."""
    items.sort(key=lambda item: item.path.stem not in LONG_FILES)


def make_tiny_config():
    """A detector that runs in milliseconds: 3 classes, images around 64 x 96."""
    config = Config(
        model=ModelConfig(
            backbone="resnet_tiny",
            num_classes=3,
            norm="group_norm",
            frozen_stages=0,
            neck_channels=16,
            rpn=RPNConfig(
                anchor_sizes=(8, 16, 32, 64, 96),
                samples=32,
                pre_nms_train=64,
                pre_nms_test=48,
                post_nms_train=40,
                post_nms_test=32,
            ),
            roi=ROIConfig(canonical_size=56, hidden_units=32, samples=16),
        ),
        data=DataConfig(short_side=64, max_side=96, max_bad_fraction=0.5),
        train=TrainConfig(
            steps=4, batch_size=2, learning_rate=0.01, warmup_steps=2, checkpoint_every=2, log_every=2
        ),
        eval=EvalConfig(batch_size=2, score_threshold=0.0, max_detections=10),
        export=ExportConfig(platform="cpu"),  # what is traced for `detect` already
    )
    return config.validate()


def make_quick_config():
    """`make_tiny_config` on one map and with constant norms: a step is traced in half the time.

    For tests of what happens around a model.
    """
    changes = ["model.neck=c4", "model.norm=frozen_bn", "train.learning_rate=0.0003"]
    return override(make_tiny_config(), changes)


@pytest.fixture
def tiny_config():
    return make_tiny_config()


@pytest.fixture(params=["c4", pytest.param("fpn", marks=pytest.mark.slow)])
def quick_config(request):
    """`make_quick_config`; among the slow tests `make_tiny_config` as well."""
    return make_quick_config() if request.param == "c4" else make_tiny_config()


@pytest.fixture
def batch():
    """Two images of different sizes on one canvas; the second has a single object."""
    rng = np.random.default_rng(0)
    x = {
        "images": rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8),
        "image_sizes": np.array([[64, 96], [50, 80]], np.int32),
    }
    y = {
        "boxes": np.array([[[4, 4, 30, 40], [50, 10, 90, 60]], [[10, 12, 60, 48], [0, 0, 0, 0]]], np.float32),
        "classes": np.array([[1, 3], [2, 0]], np.int32),
        "valid": np.array([[True, True], [True, False]]),
        "sample_seeds": np.array([11, 12], np.int32),
    }
    return x, y


@pytest.fixture
def coco_folder(tmp_path):
    """A COCO-format folder of six drawn photos; ids with gaps, a crowd, an empty image."""
    return make_coco_folder(tmp_path / "data")


def make_coco_folder(root, sizes=((64, 96), (96, 64), (64, 96), (64, 96), (96, 64), (64, 96))):
    """Draws photos with two rectangles each and writes their annotations; returns the folder."""
    rng = np.random.default_rng(1)
    (root / "images").mkdir(parents=True)
    coco = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7, "name": "red"}, {"id": 3, "name": "green"}, {"id": 90, "name": "blue"}],
    }
    colors = {7: (220, 30, 30), 3: (30, 200, 30), 90: (40, 40, 230)}
    for i, (height, width) in enumerate(sizes):
        image = Image.fromarray(rng.integers(90, 160, (height, width, 3), dtype=np.uint8))
        name = f"photo_{i}.png"
        coco["images"].append({"id": 100 + 10 * i, "file_name": name, "height": height, "width": width})
        for j in range(0 if i == 3 else 2):
            w, h = rng.integers(14, 30, 2)
            x, y = rng.integers(0, width - w), rng.integers(0, height - h)
            category = (7, 3, 90)[(i + j) % 3]
            ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), fill=colors[category])
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": 100 + 10 * i,
                    "category_id": category,
                    "bbox": [float(v) for v in (x, y, w, h)],
                    "area": float(w * h),
                    "iscrowd": 0,
                }
            )
        image.save(root / "images" / name)
    box = [2.0, 3.0, 20.0, 10.0]
    coco["annotations"].append(
        {"id": 50, "image_id": 100, "category_id": 3, "bbox": box, "area": 200.0, "iscrowd": 1}
    )
    (root / "annotations.json").write_text(json.dumps(coco))
    return root


def make_readers_folder(root):
    """What a reader of the documentation has: train.json, val.json, photos/ and runs/shapes/."""
    from fpn_tf import build
    from fpn_tf.pretrained.model_dir import write_model_dir

    data = make_coco_folder(root / "data")
    shutil.copytree(data / "images", root / "photos")
    for name in ("train.json", "val.json"):
        shutil.copy(data / "annotations.json", root / name)
    write_model_dir(build(make_quick_config()), root / "runs" / "shapes")
    return root


def folder_overrides(root):
    """The overrides that name a folder of `make_coco_folder` as both splits."""
    paths = {"annotations": "annotations.json", "images": "images"}
    return [f"data.root={root}", *(f"data.{s}_{k}={v}" for s in ("train", "eval") for k, v in paths.items())]


@pytest.fixture
def folder_config(tiny_config, coco_folder):
    """`tiny_config` on the drawn folder."""
    return override(tiny_config, folder_overrides(coco_folder))


def run_main(*arguments, overrides=()):
    """`main.py` in this process: its exit status."""
    module = importlib.import_module("main")
    module.flags.FLAGS.unparse_flags()
    module.flags.FLAGS(["main.py", *arguments, *(f"--params_override={o}" for o in overrides)])
    try:
        module.main(["main.py"])
    except SystemExit as ended:
        return ended.code
    finally:
        module.flags.FLAGS.unparse_flags()
    return 0


@pytest.fixture
def main_here(capfd):
    """`main.py` in this process: arguments -> (exit status, standard output, standard error)."""

    def run(*arguments, overrides=()):
        status = run_main(*arguments, overrides=overrides)
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def idle_steps(monkeypatch):
    """Steps that learn nothing and are not traced, for tests of what happens between them."""

    from fpn_tf.training import loop
    from fpn_tf.training.step import StepResult

    def make(model, optimizer, *rest):
        def step(x, y, stop):
            optimizer.iterations.assign_add(1)
            return StepResult(dict.fromkeys((*model.loss_names, "total_loss"), 1.0), True, stop)

        return step

    monkeypatch.setattr(loop, "make_train_step", make)
