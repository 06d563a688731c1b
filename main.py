"""Trains, evaluates, shows and exports detectors. `python main.py --help` lists the flags."""

import errno
import importlib
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter
# TensorFlow uses oneDNN by itself on processors with AVX-512 only; ask for it everywhere.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from absl import app, flags, logging

from fpn_tf import config as config_lib
from fpn_tf.errors import ConfigError, UserError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
MODES = (
    "train_and_eval",
    "train",
    "inspect",
    "eval",
    "predict",
    "propose",
    "join",
    "export",
    "import_weights",
    "benchmark",
    "report",
)

MODE = flags.DEFINE_enum("mode", "train_and_eval", MODES, "What to do.")
EXPERIMENT = flags.DEFINE_string(
    "experiment", "shapes", "To begin a run with: a file in experiments/, without .py."
)
MODEL_DIR = flags.DEFINE_string("model_dir", None, "The run's folder; by default runs/<experiment>.")
OVERRIDES = flags.DEFINE_multi_string("params_override", [], "dotted.key=value, may be repeated.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "newest", ("newest", "best"), "Which one eval, predict and export take."
)
IMAGES = flags.DEFINE_string("images", None, "predict: a folder, a file or a glob pattern.")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "predict: a folder, by default <model_dir>/predictions; "
    "propose: a file, by default <model_dir>/proposals/<split>.npz; report: a Markdown file.",
)
SPLIT = flags.DEFINE_enum("split", "eval", ("train", "eval"), "propose: whose images.")
RPN_DIR = flags.DEFINE_string("rpn_dir", None, "join: the run of an RPN.")
FAST_RCNN_DIR = flags.DEFINE_string("fast_rcnn_dir", None, "join: that of a Fast R-CNN on the same trunk.")
MODEL_DIRS = flags.DEFINE_string("model_dirs", None, "report: a glob pattern of runs.")
TABLE = flags.DEFINE_integer("table", None, "report: of the paper, 1 to 6.", 1, 6)
MIN_SCORE = flags.DEFINE_float("min_score", 0.5, "predict: detections below it are not drawn.", 0.0, 1.0)
FORMAT = flags.DEFINE_enum(
    "format",
    "savedmodel",
    ("savedmodel", "npz", "torchvision"),
    "export: for TF Serving, for fpn_tf.load, or a state dict for torchvision.",
)
WEIGHTS = flags.DEFINE_string(
    "weights", None, "import_weights: a checkpoint of torchvision, Detectron2 or Detectron, or one's own."
)
DETECTIONS = flags.DEFINE_string("detections", None, "eval: a COCO result file to score, with --annotations.")
ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "eval: the COCO annotations that --detections belongs to."
)
IMAGE_SIZE = flags.DEFINE_list("image_size", ["800", "1216"], "benchmark: height,width, multiples of 32.")
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1"], "benchmark: images at a time.")
PRECISIONS = flags.DEFINE_list("precisions", ["float32"], "benchmark: of train.precision.")
REPEATS = flags.DEFINE_integer("repeats", 5, "benchmark: of each stage.", 1)


def experiment_config(name):
    """The Config of experiments/<name>.py."""
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.path.join(here, "experiments", f"{name}.py")
    if not re.fullmatch(r"[\w/]+", name) or not os.path.isfile(path):
        known = (
            sorted(f[:-3] for f in os.listdir(os.path.dirname(path)) if f.endswith(".py"))
            if os.path.isdir(os.path.dirname(path))
            else []
        )
        raise ConfigError(f"--experiment={name}: no such file as {path}; expected one of {', '.join(known)}")
    sys.path.insert(0, here)
    return importlib.import_module("experiments." + name.replace("/", ".")).get_config()


def training_config(model_dir):
    """The Config to train with: the named experiment's, or that of a run that is there already."""
    path = os.path.join(model_dir, "config.json")
    if not flags.FLAGS["experiment"].present and os.path.isfile(path):
        return config_lib.load(path)
    return experiment_config(EXPERIMENT.value)


def benchmark_arguments(config):
    """(size, batch sizes, precisions, repeats) of the flags."""

    def numbers(name, multiple=1):
        texts = flags.FLAGS[name].value
        if not texts or not all(re.fullmatch("[1-9][0-9]*", t) and int(t) % multiple == 0 for t in texts):
            raise ConfigError(f"--{name}={','.join(texts)}: expected whole multiples of {multiple}")
        return tuple(map(int, texts))

    size = numbers("image_size", 32)
    if len(size) != 2:
        raise ConfigError(f"--image_size={','.join(IMAGE_SIZE.value)}: expected height,width")
    for precision in PRECISIONS.value:
        config_lib.override(config, [f"train.precision={precision}"])  # or its one line
    return size, numbers("batch_sizes"), tuple(PRECISIONS.value), REPEATS.value


def import_modes():
    """fpn_tf.modes, and with it TensorFlow."""
    from fpn_tf import memory, modes

    memory.keep_freed()
    return modes


def run():
    model_dir = MODEL_DIR.value or f"runs/{EXPERIMENT.value}"
    if MODE.value in ("train_and_eval", "train", "inspect", "benchmark"):
        config = config_lib.override(training_config(model_dir), OVERRIDES.value)
        more = benchmark_arguments(config) if MODE.value == "benchmark" else ()
        getattr(import_modes(), MODE.value)(config, model_dir, *more)
        return
    if MODE.value == "predict" and not IMAGES.value:
        raise ConfigError("--images: missing; expected a folder, a file or a glob pattern of photos")
    if MODE.value == "join" and not (RPN_DIR.value and FAST_RCNN_DIR.value and MODEL_DIR.value):
        raise ConfigError("--mode=join: expected --rpn_dir=DIR, --fast_rcnn_dir=DIR and --model_dir=DIR")
    if MODE.value == "report" and not (MODEL_DIRS.value and TABLE.value):
        raise ConfigError("--mode=report: expected --model_dirs=GLOB and --table=1..6")
    if MODE.value == "import_weights" and not (WEIGHTS.value and MODEL_DIR.value):
        raise ConfigError("--mode=import_weights: expected --weights=FILE and --model_dir=DIR")
    if bool(DETECTIONS.value) != bool(ANNOTATIONS.value):
        raise ConfigError("--detections and --annotations: expected both or neither")
    modes = import_modes()
    if MODE.value == "import_weights":
        modes.import_weights(WEIGHTS.value, model_dir, OVERRIDES.value)
        return
    if MODE.value == "join":
        modes.join(RPN_DIR.value, FAST_RCNN_DIR.value, model_dir)
        return
    if MODE.value == "report":
        modes.report(MODEL_DIRS.value, TABLE.value, OUTPUT.value)
        return
    given = (model_dir, OVERRIDES.value, CHECKPOINT.value)
    if DETECTIONS.value:
        modes.score_files(DETECTIONS.value, ANNOTATIONS.value, MODEL_DIR.value)
    elif MODE.value == "eval":
        modes.evaluate(*given)
    elif MODE.value == "propose":
        modes.propose(*given, SPLIT.value, OUTPUT.value)
    elif MODE.value == "predict":
        modes.predict_photos(*given, IMAGES.value, OUTPUT.value, MIN_SCORE.value)
    else:
        modes.export(*given, FORMAT.value)


def main(arguments):
    if len(arguments) > 1:
        raise app.UsageError(f"unexpected: {' '.join(arguments[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS and TensorFlow tell much at INFO
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or MODEL_DIR.value
        print(f"error: {where}: {error.strerror}; what was saved before is whole", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    app.run(main)
