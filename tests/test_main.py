"""The command line, as a user types it."""

import json
import shutil
import subprocess
import sys

import pytest
from commands import ROOT, SMALL, main
from conftest import folder_overrides, make_coco_folder
from PIL import Image

from fpn_tf import config as config_lib
from fpn_tf.evaluation.coco import METRICS

QUICK = [*SMALL, "model.norm=frozen_bn", "train.learning_rate=0.0003"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished train_and_eval on a folder of drawn photos: (data folder, model_dir, its output)."""
    root = make_coco_folder(tmp_path_factory.mktemp("main") / "data")
    model_dir = root.parent / "run"
    overrides = [*QUICK, *folder_overrides(root)]
    status, output, errors = main(
        "--experiment=coco_r50_fpn_1x", f"--model_dir={model_dir}", overrides=overrides
    )
    assert status == 0, output + errors
    return root, model_dir, output


def test_train_and_eval_leaves_everything_behind(trained):
    _, model_dir, output = trained
    saved = config_lib.load(model_dir / "config.json")
    assert saved.model.num_classes == 3
    assert saved.data.class_names == ("red", "green", "blue")
    assert saved.data.category_ids == (7, 3, 90)
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    assert set(metrics) == {*METRICS, "per_class", "step"}
    assert metrics["step"] == 4
    assert list(metrics["per_class"]) == ["red", "green", "blue"]
    detections = json.loads((model_dir / "eval" / "detections.json").read_text())
    assert {d["category_id"] for d in detections} <= {7, 3, 90}
    assert {d["image_id"] for d in detections} <= {100, 110, 120, 130, 140, 150}
    speed = json.loads((model_dir / "eval" / "speed.json").read_text())
    assert 0 < speed["seconds_per_photo"] < 60
    assert (model_dir / "train.jsonl").exists()
    assert (model_dir / "export" / "1" / "saved_model.pb").exists()
    assert len(list((model_dir / "pictures").glob("*.png"))) == 2
    for word in ("AP50", "AP_small", "red", "pictures", "SavedModel", str(model_dir)):
        assert word in output


def test_a_second_run_goes_on_where_the_first_stopped(trained, tmp_path, main_here):
    _, model_dir, _ = trained
    copy = tmp_path / "run"
    shutil.copytree(model_dir, copy)
    # No --experiment: the run's own config.json is read.
    status, output, errors = main_here("--mode=train", f"--model_dir={copy}", overrides=["train.steps=6"])
    assert status == 0, errors
    assert "going on from" in output
    assert "step 4 of 6" in output
    assert "train.steps 4 -> 6" in output
    steps = [json.loads(line)["step"] for line in (copy / "train.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]


def test_eval_predict_and_export_read_the_model_dir(trained, tmp_path, main_here, caplog):
    root, model_dir, _ = trained
    (model_dir / "eval" / "metrics.json").unlink()
    status, _, errors = main_here("--mode=eval", f"--model_dir={model_dir}", "--checkpoint=best")
    assert status == 0, errors
    assert json.loads((model_dir / "eval" / "metrics.json").read_text())["step"] == 4

    shutil.copytree(root / "images", tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"broken")
    Image.new("L", (70, 50), 99).save(tmp_path / "photos" / "grey.jpg")
    status, _, errors = main_here(
        "--mode=predict",
        f"--model_dir={model_dir}",
        f"--images={tmp_path}/photos",
        f"--output={tmp_path}/out",
        "--min_score=0",
    )
    assert status == 0, errors
    assert "broken.jpg" in caplog.text
    assert len(list((tmp_path / "out").glob("*.png"))) == 7
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(found["images"]) == 7
    assert {a["category_id"] for a in found["annotations"]} <= {7, 3, 90}

    status, output, errors = main_here("--mode=export", f"--model_dir={model_dir}", "--format=npz")
    assert status == 0, errors
    assert "exported step 4" in output
    assert (model_dir / "export" / "detector.npz").is_file()


def test_scoring_a_result_file(trained, main_here):
    root, model_dir, _ = trained
    status, output, errors = main_here(
        "--mode=eval",
        f"--detections={model_dir}/eval/detections.json",
        f"--annotations={root}/annotations.json",
    )
    assert status == 0, errors
    assert "AP_medium" in output


def test_a_run_that_cannot_be_continued_is_refused_and_kept(trained, main_here):
    root, model_dir, _ = trained
    before = (model_dir / "config.json").read_bytes()
    changes = ["model.fpn_channels=24", "train.ema_decay=0.5", "train.clip_norm=1"]
    status, _, errors = main_here(
        "--experiment=coco_r50_fpn_1x",
        f"--model_dir={model_dir}",
        overrides=[*QUICK, *folder_overrides(root), *changes],
    )
    assert status == 1
    assert (
        "has model.fpn_channels=16 (this run asks for 24), train.ema_decay=0.0 (this run asks for 0.5); "
        "choose another --model_dir" in errors
    )
    assert (model_dir / "config.json").read_bytes() == before


def test_a_mistake_in_a_flag_is_answered_before_keras_starts():
    script = """
import sys
sys.modules["keras"] = sys.modules["tensorflow"] = None
import main
main.flags.FLAGS(["main.py", "--params_override=a.b=1"])
main.main(["main.py"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    expected = "expected one of model, data, train, eval, name where 'a' stands"
    assert done.stderr == f"error: a.b: no such key; {expected}\n"
