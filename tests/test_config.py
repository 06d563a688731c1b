import json

import pytest

from fpn_tf import config, files
from fpn_tf.config import Config, ConfigError


def test_overrides_follow_the_fields_types():
    changed = config.override(
        Config(),
        ["train.steps=10", "data.train_short_sides=640,800", "data.flip=false", "train.learning_rate=0.5"],
    )
    assert changed.train.steps == 10
    assert changed.data.train_short_sides == (640, 800)
    assert changed.data.flip is False
    assert changed.train.peak_learning_rate == 0.5
    assert config.override(changed, ["train.learning_rate=none"]).train.peak_learning_rate == 0.02


def test_the_learning_rate_follows_the_batch():
    assert config.override(Config(), ["train.batch_size=8"]).train.peak_learning_rate == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.stepz=3", "train.stepz: no such key"),
        ("train.steps=many", "train.steps=many: expected a whole number"),
        ("data.fast_resize=true data.resize=torchvision", "expected data.resize=detectron2, not torchvision"),
        ("train.steps=0", "train.steps=0: expected at least 1"),
        ("train.steps", "expected dotted.key=value"),
        ("train=3", "train: is a section"),
        ("train.steps.x=3", "'steps' is a value"),
        ("data.flip=maybe", "data.flip=maybe: expected true or false"),
        ("train.learning_rate=nan", "expected a"),
        ("train.learning_rate=-1", "train.learning_rate=-1.0: expected a positive"),
        ("train.precision=half", "train.precision=half: expected one of float32"),
        ("model.backbone=vgg", "model.backbone=vgg: expected one of"),
        ("data.max_side=100", "data.max_side=100: expected at least the shorter side"),
        ("data.train_images=x", "expected both or neither"),
        ("train.num_replicas=3", "train.batch_size=16: expected a multiple"),
        ("model.rpn.anchor_sizes=1,2", "expected 5 sizes"),
        ("model.roi.samples=1.5", "model.roi.samples=1.5: expected a whole number"),
    ],
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(ConfigError) as caught:
        config.override(Config(), text.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_round_trip(tmp_path, tiny_config):
    changed = config.replace(tiny_config, **{"data.class_names": ("a", "b", "c"), "train.decay_at": (0.5,)})
    config.save(changed, tmp_path / "config.json")
    assert config.load(tmp_path / "config.json") == changed
    assert config.differences(changed, tiny_config) == {
        "data.class_names": (("a", "b", "c"), ()),
        "train.decay_at": ((0.5,), tiny_config.train.decay_at),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"train": {"stepz": 1}}', "no such key"),
        ("[]", "expected an object"),
        (None, "no such file"),
    ],
)
def test_a_bad_config_file_is_named(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(path)
    assert str(path) in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    files.write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}


# Paths --------------------------------------------------------------------------------------------

PATHS = (
    *("model.backbone_weights", "train.initial_model_dir", "eval.annotations"),
    *("data.root", "data.folder", "data.tfds_dir"),
    *(f"data.{s}_{name}" for s in ("train", "eval") for name in ("annotations", "images", "proposals")),
)


@pytest.mark.parametrize("key", PATHS)
def test_the_home_folder_is_expanded_in_every_path(key, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    section, name = key.split(".")
    replaced = config.replace(Config(), **{key: "~/data/a~b"})
    made = type(getattr(Config(), section))(**{name: "~/data/a~b"})  # as a file in experiments/ makes it
    for value in (getattr(getattr(replaced, section), name), getattr(made, name)):
        assert value == "/home/somebody/data/a~b"
    assert getattr(getattr(config.replace(Config(), **{key: "rel/~x"}), section), name) == "rel/~x"


def test_every_key_that_is_a_path_is_known_here():
    """A new key whose text speaks of a file or a folder belongs into `PATHS`, or is none."""
    others = {"data.tfds_name", "model.backbone", "data.max_bad_fraction"}
    keys = config.to_dict(Config())
    texts = {
        f"{section}.{name}"
        for section in ("model", "data", "train", "eval")
        for name, value in keys[section].items()
        if value == ""
        and any(word in name for word in ("dir", "root", "folder", "annotations", "images", "weights"))
    }
    assert texts - others <= set(PATHS)


def test_a_path_under_the_root_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    data = config.DataConfig(root="/data", train_annotations="~/a.json", train_images="photos")
    assert data.path("train_annotations") == "/home/somebody/a.json"
    assert data.path("train_images") == "/data/photos"


def test_a_config_is_read_from_home(monkeypatch, tmp_path, tiny_config):
    monkeypatch.setenv("HOME", str(tmp_path))
    config.save(tiny_config, tmp_path / "config.json")
    assert config.load("~/config.json") == tiny_config


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none/config.json", "none: no such folder; expected a model_dir"),
        ("file/config.json", "file: is a file; expected a model_dir"),
        ("config.json", "config.json: no such file; expected a model_dir"),
    ],
)
def test_what_is_absent_is_told(tmp_path, path, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / path)
    assert f"{tmp_path}/{message}" in str(caught.value)


