"""Counts the files of `fpn_tf` that a reader passes from images to losses, and from images to detections.

    python -m experiments.benchmarks.readers_path

Follows one eager call of each kind on a small detector, with the kernels switched off: a reader needs
none of them. Prints the files in the order in which the call enters them. Seconds on any machine.
"""

import itertools
import os
import pathlib
import sys
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import fpn_tf
from experiments import shapes
from fpn_tf import config as config_lib
from fpn_tf import kernels

PACKAGE = pathlib.Path(fpn_tf.__file__).parent
SIZE = (64, 96)  # (height, width) of the images, multiples of 32


class Path(NamedTuple):
    """The way of a call through the package."""

    files: tuple[str, ...]  # relative to the package, in the order of their first entry; no __init__.py
    moves: int  # how often a call lies in another file than the call before it


def path_of(function):
    """The Path of `function()`. Called once before, so that imports and caches do not count."""
    function()
    called = []

    def note(frame, event, argument):
        if event == "call":
            called.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    inside = [pathlib.Path(name) for name in called if name.startswith(f"{PACKAGE}{os.sep}")]
    names = [path.relative_to(PACKAGE).as_posix() for path in inside if path.name != "__init__.py"]
    names = [name for name in names if not name.startswith("kernels/")]  # the choice of a kernel
    moves = sum(name != before for before, name in itertools.pairwise(names))
    return Path(tuple(dict.fromkeys(names)), moves)


def to_losses(model):
    """The Path of a training call, from a batch of images to the scalar loss."""
    x, y = batch()
    with kernels.plain():
        return path_of(lambda: sum(model.compute_losses(y, model(x, training=True)).values()))


def to_detections(model):
    """The Path of a call that detects, from a batch of images to the detections."""
    x, _ = batch()
    with kernels.plain():
        return path_of(lambda: model(x, training=False))


def batch():
    """(x, y) of one image with one object."""
    rng = np.random.default_rng(0)
    x = {
        "images": rng.integers(0, 256, (1, *SIZE, 3), dtype=np.uint8),
        "image_sizes": np.array([SIZE], np.int32),
    }
    y = {
        "boxes": np.array([[[10, 12, 60, 48]]], np.float32),
        "classes": np.array([[1]], np.int32),
        "valid": np.array([[True]]),
        "sample_seeds": np.array([11], np.int32),
    }
    return x, y


def main():
    config = config_lib.replace(shapes.get_config(), **{"model.num_classes": 3})
    model = fpn_tf.build(config)
    for name, follow in (("losses", to_losses), ("detections", to_detections)):
        path = follow(model)
        print(f"from images to {name}: {len(path.files)} files, {path.moves} moves")
        for file in path.files:
            print(f"    {file}")


if __name__ == "__main__":
    main()
