"""Workers that were started differently are told apart, in one line, by what differs and which worker."""

import copy
import json
import types

import numpy as np
import pytest

from fpn_tf import config as config_lib
from fpn_tf.checkpoint_state import seal
from fpn_tf.data import coco_folder
from fpn_tf.errors import ClusterError
from fpn_tf.training.agreement import (
    check_agreement,
    command_facts,
    data_facts,
    difference_between,
    reading_facts,
    start_facts,
)


def overridden(config, *texts):
    return config_lib.override(config, texts)


def difference(*facts):
    return difference_between(json.loads(json.dumps(facts)))


def commands(config, model_dir, *overrides):
    """The facts of a worker with the config, and of others that each have one override more."""
    configs = [config, *(overridden(config, text) for text in overrides)]
    return [command_facts("train", each, model_dir) for each in configs]


END = ": expected the same command, data and software on all 2 workers"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train.seed=3", "train.seed=3 (worker 0: 0)"),
        ("train.learning_rate=0.02", "train.learning_rate=0.02 (worker 0: 0.01)"),
        ("train.precision=mixed_bfloat16", 'train.precision="mixed_bfloat16" (worker 0: "float32")'),
        ("model.roi.hidden_units=64", "model.roi.hidden_units=64 (worker 0: 32)"),
        ("data.train_short_sides=56,64", "data.train_short_sides=[56, 64] (worker 0: [])"),
        ("eval.score_threshold=0.5", "eval.score_threshold=0.5 (worker 0: 0.0)"),
        ("train.decay_at=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,0.95", "other train.decay_at"),
    ],
)
def test_another_key_is_named_with_both_values(folder_config, tmp_path, text, told):
    assert difference(*commands(folder_config, tmp_path, text)) == f"worker 1 has {told}{END}"


def test_equal_commands_agree(folder_config, tmp_path):
    assert difference(*commands(folder_config, tmp_path)) == ""
    # Threads, and where the same things lie, are a machine's own.
    assert difference(*commands(folder_config, tmp_path, "data.workers=3", "data.root=/elsewhere")) == ""


def test_every_worker_that_differs_is_named(folder_config, tmp_path):
    facts = commands(folder_config, tmp_path, "train.seed=3", "data.workers=3", "train.steps=9")
    assert difference(*facts) == (
        "worker 1 has train.seed=3 (worker 0: 0); worker 3 has train.steps=9 (worker 0: 4): expected the "
        "same command, data and software on all 4 workers"
    )


def test_many_differences_stay_one_line(folder_config, tmp_path):
    keys = "steps batch_size log_every checkpoint_every warmup_steps keep_checkpoints keep_every max_restores"
    other = overridden(folder_config, *(f"train.{key}=20" for key in keys.split()), "train.seed=7")
    facts = [command_facts("train", each, tmp_path) for each in (folder_config, other)]
    assert difference(*facts).endswith(f"and 1 more{END}")
    assert "\n" not in difference(*facts)


def test_another_mode_or_checkpoint_is_named(folder_config, tmp_path):
    one = command_facts("train", folder_config, tmp_path)
    assert difference(one, command_facts("train_and_eval", folder_config, tmp_path)) == (
        f"worker 1 has --mode=train_and_eval (worker 0: train){END}"
    )
    folder = tmp_path / "run" / "checkpoints" / "step_00000004"
    folder.mkdir(parents=True)
    (folder / "model.weights.h5").write_bytes(b"weights")
    seal(folder, {"step": 4})
    assert "newest checkpoint=step 4 (worker 0: none)" in difference(
        one, command_facts("train", folder_config, tmp_path / "run")
    )
    facts = [reading_facts("eval", tmp_path, texts, "newest") for texts in ((), ("eval.batch_size=2",))]
    assert "other --params_override" in difference(*facts) or "--params_override=" in difference(*facts)


def test_other_software_is_named(folder_config, tmp_path, monkeypatch):
    one = command_facts("train", folder_config, tmp_path)
    assert difference(one, one | {"keras": "3.0.0"}).startswith("worker 1 has keras=3.0.0 (worker 0: ")
    monkeypatch.setenv("FPN_TF_PLAIN_KERNELS", "1")
    assert difference(one, command_facts("train", folder_config, tmp_path)) == (
        f"worker 1 has FPN_TF_PLAIN_KERNELS=1 (worker 0: unset){END}"
    )


