"""Flags -> what a mode is called with: paths, checkpoints, data that would not be read, other runs."""

import runpy
import sys
import types

import pytest
from absl import flags
from commands import ROOT

from fpn_tf import command, command_flags, modes
from fpn_tf import config as config_lib
from fpn_tf.errors import ConfigError


@pytest.fixture
def parse():
    """Sets the flags of the program."""

    def parse(*arguments):
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["main.py", *arguments])

    yield parse
    flags.FLAGS.unparse_flags()


# Paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["model_dir", "output", *command.INPUTS])
def test_the_home_folder_is_expanded_in_every_flag_that_is_a_path(flag, parse, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    parse(f"--{flag}=~/runs/*")
    assert flags.FLAGS[flag].value == "/home/somebody/runs/*"


def test_every_other_text_flag_is_no_path():
    texts = {f.name for f in flags.FLAGS.get_key_flags_for_module(command_flags) if f.flag_type() == "string"}
    paths = {"model_dir", "output", *command.INPUTS}
    assert texts - paths == {"experiment", "checkpoint"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model_dir={run}"], ("{run}", "newest")),
        (["--model_dir={run}", "--checkpoint=best"], ("{run}", "best")),
        (["--model_dir={run}", "--checkpoint=25"], ("{run}", "25")),
        (["--model_dir={run}", "--checkpoint=step_00000025"], ("{run}", "step_00000025")),
        (["--model_dir={run}/checkpoints/step_00000025"], ("{run}", "step_00000025")),
        (["--model_dir={run}/checkpoints/best/"], ("{run}", "best")),
        (["--model_dir={run}/elsewhere"], ("{run}/elsewhere", "newest")),
    ],
)
def test_a_checkpoint_by_flag_or_by_folder(arguments, expected, parse, tmp_path):
    for folder in ("checkpoints/step_00000025", "checkpoints/best", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "state.json").write_text("{}")
    parse(*(a.format(run=tmp_path) for a in arguments), "--params_override=eval.batch_size=2")
    model_dir, overrides, checkpoint = command.checkpoint_arguments(command.MODEL_DIR.value)
    assert (model_dir, checkpoint) == (expected[0].format(run=tmp_path), expected[1])
    assert overrides == ["eval.batch_size=2"]


@pytest.mark.parametrize("checkpoint", ["last", "1.5", "-3", "", "best "])
def test_a_checkpoint_that_cannot_be(checkpoint, parse):
    parse(f"--checkpoint={checkpoint}")
    with pytest.raises(ConfigError, match=f"--checkpoint={checkpoint}: expected newest, best or the number"):
        command.checkpoint_arguments("runs/x")


def test_a_checkpoint_is_named_once(parse, tmp_path):
    folder = tmp_path / "checkpoints" / "step_00000025"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    parse("--checkpoint=best")
    with pytest.raises(ConfigError, match="is a checkpoint already"):
        command.checkpoint_arguments(str(folder))


# Data that would not be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images=mine"], "--images=mine: --mode=train_and_eval does not read it; expected --mode=predict"),
        (
            ["--mode=train", "--weights=w.pth"],
            "--mode=train does not read it; expected --mode=import_weights",
        ),
        (
            ["--mode=predict", "--images=a", "--annotations=b"],
            "--annotations=b: --mode=predict does not read",
        ),
        (["--mode=inspect", "--annotations=b"], "--mode=inspect does not read it; expected --mode=eval"),
        (["--mode=eval", "--images=a"], "--images=a: --mode=eval does not read it"),
        (["--mode=export", "--rpn_dir=a"], "expected --mode=join"),
        (["--mode=train", "--model_dirs=a"], "expected --mode=report"),
    ],
)
def test_a_flag_of_data_that_the_mode_does_not_read(arguments, message, main_here):
    status, _, errors = main_here(*arguments)
    assert status == 1
    assert message in errors
    assert errors.count("\n") == 1


def test_the_default_experiment_does_not_read_a_root(main_here, tmp_path):
    for mode in ("train_and_eval", "train", "inspect"):
        status, _, errors = main_here(f"--mode={mode}", overrides=[f"data.root={tmp_path}"])
        assert status == 1
        expected = f"error: data.root={tmp_path}: the train split would be read from data.tfds_name=shapes; "
        assert errors.startswith(expected)
        assert "--experiment=own_photos" in errors


def test_the_template_of_ones_own_photos():
    config = config_lib.override(
        command.experiment_module("own_photos").get_config(), ["data.root=/data/mine"]
    )
    assert config.data.path("train_annotations") == "/data/mine/train.json"
    assert config.data.path("eval_images") == "/data/mine/photos"
    assert config.model.num_classes == 0
    assert 3 * config.train.warmup_steps <= config.train.steps
    assert config.train.eval_every % config.train.checkpoint_every == 0


# Other runs -----------------------------------------------------------------------------------------


@pytest.fixture
def first(tmp_path, tiny_config):
    """The folder of a run, as far as its config."""
    changes = {"data.class_names": ("a", "b", "c"), "data.category_ids": (1, 2, 3), "data.root": "/first"}
    paths = {f"data.{s}_{name}": f"{s}.x" for s in ("train", "eval") for name in ("annotations", "images")}
    config_lib.save(config_lib.replace(tiny_config, **changes, **paths), tmp_path / "first" / "config.json")
    return tmp_path / "first"


