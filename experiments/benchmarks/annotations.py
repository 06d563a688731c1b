"""Seconds and memory from annotations on disk to the first batch of training, of sets made for it.

    python -m experiments.benchmarks.annotations                    # COCO train2017's size, polygons included
    python -m experiments.benchmarks.annotations --photos=1700000 --boxes=25000000 --corners=0  # Objects365's

A JSON file in COCO's form is written, and photos: links to a few files. Every stage is measured in a process
of its own that does what comes before it as well, so that memory is that of a run; the index of a large
file is kept in a folder of the benchmark, so that the first start has none and the second one has.
`--keep=FOLDER` leaves the set there, and takes one that is there.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

SIZES = ((480, 640), (640, 480), (427, 640), (500, 375))  # (height, width) of the photos
FILES = 48  # that the photos are links to: a file may have 65,000
CLASSES = 80
BLOCK = 100_000  # entries that are written at a time
PER_FOLDER = 50_000
STAGES = ("imports", "data", "checks", "batch")
STARTS = ("first start", "second start")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=118_287)
    parser.add_argument("--boxes", type=int, default=807_239)
    parser.add_argument("--corners", type=int, default=22, help="corners of every box's polygon; 0: none")
    parser.add_argument("--keep", help="a folder for the set")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(measured(arguments.stage, pathlib.Path(arguments.keep))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.keep or temporary)
        if not (folder / "train.json").exists():
            make_set(folder, arguments.photos, arguments.boxes, arguments.corners)
        megabytes = (folder / "train.json").stat().st_size / 2**20
        print(f"{arguments.photos} photos, {arguments.boxes} boxes, {megabytes:.0f} MiB of JSON")
        for start, stage in itertools.product(STARTS, STAGES):
            print_row(start, stage, in_a_process(stage, folder))


def print_row(start, stage, row):
    print(
        f"{start:13s} to {stage:7s} {row['wall']:7.1f} s, {row['cpu']:7.1f} s of CPU, {row['peak']:6.0f} MB"
    )


def in_a_process(stage, folder):
    """What `measured` gives of a stage in a new process."""
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.annotations",
        f"--stage={stage}",
        f"--keep={folder}",
    ]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(stage, folder):
    """{"wall": seconds, "cpu": seconds, "peak": MB} of this process once a stage is reached."""
    start = time.perf_counter()
    run_to(stage, folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss / 1024,
    }


def run_to(stage, folder):
    """Does as a training run does, up to a stage: the imports, the data set, its checks, the first batch."""
    from experiments.coco_r50_fpn_1x import get_config
    from fpn_tf import config as config_lib
    from fpn_tf.data.loader import Loader
    from fpn_tf.data.pipeline import open_dataset, training_batches
    from fpn_tf.data.survey import findings_before_training

    files = {
        "data.train_annotations": str(folder / "train.json"),
        "data.train_images": str(folder / "photos"),
    }
    config = config_lib.replace(get_config(), **files)
    if stage == "imports":
        return
    dataset = open_dataset(config.data, "train")
    if stage == "data":
        return
    findings_before_training(dataset, config)
    if stage == "checks":
        return
    next(iter(training_batches(Loader(dataset, config.data), config.data, 2, seed=0)))


def make_set(folder, photos, boxes, corners):
    """Writes `train.json` and the folder `photos`.

    Args:
        folder: pathlib.Path.
        photos, boxes: their numbers.
        corners: of the polygon of every box; 0: none.
    """
    random = np.random.default_rng(0)
    sizes = np.asarray(SIZES)[random.integers(len(SIZES), size=photos)]
    link_photos(folder / "photos", sizes)
    beside = folder / "train.json.part"
    with open(beside, "w") as file:
        file.write('{"info": {"description": "made for a benchmark"}, "images": [')
        write_entries(file, (image_entry(i, size) for i, size in enumerate(sizes.tolist())))
        file.write('], "annotations": [')
        write_entries(file, annotation_entries(random, sizes, boxes, corners))
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    beside.rename(folder / "train.json")


def write_entries(file, entries):
    """Writes texts with commas between them."""
    file.write(next(entries, ""))
    while block := list(itertools.islice(entries, BLOCK)):
        file.write(", " + ", ".join(block))


def image_entry(index, size):
    height, width = size
    return f'{{"id": {index + 1}, "file_name": "{photo_name(index)}", "height": {height}, "width": {width}}}'


def annotation_entries(random, sizes, count, corners):
    """Yields the JSON of `count` annotations of photos of sizes [N, 2]."""
    for first in range(0, count, BLOCK):
        n = min(BLOCK, count - first)
        images, categories = random.integers(len(sizes), size=n), random.integers(1, CLASSES + 1, size=n)
        places = random.random((n, 4)) * np.tile(sizes[images][:, ::-1], 2) * [0.6, 0.6, 0.4, 0.4] + [
            0,
            0,
            1,
            1,
        ]
        places = np.round(places, 2)
        polygons = np.round(places[:, None, :2] + random.random((n, corners, 2)) * places[:, None, 2:], 2)
        crowds = random.random(n) < 0.01
        rows = zip(images.tolist(), categories.tolist(), places.tolist(), polygons.tolist(), crowds.tolist())
        for i, (image, category, box, polygon, is_crowd) in enumerate(rows, start=first + 1):
            shape = f', "segmentation": [{[v for corner in polygon for v in corner]}]' if corners else ""
            yield (
                f'{{"id": {i}, "image_id": {image + 1}, "category_id": {category}, "bbox": {box}, '
                f'"area": {box[2] * box[3]:.4f}, "iscrowd": {int(is_crowd)}{shape}}}'
            )


def photo_name(index):
    return f"patch{index // PER_FOLDER}/{index:09d}.jpg"


def link_photos(folder, sizes):
    """Makes a folder of links to `FILES` photos, one for each of the sizes [N, 2] by its size."""
    originals = {}
    for number in range(FILES):
        height, width = SIZES[number % len(SIZES)]
        path = folder / f"original_{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (5 * number, 90, 160)).save(path)
        originals.setdefault((height, width), []).append(path)
    for index in range(0, len(sizes), PER_FOLDER):
        (folder / photo_name(index)).parent.mkdir(exist_ok=True)
    for index, size in enumerate(map(tuple, sizes.tolist())):
        os.link(originals[size][index % len(originals[size])], folder / photo_name(index))


if __name__ == "__main__":
    main()
