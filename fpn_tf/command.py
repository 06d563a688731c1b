"""The command line: flags -> Config -> one function a mode. `main.py` and `python -m fpn_tf` run it.

Keras and TensorFlow start after the flags are read, so that a mistake in one is answered at once.
"""

import importlib
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter
# TensorFlow uses oneDNN by itself on processors with AVX-512 only; ask for it everywhere.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from absl import app, flags, logging

from fpn_tf import config as config_lib
from fpn_tf import endings, files, interrupts, keras_settings
from fpn_tf.command_flags import (
    ANNOTATIONS,
    CHECKPOINT,
    DATA,
    DETECTIONS,
    EXPERIMENT,
    FAST_RCNN_DIR,
    FORMAT,
    IMAGES,
    MIN_SCORE,
    MODEL_DIR,
    MODEL_DIRS,
    OUTPUT,
    OVERRIDES,
    PRECISIONS,
    REPEATS,
    RPN_DIR,
    SPLIT,
    TABLE,
    WEIGHTS,
)
from fpn_tf.errors import ConfigError
from fpn_tf.output_streams import dropped_unread, replace_unprintable


def experiment_folders():
    """The folders of experiments that there are: beside main.py, and in the current directory.

    The modules of both can be imported from then on, as `experiments.NAME`: also by a checkpoint that
    names a part in one of them.
    """
    roots = [pathlib.Path(__file__).parents[1], pathlib.Path.cwd()]
    folders = list(dict.fromkeys(root.resolve() / "experiments" for root in roots))
    for folder in folders:
        if folder.is_dir() and str(folder.parent) not in sys.path:
            sys.path.append(str(folder.parent))
    try:
        package = importlib.import_module("experiments")
    except ImportError:
        return folders
    for folder in folders:
        if folder.is_dir() and str(folder) not in package.__path__:
            package.__path__.append(str(folder))
    return folders


def experiment_module(name):
    """The module of experiments/<name>.py: beside main.py, or in the current directory.

    Args:
        name: the file's path below experiments/, without .py.

    Raises:
        ConfigError: neither folder has that file.
    """
    folders = experiment_folders()
    candidates = [folder / f"{name}.py" for folder in folders]
    if re.fullmatch(r"[\w/]+", name) and any(path.is_file() for path in candidates):
        with interrupts.delayed():  # it may import Keras
            return importlib.import_module(f"experiments.{name.replace('/', '.')}")
    known = sorted(p.stem for folder in folders for p in folder.glob("*.py") if p.stem != "__init__")
    raise ConfigError(
        f"--experiment={name}: no such file as {' or '.join(map(str, candidates))}; "
        f"expected one of {', '.join(known) or 'your own, with a function get_config()'}"
    )


def experiment_name():
    """--experiment, or own_photos where --data brings photos and no experiment is named."""
    brings_photos = DATA.value and not flags.FLAGS["experiment"].present
    return "own_photos" if brings_photos else EXPERIMENT.value


def overrides():
    """The `dotted.key=value` texts of --params_override, after the one that --data stands for."""
    return ([f"data.folder={DATA.value}"] if DATA.value else []) + OVERRIDES.value


def training_arguments(model_dir):
    """(Config to train with, overrides included; the experiment's `get_model` or None).

    Where no experiment is named the config is that of the run in `model_dir`, whose checkpoint tells of
    its parts, or of the run that this one begins with. The latter's network counts in any case.
    """
    given, get_model = config_lib.value_given(overrides(), "train.initial_model_dir"), None
    given = None if given is None else files.expanded(given)
    resumed = config_to_resume(model_dir, given)
    if not flags.FLAGS["experiment"].present and resumed is not None:
        config = resumed
    elif not flags.FLAGS["experiment"].present and given:
        config = config_lib.beginning_of(config_lib.load(os.path.join(given, "config.json")))
    else:
        experiment = experiment_module(experiment_name())
        config, get_model = experiment.get_config(), getattr(experiment, "get_model", None)
    start = config.train.initial_model_dir if given is None else given
    if start:
        source = resumed or config_lib.load(os.path.join(start, "config.json"))
        config = with_network_printed(config, source, start)
    return config_lib.override(config, overrides()), get_model


