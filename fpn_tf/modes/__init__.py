"""What `main.py --mode=...` does: a file a mode. A model_dir is the memory between them."""

from fpn_tf.modes.benchmarking import benchmark
from fpn_tf.modes.converting import convert
from fpn_tf.modes.evaluating import evaluate, score_files
from fpn_tf.modes.exporting import export
from fpn_tf.modes.full_run import train_and_eval
from fpn_tf.modes.importing import import_weights
from fpn_tf.modes.inspecting import inspect
from fpn_tf.modes.joining import join
from fpn_tf.modes.predicting import predict_photos
from fpn_tf.modes.proposing import propose
from fpn_tf.modes.training import train

__all__ = [
    "benchmark",
    "convert",
    "evaluate",
    "export",
    "import_weights",
    "inspect",
    "join",
    "predict_photos",
    "propose",
    "score_files",
    "train",
    "train_and_eval",
]