def begun(parse, tmp_path, *arguments):
    """The Config of a run in `tmp_path`/second."""
    parse(*arguments)
    return command.training_arguments(str(tmp_path / "second"))[0]


@pytest.mark.parametrize("key", ["train.initial_model_dir", "train.start_from"])
def test_a_run_begins_with_another_without_an_experiment(key, parse, first, tmp_path, tiny_config, capsys):
    overrides = [f"--params_override={key}={first}", "--params_override=data.root=/second"]
    config = begun(parse, tmp_path, *overrides)
    assert config.train.initial_model_dir == str(first)
    network = config_lib.with_network_of(config, tiny_config).model
    assert config.model == network
    assert (config.data.short_side, config.train.steps) == (64, tiny_config.train.steps)
    assert config.data.path("train_annotations") == "/second/train.x"
    assert (config.model.num_classes, config.data.class_names, config.data.category_ids) == (0, (), ())
    assert capsys.readouterr().out == ""


def test_a_run_begins_with_another_under_an_experiment(parse, first, tmp_path, capsys):
    start = f"--params_override=train.initial_model_dir={first}"
    config = begun(parse, tmp_path, "--experiment=own_photos", start)
    assert (config.model.backbone, config.model.neck_channels) == ("resnet_tiny", 16)
    assert (config.model.pixel_order or "rgb", config.model.stride_in_1x1) == ("rgb", False)
    assert config.model.roi.samples == 128  # of the experiment: weights mean the same under any number
    assert (config.data.short_side, config.train.steps) == (480, 600)
    told = capsys.readouterr().out
    assert told.startswith(f"note: the network is that of {first}: ")
    assert "model.backbone resnet50 -> resnet_tiny" in told
    # An override wins: start_from refuses it where it is another network.
    wide = "--params_override=model.neck_channels=24"
    assert begun(parse, tmp_path, "--experiment=own_photos", start, wide).model.neck_channels == 24


def test_a_run_that_goes_on_does_not_need_the_other(parse, first, tmp_path):
    command_line = ("--experiment=own_photos", f"--params_override=train.initial_model_dir={first}")
    config = begun(parse, tmp_path, *command_line)
    config_lib.save(config, tmp_path / "second" / "config.json")
    (first / "config.json").unlink()
    assert begun(parse, tmp_path, *command_line) == config
    assert begun(parse, tmp_path) == config


def test_another_run_that_is_absent(parse, tmp_path):
    for experiment in ([], ["--experiment=own_photos"]):
        with pytest.raises(ConfigError, match="none: no such folder; expected a model_dir"):
            begun(parse, tmp_path, *experiment, f"--params_override=train.initial_model_dir={tmp_path}/none")


def test_the_config_of_a_start_that_failed_gives_way(parse, first, tmp_path, tiny_config):
    """It came to no checkpoint, and began with nothing."""
    other = config_lib.replace(tiny_config, **{"model.neck_channels": 48})
    config_lib.save(other, tmp_path / "second" / "config.json")
    start = f"--params_override=train.initial_model_dir={first}"
    assert begun(parse, tmp_path, start).model.neck_channels == 16
    (tmp_path / "second" / "checkpoints" / "step_00000002").mkdir(parents=True)
    assert begun(parse, tmp_path, start).model.neck_channels == 48


# A notebook -----------------------------------------------------------------------------------------


def test_the_program_runs_twice_in_one_process(monkeypatch):
    """As `%run main.py` does; what the first run was told does not count in the second."""
    seen = []

    def dispatch():
        seen.append((command.MODE.value, list(command.OVERRIDES.value), command.MODEL_DIR.value))

    monkeypatch.setattr(command, "dispatch", dispatch)
    for arguments in (
        ["--mode=train", "--model_dir=a", "--params_override=train.steps=1"],
        ["--params_override=train.steps=2"],
        [],
    ):
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
        assert not ended.value.code
    assert seen == [
        ("train", ["train.steps=1"], "a"),
        ("train_and_eval", ["train.steps=2"], None),
        ("train_and_eval", [], None),
    ]
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("program", ["main.py", "experiments/paper/report.py", "experiments/paper/study.py"])
def test_every_program_runs_twice_in_one_process(program, monkeypatch, capsys):
    """IPython gives `%run` of the same file the same module, in which its flags are defined again."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    code = compile((ROOT / program).read_text(), program, "exec")
    for _ in range(2):
        vars(module).update(__name__="__main__", __doc__="What it does.", __file__=program)
        monkeypatch.setattr(sys, "argv", [program, "unexpected"])
        with pytest.raises(SystemExit) as ended:
            exec(code, vars(module))
        assert ended.value.code == 1
        assert "unexpected: unexpected" in capsys.readouterr().err
    flags.FLAGS.unparse_flags()


def test_modes_are_called_with_what_the_flags_say(parse, monkeypatch):
    received = []
    stub = types.SimpleNamespace(predict_photos=lambda *arguments: received.append(arguments))
    monkeypatch.setattr(command, "import_modes", lambda: stub)
    assert hasattr(modes, "predict_photos")
    parse("--mode=predict", "--model_dir=run", "--images=a", "--checkpoint=7", "--min_score=0.25")
    command.dispatch()
    assert received == [("run", [], "7", "a", None, 0.25)]
