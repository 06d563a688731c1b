"""Speed of an exported SavedModel beside `model.detect` for the same photo, both taking turns.

    python -m experiments.benchmarks.versus_savedmodel --rounds=11

R50-FPN with 1000 proposals and 80 classes, random weights; each side in a process of its own.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from experiments.benchmarks.ours import random_model
from experiments.benchmarks.turns import make_inputs, print_times, serve, take_turns

CLASSES = 80
SIZE = (800, 1216)  # of the photo, which is not resized then


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        SIDES[arguments.side](arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        module = [sys.executable, "-m", "experiments.benchmarks.versus_savedmodel", f"--folder={folder}"]
        np.save(pathlib.Path(folder) / "photo.npy", make_inputs(1, SIZE, classes=1)["images"][0])
        subprocess.run([*module, "--side=export"], check=True)
        commands = {side: [*module, f"--side={side}"] for side in ("detect", "savedmodel")}
        print_times(take_turns(commands, arguments.rounds), "savedmodel", ["detect"])


def export(folder):
    """Writes the SavedModel."""
    from fpn_tf.exporting.saved_model import export

    export(random_model(CLASSES), folder / "export", platform="cpu")


def detect(folder):
    """Serves `model.detect`."""
    model, photo = random_model(CLASSES), np.load(folder / "photo.npy")
    serve(lambda: model.detect([photo]))


def savedmodel(folder):
    """Serves the SavedModel."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(folder / "export" / "1")).signatures["image_tensor"]
    image = tf.constant(np.load(folder / "photo.npy"))[None]
    serve(lambda: signature(image_tensor=image)["detection_boxes"].numpy())


SIDES = {"export": export, "detect": detect, "savedmodel": savedmodel}

if __name__ == "__main__":
    main()
