"""Old scores are not taken for new ones: metrics.json says what it was made from."""

import json
import os

import pytest
from conftest import folder_overrides

from fpn_tf import config as config_lib
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.evaluation import evaluator
from fpn_tf.evaluation.held_out import as_scored
from fpn_tf.evaluation.provenance import changed_sources, made_from, scored_by
from fpn_tf.modes.scoring import finished_metrics
from fpn_tf.training.preparation import with_classes

WEIGHTS = "ab" * 32


def sources_of(config):
    dataset = open_dataset(config.data, "eval")
    held_out, _ = as_scored(dataset, with_classes(config, dataset))
    return scored_by(held_out, with_classes(config, dataset))


@pytest.fixture
def finished(folder_config, tmp_path):
    """A model_dir with the files of a finished evaluation of step 4."""
    folder = tmp_path / "run" / "checkpoints" / "step_00000004"
    folder.mkdir(parents=True)
    state = {"step": 4, "files": {"model.weights.h5": WEIGHTS}}
    (folder / "state.json").write_text(json.dumps(state))
    sources = made_from(sources_of(folder_config), WEIGHTS, 6)
    evaluator.write(tmp_path / "run", {"AP": 0.5, "per_class": {"red": 0.5}}, [], 4, None, sources)
    return tmp_path / "run"


def edit_annotations(folder, edit, name="annotations.json"):
    coco = json.loads((folder / "annotations.json").read_text())
    edit(coco)
    (folder / name).write_text(json.dumps(coco))


def grow_an_area(coco):
    coco["annotations"][0]["area"] += 1


def move_a_box(coco):
    coco["annotations"][1]["bbox"][1] += 1


def drop_the_crowd(coco):
    coco["annotations"].pop()


def rename_nothing(coco):
    coco["info"] = {"year": 2026}


def test_the_same_again_is_not_evaluated(folder_config, finished):
    assert finished_metrics(finished, 4, sources_of(folder_config), 6) == {
        "AP": 0.5,
        "per_class": {"red": 0.5},
        "step": 4,
    }


@pytest.mark.parametrize(
    "override",
    [
        "eval.score_threshold=0.3",
        "eval.max_detections=5",
        "eval.nms_threshold=0.4",
        "eval.short_sides=48,64",
        "data.short_side=48",
        "data.resize=torchvision",
        "model.rpn.post_nms_test=16",
    ],
)
def test_another_setting_is_evaluated_again(folder_config, finished, override, capsys):
    other = config_lib.override(folder_config, [override])
    assert finished_metrics(finished, 4, sources_of(other), 6) is None
    line = capsys.readouterr().out
    assert line.endswith(": step 4 is evaluated again\n")
    key = override.partition("=")[0]
    assert key in line or ("other sizes or settings of the network" in line and not key.startswith("eval."))


@pytest.mark.parametrize("override", ["eval.pictures=3", "train.log_every=1", "data.workers=2"])
def test_what_moves_no_score_is_no_reason(folder_config, finished, override):
    other = config_lib.override(folder_config, [override])
    assert finished_metrics(finished, 4, sources_of(other), 6)["AP"] == 0.5


@pytest.mark.parametrize("edit", [grow_an_area, move_a_box, drop_the_crowd])
def test_an_edited_held_out_set_is_evaluated_again(folder_config, finished, coco_folder, edit, capsys):
    edit_annotations(coco_folder, edit)
    assert finished_metrics(finished, 4, sources_of(folder_config), 6) is None
    line = "note: eval/metrics.json is of another held-out set: step 4 is evaluated again"
    assert line in capsys.readouterr().out


def test_fields_that_nobody_reads_are_no_reason(folder_config, finished, coco_folder):
    edit_annotations(coco_folder, rename_nothing)
    assert finished_metrics(finished, 4, sources_of(folder_config), 6)["AP"] == 0.5


def test_another_held_out_set_is_evaluated_again(folder_config, finished, coco_folder):
    """Whether in another file or as other official annotations; a copy of the same is no reason."""
    edit_annotations(coco_folder, move_a_box, "moved.json")
    edit_annotations(coco_folder, rename_nothing, "copy.json")
    for name, is_same in (("moved.json", False), ("copy.json", True)):
        other = config_lib.override(
            folder_config, [*folder_overrides(coco_folder), f"data.eval_annotations={name}"]
        )
        assert (finished_metrics(finished, 4, sources_of(other), 6) is not None) == is_same
        official = config_lib.override(folder_config, [f"eval.annotations={coco_folder / name}"])
        assert (finished_metrics(finished, 4, sources_of(official), 6) is not None) == is_same


def test_replaced_photos_are_evaluated_again(folder_config, finished, coco_folder):
    path = coco_folder / "images" / "photo_2.png"
    stamp = path.stat().st_mtime_ns
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(stamp, stamp))
    assert finished_metrics(finished, 4, sources_of(folder_config), 6) is None


def test_other_weights_steps_or_fewer_photos_are_evaluated_again(folder_config, finished):
    sources = sources_of(folder_config)
    assert finished_metrics(finished, 6, sources, 6) is None
    assert finished_metrics(finished, 4, sources, 7) is None  # one could not be read
    state = {"step": 4, "files": {"model.weights.h5": "other"}}
    (finished / "checkpoints" / "step_00000004" / "state.json").write_text(json.dumps(state))
    assert finished_metrics(finished, 4, sources, 6) is None


@pytest.mark.parametrize("text", ['{"AP": 0.5, "step": 4}', "[]", "{", '{"step": 4, "made_from": 3}'])
def test_metrics_that_do_not_say_are_evaluated_again(folder_config, finished, text):
    (finished / "eval" / "metrics.json").write_text(text)
    assert finished_metrics(finished, 4, sources_of(folder_config), 6) is None


def test_changed_sources_names_the_keys(folder_config):
    sources = sources_of(folder_config)
    other = sources_of(config_lib.override(folder_config, ["eval.max_detections=7"]))
    assert changed_sources(sources, other) == "eval/metrics.json is of eval.max_detections 10 -> 7"
    assert changed_sources(None, other) == "eval/metrics.json does not say what it was made from"
