"""Images/s of the input pipeline: Pillow and OpenCV, with and without `malloc.keep_freed`, in turns.

    python -m experiments.benchmarks.input_pipeline --annotations=COCO/annotations/instances_val2017.json \
        --images=COCO/val2017

The photos are decoded, enlarged to 800 pixels, mirrored by chance and batched by twos, as `main.py` does it.
"""

import argparse
import statistics
import sys

from experiments.benchmarks.turns import serve, take_turns

BATCH_SIZE, BATCHES = 2, 60  # of a turn
SIDES = ("pillow", "pillow keeping", "opencv", "opencv keeping")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        one_side(arguments)
        return
    module = [sys.executable, "-m", "experiments.benchmarks.input_pipeline", *sys.argv[1:]]
    times = take_turns({side: [*module, f"--side={side}"] for side in SIDES}, arguments.rounds)
    for side, seconds in times.seconds.items():
        rates = sorted(BATCH_SIZE * BATCHES / s for s in seconds)
        print(f"{side:16s} {statistics.median(rates):4.0f} images/s ({rates[0]:.0f}..{rates[-1]:.0f})")


def one_side(arguments):
    from experiments.coco_r50_fpn_1x import get_config
    from fpn_tf.config import replace
    from fpn_tf.data.loader import Loader
    from fpn_tf.data.pipeline import open_dataset, training_batches
    from fpn_tf.kernels import malloc

    files = {"data.train_annotations": arguments.annotations, "data.train_images": arguments.images}
    quick = {"data.fast_resize": arguments.side.startswith("opencv")}
    data = replace(get_config(), **files, **quick).data
    batches = iter(training_batches(Loader(open_dataset(data, "train"), data), data, BATCH_SIZE, seed=0))
    if arguments.side.endswith("keeping"):
        malloc.keep_freed()

    def work():
        for _ in range(BATCHES):
            next(batches)

    serve(work)


if __name__ == "__main__":
    main()