def test_another_file_of_the_experiment_is_named(folder_config, tmp_path):
    facts = []
    for number in (1, 2):
        path = tmp_path / f"part{number}.py"
        path.write_text(f"def get_model(config):\n    return {number}\n")
        module = types.ModuleType("part")
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
        facts.append(command_facts("train", folder_config, tmp_path, module.get_model))
    assert difference(*facts) == f"worker 1 has other file of the experiment{END}"


# Data ---------------------------------------------------------------------------------------------------


def data_of(folder):
    return data_facts(coco_folder.load(folder / "annotations.json", folder / "images"), "training data")


def move_a_box(coco):
    coco["annotations"][0]["bbox"][0] += 1


def add_a_box(coco):
    coco["annotations"].append(coco["annotations"][0] | {"id": 99})


def change_a_class(coco):
    coco["annotations"][0]["category_id"] = 3 if coco["annotations"][0]["category_id"] != 3 else 7


def reverse_photos(coco):
    coco["images"].reverse()


def reverse_classes(coco):
    coco["categories"].reverse()


def drop_a_photo(coco):
    coco["images"].pop(3)  # that has no box


def widen_a_photo(coco):
    coco["images"][0]["width"] = 99


CHANGES = {
    move_a_box: "other annotations of the training data",
    add_a_box: "boxes of the training data=11 (worker 0: 10)",
    change_a_class: "other classes of the boxes of the training data",
    reverse_photos: "other ids or order of the photos of the training data",
    reverse_classes: "other classes of the training data",
    drop_a_photo: "photos of the training data=5 (worker 0: 6)",
    widen_a_photo: "other sizes of the photos of the training data",
}


@pytest.mark.parametrize(("change", "told"), CHANGES.items(), ids=[change.__name__ for change in CHANGES])
def test_other_data_are_named(coco_folder, change, told):
    one = data_of(coco_folder)
    coco = json.loads((coco_folder / "annotations.json").read_text())
    other = copy.deepcopy(coco)
    change(other)
    (coco_folder / "annotations.json").write_text(json.dumps(other))
    assert told in difference(one, data_of(coco_folder))
    (coco_folder / "annotations.json").write_text(json.dumps(coco))
    assert difference(one, data_of(coco_folder)) == ""


def test_other_photos_are_named(coco_folder):
    one = data_of(coco_folder)
    with open(coco_folder / "images" / "photo_0.png", "ab") as file:
        file.write(b"more")
    assert difference(one, data_of(coco_folder)) == (
        f"worker 1 has other names or sizes of the files of the training data{END}"
    )


def test_the_place_is_named_where_the_contents_differ(folder_config, tmp_path):
    one, other = commands(folder_config, tmp_path, "data.train_annotations=other.json")
    told = difference(one | {"boxes": "3"}, other | {"boxes": "4"})
    assert 'data.train_annotations="other.json" (worker 0: "annotations.json")' in told
    assert "boxes=4 (worker 0: 3)" in told


# The beginning ------------------------------------------------------------------------------------------


def test_other_weights_are_named(folder_config, coco_folder):
    dataset = coco_folder_dataset(coco_folder)
    facts = []
    for bias in (0.0, 1e-6):
        model = types.SimpleNamespace(weights=[np.ones((2, 3), np.float32), np.float32([bias])])
        state = types.SimpleNamespace(
            model=model, optimizer=types.SimpleNamespace(variables=[np.int64(4)]), step=4
        )
        facts.append(start_facts(folder_config, state, dataset))
    assert difference(facts[0], facts[0]) == ""
    assert difference(*facts) == f"worker 1 has other weights to begin with{END}"


def coco_folder_dataset(folder):
    return coco_folder.load(folder / "annotations.json", folder / "images")


def test_all_workers_raise_the_same_line():
    class Two:
        workers = 2

        def gathered_texts(self, text):
            return ['{"train.seed": "0"}', text]

    with pytest.raises(ClusterError, match=r"^worker 1 has train.seed=1 \(worker 0: 0\): expected the same"):
        check_agreement(Two(), {"train.seed": "1"})
    check_agreement(Two(), {"train.seed": "0"})
    check_agreement(types.SimpleNamespace(workers=1), {"train.seed": "1"})
