"""Seconds and memory from annotations on disk to the first batch of training, of sets made for it.

    python -m experiments.benchmarks.annotations                    # COCO train2017's size, polygons included
    python -m experiments.benchmarks.annotations --photos=1700000 --boxes=25000000 --corners=0  # Objects365's

A JSON file in COCO's form is written, and photos: links to a few files. Two processes do one after the other
what a run does; memory is the most until then. The index of a large file goes to a cache of the benchmark's
own, so that the first start has none and the second one has. `--keep=FOLDER` leaves the set there, and takes
one that is there.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import shutil
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=118_287)
    parser.add_argument("--boxes", type=int, default=807_239)
    parser.add_argument("--corners", type=int, default=22, help="corners of every box's polygon; 0: none")
    parser.add_argument("--keep", help="a folder for the set")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        for row in measured(pathlib.Path(arguments.keep)):
            print(row, flush=True)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.keep or temporary)
        if not (folder / "train.json").exists():
            make_set(folder, arguments.photos, arguments.boxes, arguments.corners)
        megabytes = (folder / "train.json").stat().st_size / 2**20
        print(f"{arguments.photos} photos, {arguments.boxes} boxes, {megabytes:.0f} MiB of JSON")
        shutil.rmtree(folder / "cache", ignore_errors=True)
        module = [sys.executable, "-m", "experiments.benchmarks.annotations"]
        for start in ("first start", "second start"):
            print(f"{start}:", flush=True)
            environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
            subprocess.run([*module, "--child", f"--keep={folder}"], env=environment, check=True)


def measured(folder):
    """Yields a line of text for every stage of a run on the set in a folder: what it took to reach it."""
    start = time.perf_counter()
    for stage in stages(folder):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
        yield f"  {stage:24s} {wall:7.1f} s, {cpu:7.1f} s of CPU, {usage.ru_maxrss / 1024:6.0f} MB"


def stages(folder):
    """Does as a training run does, and yields the name of every stage that is reached."""
    from experiments.coco_r50_fpn_1x import get_config
    from fpn_tf import config as config_lib
    from fpn_tf.data.digest import annotations_digest
    from fpn_tf.data.loader import Loader
    from fpn_tf.data.pipeline import open_dataset, training_batches
    from fpn_tf.data.survey import findings_before_training

    annotations, photos = str(folder / "train.json"), str(folder / "photos")
    files = {"data.train_annotations": annotations, "data.train_images": photos}
    config = config_lib.replace(get_config(), **files)
    yield "the program is imported"
    dataset = open_dataset(config.data, "train")
    yield "the data set is open"
    annotations_digest(dataset)
    yield "its digest is known"
    findings_before_training(dataset, config)
    yield "it is checked"
    next(iter(training_batches(Loader(dataset, config.data), config.data, 2, seed=0)))
    yield "the first batch is read"


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
        limits = np.tile(sizes[images][:, ::-1], 2) * [0.6, 0.6, 0.4, 0.4]
        places = np.round(random.random((n, 4)) * limits + [0, 0, 1, 1], 2)
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
