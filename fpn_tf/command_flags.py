"""The flags of the program, but for --mode. They are defined once, where this module is first imported."""

from absl import app, flags

from fpn_tf import files


def run_program(main):
    """`app.run`, in a notebook's process also a second time: the flags of the run before do not count."""
    flags.FLAGS.unparse_flags()
    app.run(main)


class _PathParser(flags.ArgumentParser):
    """The text of a path, its leading `~` expanded."""

    syntactic_help = "a path"

    def parse(self, argument):
        return files.expanded(argument)


def _define_path(name, help_text):
    """A flag whose value is a path, or a pattern of paths."""
    return flags.DEFINE(_PathParser(), name, None, help_text, serializer=flags.ArgumentSerializer())


EXPERIMENT = flags.DEFINE_string(
    "experiment", "shapes", "The name of a file in experiments/, without .py, whose config begins a run."
)
MODEL_DIR = _define_path("model_dir", "The run's folder; by default runs/<experiment>.")
OVERRIDES = flags.DEFINE_multi_string("params_override", [], "A change of the config, dotted.key=value.")
DATA = _define_path(
    "data",
    "The folder of photos and annotations that a run reads: COCO's, YOLO's, Pascal VOC's, a CSV's. The "
    "experiment is own_photos then, unless another is named.",
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "newest",
    "The checkpoint that eval, predict, propose and export read: newest, best (by AP), or the number of a "
    "step. The folder of a checkpoint as --model_dir says the same.",
)
IMAGES = _define_path("images", "The photos that predict reads: a folder, a file or a glob pattern.")
OUTPUT = _define_path(
    "output",
    "The path that is written. predict: a folder, by default <model_dir>/predictions; "
    "propose: a file, by default <model_dir>/proposals/<split>.npz; convert: a folder; "
    "report: a Markdown file.",
)
SPLIT = flags.DEFINE_enum("split", "eval", ("train", "eval"), "The split whose images propose looks at.")
RPN_DIR = _define_path("rpn_dir", "The folder of the RPN's run that join reads.")
FAST_RCNN_DIR = _define_path(
    "fast_rcnn_dir", "The folder of the run of a Fast R-CNN on the same trunk that join reads."
)
MODEL_DIRS = _define_path("model_dirs", "The folders that report reads, as a glob pattern.")
TABLE = flags.DEFINE_integer("table", None, "The number of the paper's table that report prints.", 1, 6)
MIN_SCORE = flags.DEFINE_float("min_score", 0.5, "The lowest score that predict draws.", 0.0, 1.0)
FORMAT = flags.DEFINE_enum(
    "format",
    "savedmodel",
    ("savedmodel", "npz", "torchvision"),
    "The format that export writes: a SavedModel for TF Serving, an npz for fpn_tf.load, or a state "
    "dict for torchvision.",
)
WEIGHTS = _define_path(
    "weights",
    "The checkpoint that import_weights reads: of torchvision, Detectron2 or Detectron, or of this project.",
)
DETECTIONS = _define_path("detections", "A COCO result file that eval scores against --annotations.")
ANNOTATIONS = _define_path("annotations", "The COCO annotations that eval scores --detections against.")
IMAGE_SIZE = flags.DEFINE_list(
    "image_size", ["800", "1216"], "The size of benchmark's images: height,width, multiples of 32."
)
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1"], "The batch sizes that benchmark times.")
PRECISIONS = flags.DEFINE_list(
    "precisions", ["float32"], "The values of train.precision that benchmark times."
)
REPEATS = flags.DEFINE_integer("repeats", 5, "The number of times that benchmark times each stage.", 1)
