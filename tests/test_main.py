"""The command line, as a user types it."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import types

import pytest
from commands import ROOT, SMALL
from conftest import folder_overrides, make_coco_folder, run_main
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fpn_tf import command
from fpn_tf import config as config_lib
from fpn_tf.errors import InterruptedRunError
from fpn_tf.evaluation.coco import METRICS
from fpn_tf.training import loop

LOSSES = ("rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss")
QUICK = [*SMALL, "model.norm=frozen_bn", "train.learning_rate=0.0003"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished train_and_eval on a folder of drawn photos: (data folder, model_dir, its output).

    The held-out annotations number and order the classes otherwise.
    """
    root = make_coco_folder(tmp_path_factory.mktemp("main") / "data")
    coco = json.loads((root / "annotations.json").read_text())
    new_ids = {90: 0, 3: 7, 7: 3}
    names = {category["id"]: category["name"] for category in coco["categories"]}
    coco["categories"] = [{"id": new, "name": names[old]} for old, new in new_ids.items()]
    coco["annotations"] = [a | {"category_id": new_ids[a["category_id"]]} for a in coco["annotations"]]
    (root / "held_out.json").write_text(json.dumps(coco))
    model_dir = root.parent / "run"
    overrides = [*QUICK, *folder_overrides(root), "data.eval_annotations=held_out.json"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        flags = ("--experiment=coco_r50_fpn_1x", f"--model_dir={model_dir}")
        assert run_main(*flags, overrides=overrides) == 0
    return root, model_dir, output.getvalue()


def test_train_and_eval_leaves_everything_behind(trained):
    _, model_dir, output = trained
    saved = config_lib.load(model_dir / "config.json")
    assert saved.model.num_classes == 3
    assert saved.data.class_names == ("red", "green", "blue")
    assert saved.data.category_ids == (7, 3, 90)
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    sources = metrics.pop("made_from")
    assert set(metrics) == {*METRICS, "per_class", "step"}
    assert (sources["photos"], sources["eval"]["max_detections"]) == (6, 100)
    state = json.loads((model_dir / "checkpoints" / "step_00000004" / "state.json").read_text())
    assert sources["checkpoint"] == state["files"]["model.weights.h5"]
    assert state["scored_by"] == {key: sources[key] for key in ("held_out", "eval", "network")}
    assert (state["training_set"]["photos"], state["training_set"]["boxes"]) == (6, 10)
    assert metrics["step"] == 4
    assert list(metrics["per_class"]) == ["blue", "green", "red"]
    assert "classes are matched by name" in " ".join(output.split())
    detections = json.loads((model_dir / "eval" / "detections.json").read_text())
    assert {d["category_id"] for d in detections} <= {7, 3, 90}
    assert {d["image_id"] for d in detections} <= {100, 110, 120, 130, 140, 150}
    speed = json.loads((model_dir / "eval" / "speed.json").read_text())
    assert 0 < speed["seconds_per_photo"] < 60
    *_, logged = map(json.loads, (model_dir / "train.jsonl").read_text().splitlines())
    losses = logged.pop("held_out_losses")
    assert logged == metrics  # the evaluation's own line
    assert set(losses) == {*LOSSES, "total_loss"}
    assert losses["total_loss"] == pytest.approx(sum(losses[name] for name in LOSSES), rel=1e-5)
    events = EventAccumulator(str(model_dir)).Reload()
    [event] = events.Scalars("eval/head_class_loss")
    assert (event.step, event.value) == (4, pytest.approx(losses["head_class_loss"]))
    assert events.Tags()["images"] == ["pictures/100", "pictures/130"]
    [picture] = events.Images("pictures/130")
    assert (picture.step, Image.open(io.BytesIO(picture.encoded_image_string)).format) == (4, "JPEG")
    assert (model_dir / "export" / "1" / "saved_model.pb").exists()
    assert len(list((model_dir / "pictures").glob("*.png"))) == 2
    assert "run, step 4" in (model_dir / "eval" / "report.html").read_text("utf-8")
    for word in ("AP50", "AP_small", "red", "pictures", "eval/report.html", "SavedModel", str(model_dir)):
        assert word in output


@pytest.mark.usefixtures("eagerly")
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
    lines = [json.loads(line) for line in (copy / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "total_loss" in line] == [2, 4, 6]


@pytest.mark.usefixtures("eagerly")
def test_eval_predict_and_export_read_the_model_dir(trained, tmp_path, main_here, caplog):
    root, model_dir, _ = trained
    for name in ("metrics.json", "report.html"):
        (model_dir / "eval" / name).unlink()
    status, output, errors = main_here("--mode=eval", f"--model_dir={model_dir}", "--checkpoint=best")
    assert status == 0, errors
    assert f"report: {model_dir / 'eval' / 'report.html'}" in output
    assert (model_dir / "eval" / "report.html").exists()
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


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InterruptedRunError("after 3 of 9 photos"), 143, "stopped: after 3 of 9 photos\n"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT; what was saved before is whole\n"),
    ],
)
def test_an_interruption_is_no_error(error, status, line, main_here, monkeypatch):
    def interrupted():
        raise error

    monkeypatch.setattr(command, "dispatch", interrupted)
    assert main_here("--mode=predict") == (status, "", line)


