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
