"""The command line: flags -> Config -> one function a mode. `main.py` and `python -m fpn_tf` run it.

Keras and TensorFlow start after the flags are read, so that a mistake in one is answered at once.
"""

import errno
import importlib
import io
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
from fpn_tf.errors import ConfigError, InterruptedRunError, UserError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)

EXPERIMENT = flags.DEFINE_string(
    "experiment", "shapes", "The name of a file in experiments/, without .py, whose config begins a run."
)
MODEL_DIR = flags.DEFINE_string("model_dir", None, "The run's folder; by default runs/<experiment>.")
OVERRIDES = flags.DEFINE_multi_string("params_override", [], "A change of the config, dotted.key=value.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "newest",
    ("newest", "best"),
    "The checkpoint that eval, predict, propose and export read: the newest, or the best by AP.",
)
IMAGES = flags.DEFINE_string(
    "images", None, "The photos that predict reads: a folder, a file or a glob pattern."
)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The path that is written. predict: a folder, by default <model_dir>/predictions; "
    "propose: a file, by default <model_dir>/proposals/<split>.npz; report: a Markdown file.",
)
SPLIT = flags.DEFINE_enum("split", "eval", ("train", "eval"), "The split whose images propose looks at.")
RPN_DIR = flags.DEFINE_string("rpn_dir", None, "The folder of the RPN's run that join reads.")
FAST_RCNN_DIR = flags.DEFINE_string(
    "fast_rcnn_dir", None, "The folder of the run of a Fast R-CNN on the same trunk that join reads."
)
MODEL_DIRS = flags.DEFINE_string("model_dirs", None, "The folders that report reads, as a glob pattern.")
TABLE = flags.DEFINE_integer("table", None, "The number of the paper's table that report prints.", 1, 6)
MIN_SCORE = flags.DEFINE_float("min_score", 0.5, "The lowest score that predict draws.", 0.0, 1.0)
FORMAT = flags.DEFINE_enum(
    "format",
    "savedmodel",
    ("savedmodel", "npz", "torchvision"),
    "The format that export writes: a SavedModel for TF Serving, an npz for fpn_tf.load, or a state "
    "dict for torchvision.",
)
WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "The checkpoint that import_weights reads: of torchvision, Detectron2 or Detectron, or of this project.",
)
DETECTIONS = flags.DEFINE_string(
    "detections", None, "A COCO result file that eval scores against --annotations."
)
ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "The COCO annotations that eval scores --detections against."
)
IMAGE_SIZE = flags.DEFINE_list(
    "image_size", ["800", "1216"], "The size of benchmark's images: height,width, multiples of 32."
)
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1"], "The batch sizes that benchmark times.")
PRECISIONS = flags.DEFINE_list(
    "precisions", ["float32"], "The values of train.precision that benchmark times."
)
REPEATS = flags.DEFINE_integer("repeats", 5, "The number of times that benchmark times each stage.", 1)


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
    files = [folder / f"{name}.py" for folder in folders]
    if re.fullmatch(r"[\w/]+", name) and any(path.is_file() for path in files):
        return importlib.import_module(f"experiments.{name.replace('/', '.')}")
    known = sorted(p.stem for folder in folders for p in folder.glob("*.py") if p.stem != "__init__")
    raise ConfigError(
        f"--experiment={name}: no such file as {' or '.join(map(str, files))}; "
        f"expected one of {', '.join(known) or 'your own, with a function get_config()'}"
    )


def training_arguments(model_dir):
    """(Config to train with, overrides included; the experiment's `get_model` or None).

    Where a run is to go on and no experiment is named the config is the run's own, and its checkpoint
    tells of its parts.
    """
    path = os.path.join(model_dir, "config.json")
    if not flags.FLAGS["experiment"].present and os.path.isfile(path):
        config, get_model = config_lib.load(path), None
    else:
        experiment = experiment_module(EXPERIMENT.value)
        config, get_model = experiment.get_config(), getattr(experiment, "get_model", None)
    return config_lib.override(config, OVERRIDES.value), get_model


def training_config(model_dir):
    """The Config of `training_arguments`."""
    return training_arguments(model_dir)[0]


def checkpoint_arguments(model_dir):
    """(model_dir, overrides, checkpoint): the first arguments of every mode that reads a checkpoint."""
    return model_dir, OVERRIDES.value, CHECKPOINT.value


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
    """fpn_tf.modes, and with it TensorFlow."""
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
        import_modes().score_files(DETECTIONS.value, ANNOTATIONS.value, MODEL_DIR.value)
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


def _report(model_dir):
    """For one release: the tables are those of the paper's experiments, not of the library."""
    print("note: --mode=report goes; `python -m experiments.paper.report` prints it", file=sys.stderr)
    experiment_module("paper/tables").print_table(MODEL_DIRS.value, TABLE.value, OUTPUT.value)


class Mode(NamedTuple):
    """A value of --mode."""

    function: Callable[[str], None]  # of the model_dir
    required: tuple[str, ...] = ()  # the flags that it cannot do without, each with its value's form


MODES = {
    "train_and_eval": Mode(_train_and_eval),
    "train": Mode(_train),
    "inspect": Mode(_inspect),
    "eval": Mode(_eval),
    "predict": Mode(_predict, ("images=FOLDER_OR_GLOB",)),
    "propose": Mode(_propose),
    "join": Mode(_join, ("rpn_dir=DIR", "fast_rcnn_dir=DIR", "model_dir=DIR")),
    "export": Mode(_export),
    "import_weights": Mode(_import_weights, ("weights=FILE", "model_dir=DIR")),
    "benchmark": Mode(_benchmark),
    "report": Mode(_report, ("model_dirs=GLOB", "table=1..6")),
}
MODE = flags.DEFINE_enum(
    "mode", "train_and_eval", tuple(MODES), "The work to do; docs/commands.md describes each."
)


def dispatch():
    """Calls the function of --mode, with the flags that it takes. Raises: UserError."""
    mode = MODES[MODE.value]
    if not all(flags.FLAGS[flag.partition("=")[0]].value for flag in mode.required):
        *first, last = (f"--{flag}" for flag in mode.required)
        expected = f"{', '.join(first)} and {last}" if first else last
        raise ConfigError(f"--mode={MODE.value}: expected {expected}")
    experiment_folders()
    mode.function(MODEL_DIR.value or f"runs/{EXPERIMENT.value}")


def replace_unprintable():
    """From now on, what a terminal's encoding lacks is replaced where it is printed, and ends no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook has others, which lack nothing
            stream.reconfigure(errors="replace")


def main(arguments):
    """The program: runs, and turns a user's mistake into one line and exit status 1."""
    replace_unprintable()
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS and TensorFlow log much at INFO
    warnings.filterwarnings("ignore", module="PIL")  # on odd photos, which are told by name instead
    try:
        dispatch()
    except InterruptedRunError as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(1)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        path = error.filename or MODEL_DIR.value
        print(f"error: {path}: {error.strerror}; what was saved before is whole", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