def config_to_resume(model_dir, start):
    """The Config of the run in a folder; None where there is none, or one that came to no checkpoint.

    Args:
        model_dir: the folder.
        start: the folder of the run that is to be begun with, "" or None (no override says): a run that
            began so counts without a checkpoint, too.
    """
    path = pathlib.Path(model_dir) / "config.json"
    if not path.is_file():
        return None
    config = config_lib.load(path)
    goes_on = start in (None, config.train.initial_model_dir) or any(path.parent.glob("checkpoints/step_*"))
    return config if goes_on else None


def with_network_printed(config, source, start):
    """The config with the network of another Config, that of the run at `start`; changes are printed."""
    changed = config_lib.with_network_of(config, source)
    changes = config_lib.differences(config.model, changed.model)
    if changes:
        texts = ", ".join(f"model.{key} {old} -> {new}" for key, (old, new) in changes.items())
        print(f"note: the network is that of {start}: {texts}")
    return changed


def training_config(model_dir):
    """The Config of `training_arguments`."""
    return training_arguments(model_dir)[0]


def checkpoint_arguments(model_dir):
    """(model_dir, overrides, checkpoint): the first arguments of every mode that reads a checkpoint.

    The folder of a checkpoint as --model_dir stands for its run and that checkpoint.
    """
    folder, checkpoint = pathlib.Path(model_dir), CHECKPOINT.value
    if not re.fullmatch(r"newest|best|(step_)?\d+", checkpoint):
        raise ConfigError(f"--checkpoint={checkpoint}: expected newest, best or the number of a step")
    if folder.parent.name == "checkpoints" and (folder / "state.json").is_file():
        if flags.FLAGS["checkpoint"].present:
            raise ConfigError(f"--checkpoint={checkpoint}: --model_dir={model_dir} is a checkpoint already")
        folder, checkpoint = folder.parents[1], folder.name
    return str(folder), overrides(), checkpoint


def benchmark_arguments(config):
    """(size, batch sizes, precisions, repeats) of the flags."""

    def numbers(name, multiple=1):
        texts: list[str] = flags.FLAGS[name].value or []
        if not texts or not all(re.fullmatch("[1-9][0-9]*", t) and int(t) % multiple == 0 for t in texts):
            raise ConfigError(f"--{name}={','.join(texts)}: expected whole multiples of {multiple}")
        return tuple(map(int, texts))

    size = numbers("image_size", 32)
    if len(size) != 2:
        raise ConfigError(f"--image_size={','.join(map(str, size))}: expected height,width")
    for precision in PRECISIONS.value:
        config_lib.override(config, [f"train.precision={precision}"])  # or its one line
    return size, numbers("batch_sizes"), tuple(PRECISIONS.value), REPEATS.value


def import_modes():
    """fpn_tf.modes, and with it Keras and TensorFlow. Raises: ConfigError, where they cannot start."""
    with interrupts.delayed():  # Keras and TensorFlow do not survive an exception while they are imported
        keras_settings.check_backend([name for name, mode in MODES.items() if mode.needs_tensorflow])
        keras_settings.check_file()
        keras_settings.settle()
        from fpn_tf import modes
        from fpn_tf.kernels import malloc

    malloc.keep_freed()
    return modes


def _train(model_dir):
    config, get_model = training_arguments(model_dir)
    import_modes().train(config, model_dir, get_model)


def _train_and_eval(model_dir):
    config, get_model = training_arguments(model_dir)
    import_modes().train_and_eval(config, model_dir, get_model)


def _inspect(model_dir):
    config = training_config(model_dir)
    import_modes().inspect(config, model_dir)


def _benchmark(model_dir):
    config = training_config(model_dir)
    arguments = benchmark_arguments(config)
    import_modes().benchmark(config, model_dir, *arguments)


def _eval(model_dir):
    if bool(DETECTIONS.value) != bool(ANNOTATIONS.value):
        raise ConfigError("--detections and --annotations: expected both or neither")
    if DETECTIONS.value:
        scorer = config_lib.value_given(overrides(), "eval.scorer") or config_lib.SCORERS[0]
        import_modes().score_files(DETECTIONS.value, ANNOTATIONS.value, MODEL_DIR.value, scorer)
    else:
        import_modes().evaluate(*checkpoint_arguments(model_dir))


def _predict(model_dir):
    import_modes().predict_photos(
        *checkpoint_arguments(model_dir), IMAGES.value, OUTPUT.value, MIN_SCORE.value
    )


