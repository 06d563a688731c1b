"""Seconds from the start of `main.py` to the first training step and to the first prediction, R50-FPN.

    python -m experiments.benchmarks.start

Each is of a process of its own, import and tracing included: the end of a step with two images of 640 x
1056, and the first file of `--mode=predict` for one such photo, enlarged to 800 x 1320.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from experiments.benchmarks.turns import ROOT, make_inputs

TRAINING = {
    "data.train_annotations": "annotations.json",
    "data.train_images": ".",
    "data.short_side": 640,
    "data.max_side": 1066,
    "model.backbone_weights": "",
    "train.batch_size": 2,
    "train.steps": 1,
    "train.log_every": 1,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    seconds = {"training step": [], "prediction": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_data(folder)
        for number in range(rounds):
            run = folder / f"run{number}"
            seconds["training step"].append(first_step(folder, run))
            seconds["prediction"].append(first_prediction(folder, run))
    for name, values in seconds.items():
        print(f"first {name}: {statistics.median(values):.1f} s ({min(values):.1f}..{max(values):.1f})")


def write_data(folder):
    """Two photos and their annotations, COCO format."""
    inputs = make_inputs(2, (640, 1056), classes=1)
    images, annotations = [], []
    for i, (photo, boxes) in enumerate(zip(inputs["images"], inputs["boxes"])):
        name, (height, width) = f"{i}.png", photo.shape[:2]
        Image.fromarray(photo).save(folder / name)
        images.append({"id": i, "file_name": name, "height": height, "width": width})
        for x1, y1, x2, y2 in np.float64(boxes):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 1, **box})
    categories = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(80)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def first_step(folder, run):
    """Seconds until `main.py --mode=train` tells its first step."""
    settings = {"data.root": folder, **TRAINING}
    overrides = [f"--params_override={key}={value}" for key, value in settings.items()]
    times = timed_lines(["--mode=train", "--experiment=coco_r50_fpn_1x", f"--model_dir={run}", *overrides])
    return next(seconds for seconds, line in times if line.startswith("step"))


def first_prediction(folder, run):
    """Seconds until `main.py --mode=predict` has written its first file."""
    start = time.time()
    size = ["--params_override=data.short_side=800", "--params_override=data.max_side=1333"]
    timed_lines(["--mode=predict", f"--model_dir={run}", f"--images={folder / '0.png'}", *size])
    return min(file.stat().st_mtime for file in (run / "predictions").iterdir()) - start


def timed_lines(flags):
    """[(seconds since the start, line)] of what a run of `main.py` prints."""
    start, lines = time.perf_counter(), []
    command = [sys.executable, "-u", "main.py", *flags]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **options) as process:
        for line in process.stdout:
            lines.append((time.perf_counter() - start, line))
    if process.returncode:
        last = lines[-1][1] if lines else ""
        sys.exit(f"main.py {flags[0]} ended with status {process.returncode}: {last}")
    return lines


if __name__ == "__main__":
    main()