# Data that is named and not read --------------------------------------------------------------------

FILES = {f"data.{s}_{name}": f"{s}.x" for s in ("train", "eval") for name in ("annotations", "images")}
GENERATED = {"data.tfds_name": "shapes"}


@pytest.mark.parametrize(
    ("before", "given", "message"),
    [
        (
            GENERATED,
            ["data.root=/mine"],
            "data.root=/mine: the train split would be read from data.tfds_name",
        ),
        (
            GENERATED,
            ["data.train_annotations=a", "data.train_images=b"],
            "data.train_annotations=a: the eval split would be read from data.tfds_name=shapes",
        ),
        (
            GENERATED,
            ["data.eval_annotations=a", "data.eval_images=b", "data.root=c"],
            "data.eval_annotations=a: the train split would be read from",
        ),
        (
            FILES,
            ["data.tfds_name=coco/2017"],
            "data.tfds_name=coco/2017: the train split would be read from data.train_annotations=train.x; "
            "expected data.train_annotations= and data.train_images= (empty) as well",
        ),
        (
            {"data.folder": "/a"},
            ["data.root=/b"],
            "data.root=/b: the train split would be read from data.folder",
        ),
        ({"data.folder": "/a"}, ["data.tfds_name=b"], "data.tfds_name=b: the train split would be read from"),
        (GENERATED, ["data.format=yolo"], "data.format=yolo: the train split would be read from data.tfds_n"),
        (FILES, ["data.holdout=0.3"], "expected data.folder={a folder} as well"),
        (FILES, ["data.tfds_dir=/tfds"], "data.tfds_dir=/tfds: the train split would be read from"),
        (FILES, ["data.tfds_eval_split=test"], "data.tfds_eval_split=test: the "),
        (
            {},
            ["data.tfds_name=a", *(f"{key}={value}" for key, value in FILES.items())],
            "data.tfds_name=a: the train split would be read from data.train_annotations=train.x",
        ),
    ],
)
def test_a_source_that_gives_way_to_another_is_refused(before, given, message):
    with pytest.raises(ConfigError) as caught:
        config.override(config.replace(Config(), **before), given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "given"),
    [
        (GENERATED, ["data.tfds_dir=/tfds", "data.tfds_train_split=train[:64]", "data.root="]),
        (GENERATED, [f"{key}={value}" for key, value in FILES.items()]),
        (GENERATED, ["data.tfds_name=", "data.train_annotations=a", "data.train_images=b"]),
        (FILES, ["data.root=/mine", "data.eval_annotations=b", "data.short_side=320"]),
        (FILES, ["data.tfds_name=coco/2017", *(f"{key}=" for key in FILES)]),
        (GENERATED, ["eval.annotations=official.json"]),
        (GENERATED, ["data.folder=/mine", "data.format=voc", "data.holdout=0.3"]),
        (FILES, ["data.folder=/mine"]),
        ({"data.folder": "/a"}, ["data.folder=", *(f"{key}={value}" for key, value in FILES.items())]),
        ({}, ["data.root=/mine"]),
    ],
)
def test_a_source_that_is_read_is_taken(before, given):
    data = config.override(config.replace(Config(), **before), given).data
    for text in given:
        key, _, value = text.partition("=")
        if key.startswith("data."):
            assert str(getattr(data, key.removeprefix("data."))) == value


# What a run takes over from another -----------------------------------------------------------------


def test_the_network_of_another_run():
    mine = config.replace(
        Config(),
        **{
            "model.backbone": "resnet18",
            "model.num_classes": 7,
            "model.frozen_stages": 0,
            "model.pixel_order": "bgr",
            "model.rpn.anchor_sizes": (8, 16, 32, 64, 128),
            "model.rpn.samples": 64,
            "train.steps": 5,
        },
    )
    theirs = config.replace(Config(), **{"train.steps": 9, "model.rpn.samples": 32, "model.num_classes": 2})
    taken = config.with_network_of(theirs, mine)
    assert (taken.model.backbone, taken.model.rpn.anchor_sizes[0]) == ("resnet18", 8)
    assert taken.model.pixel_order == "bgr"
    assert (taken.model.num_classes, taken.model.frozen_stages, taken.model.rpn.samples) == (2, 2, 32)
    assert taken.train.steps == 9
    assert config.with_network_of(theirs, config.replace(mine, **{"model.kind": "rpn"})) == theirs


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["train.steps=1"], None),
        (["train.initial_model_dir=a", "train.initial_model_dir=b"], "b"),
        (["train.start_from=a"], "a"),  # its name in the version before
        (["train.initial_model_dir="], ""),
    ],
)
def test_the_last_value_counts(texts, expected):
    assert config.value_given(texts, "train.initial_model_dir") == expected