def _propose(model_dir):
    import_modes().propose(*checkpoint_arguments(model_dir), SPLIT.value, OUTPUT.value)


def _export(model_dir):
    import_modes().export(*checkpoint_arguments(model_dir), FORMAT.value)


def _join(model_dir):
    import_modes().join(RPN_DIR.value, FAST_RCNN_DIR.value, model_dir)


def _import_weights(model_dir):
    import_modes().import_weights(WEIGHTS.value, model_dir, OVERRIDES.value)


def _convert(model_dir):
    data_format = config_lib.value_given(overrides(), "data.format") or "auto"
    import_modes().convert(DATA.value, OUTPUT.value, data_format)


def _report(model_dir):
    """For one release: the tables are those of the paper's experiments, not of the library."""
    print("note: --mode=report goes; `python -m experiments.paper.report` prints it", file=sys.stderr)
    experiment_module("paper/tables").print_table(MODEL_DIRS.value, TABLE.value, OUTPUT.value)


class Mode(NamedTuple):
    """A value of --mode."""

    function: Callable[[str], None]  # of the model_dir
    required: tuple[str, ...] = ()  # the flags that it cannot do without, each with its value's form
    optional: tuple[str, ...] = ()  # those of INPUTS that it can do without
    needs_tensorflow: bool = True


INPUTS = ("data", "images", "weights", "detections", "annotations", "rpn_dir", "fast_rcnn_dir", "model_dirs")
MODES = {
    "train_and_eval": Mode(_train_and_eval, optional=("data",)),
    "train": Mode(_train, optional=("data",)),
    "inspect": Mode(_inspect, optional=("data",)),
    "eval": Mode(_eval, optional=("data", "detections", "annotations")),
    "predict": Mode(_predict, ("images=FOLDER_OR_GLOB",)),
    "propose": Mode(_propose, optional=("data",)),
    "convert": Mode(_convert, ("data=FOLDER", "output=FOLDER")),
    "join": Mode(_join, ("rpn_dir=DIR", "fast_rcnn_dir=DIR", "model_dir=DIR")),
    "export": Mode(_export),
    "import_weights": Mode(_import_weights, ("weights=FILE", "model_dir=DIR")),
    "benchmark": Mode(_benchmark),
    "report": Mode(_report, ("model_dirs=GLOB", "table=1..6"), needs_tensorflow=False),
}
MODE = flags.DEFINE_enum(
    "mode", "train_and_eval", tuple(MODES), "The work to do; docs/commands.md describes each."
)


def flags_of(mode):
    """The names of the flags that a Mode reads for itself."""
    return [flag.partition("=")[0] for flag in mode.required] + list(mode.optional)


def check_flags(name):
    """Refuses a --mode that lacks a flag, or that would pass over what it is given to read.

    Raises:
        ConfigError: names the flags.
    """
    mode = MODES[name]
    if not all(flags.FLAGS[flag.partition("=")[0]].value for flag in mode.required):
        *first, last = (f"--{flag}" for flag in mode.required)
        expected = f"{', '.join(first)} and {last}" if first else last
        raise ConfigError(f"--mode={name}: expected {expected}")
    for flag in INPUTS:
        if flags.FLAGS[flag].value and flag not in flags_of(mode):
            others = " or ".join(f"--mode={other}" for other in MODES if flag in flags_of(MODES[other]))
            raise ConfigError(
                f"--{flag}={flags.FLAGS[flag].value}: --mode={name} does not read it; expected {others}"
            )


def run_folder():
    """The folder of the run: --model_dir, or one by the experiment's name."""
    return MODEL_DIR.value or f"runs/{experiment_name()}"


def dispatch():
    """Calls the function of --mode, with the flags that it takes. Raises: UserError."""
    check_flags(MODE.value)
    experiment_folders()
    MODES[MODE.value].function(run_folder())


def main(arguments):
    """The program: runs, and turns a user's mistake, or a signal, into one line and an exit status."""
    replace_unprintable()
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS and TensorFlow log much at INFO
    warnings.filterwarnings("ignore", module="PIL")  # on odd photos, which are told by name instead
    with dropped_unread():
        status = endings.status_of(dispatch, run_folder)
    if status:
        sys.exit(status)