def test_scoring_a_result_file(trained, tmp_path, main_here):
    root, model_dir, _ = trained
    status, output, errors = main_here(
        "--mode=eval",
        f"--detections={model_dir}/eval/detections.json",
        f"--annotations={root}/annotations.json",
        f"--model_dir={tmp_path}",
    )
    assert status == 0, errors
    assert "AP_medium" in output
    assert f"report: {tmp_path / 'eval' / 'report.html'}" in output
    assert sorted(file.name for file in (tmp_path / "eval").iterdir()) == ["metrics.json", "report.html"]


def test_a_run_that_cannot_be_continued_is_refused_and_kept(trained, main_here):
    root, model_dir, _ = trained
    before = (model_dir / "config.json").read_bytes()
    changes = ["model.neck_channels=24", "train.ema_decay=0.5", "train.clip_norm=1"]
    status, _, errors = main_here(
        "--experiment=coco_r50_fpn_1x",
        f"--model_dir={model_dir}",
        overrides=[*QUICK, *folder_overrides(root), *changes],
    )
    assert status == 1
    assert (
        "has model.neck_channels=16 (this run asks for 24), train.ema_decay=0.0 (this run asks for 0.5); "
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
    expected = "expected one of model, data, train, eval, export, name where 'a' stands"
    assert done.stderr == f"error: a.b: no such key; {expected}\n"


def test_an_installed_package_reads_experiments_of_the_current_directory(tmp_path):
    site = tmp_path / "site"
    shutil.copytree(ROOT / "fpn_tf", site / "fpn_tf", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "from fpn_tf.config import Config\n\n\ndef get_config():\n    return Config(name='of this folder')\n"
    )

    def errors(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "fpn_tf", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        return done.stderr

    # The config is there: it is the size that is refused.
    answer = errors("--mode=benchmark", "--experiment=mine", "--image_size=100,64")
    assert answer == "error: --image_size=100,64: expected whole multiples of 32\n"
    beside, current = site / "experiments" / "shapes.py", folder / "shapes.py"
    expected = f"no such file as {beside} or {current}; expected one of mine"
    assert errors() == f"error: --experiment=shapes: {expected}\n"


def test_experiments_outside_their_folder_are_refused(main_here):
    status, _, errors = main_here("--experiment=../tests/conftest")
    assert status == 1
    assert "--experiment=../tests/conftest: no such file" in errors


@pytest.mark.parametrize("mode", [name for name, mode in command.MODES.items() if mode.required])
def test_a_mode_names_the_flags_that_it_cannot_do_without(mode, main_here):
    required = command.MODES[mode].required
    status, _, errors = main_here(f"--mode={mode}")
    assert status == 1
    assert errors.startswith(f"error: --mode={mode}: expected --{required[0]}")
    assert all(f"--{flag}" in errors for flag in required)


def test_an_experiments_own_model_reaches_the_training(folder_config, tmp_path, main_here, monkeypatch):
    def get_model(config):
        raise AssertionError("the loop alone makes the model")

    experiment = types.SimpleNamespace(get_config=lambda: folder_config, get_model=get_model)
    monkeypatch.setattr(command, "experiment_module", lambda name: experiment)
    received = []
    monkeypatch.setattr(loop, "train", lambda *arguments, get_model: received.append(get_model))
    status, _, errors = main_here("--mode=train", f"--model_dir={tmp_path}/run", "--experiment=mine")
    assert (status, received) == (0, [get_model]), errors
    config_lib.save(folder_config, tmp_path / "run" / "config.json")  # as the loop does
    # The run's config.json goes on without the experiment.
    status, _, errors = main_here("--mode=train", f"--model_dir={tmp_path}/run")
    assert (status, received) == (0, [get_model, None]), errors
