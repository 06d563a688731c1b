"""Speed of detection beside TensorFlow Model Garden's Faster R-CNN, both sides taking turns.

    python -m experiments.benchmarks.versus_model_garden --model_garden_python=/elsewhere/bin/python

Model Garden (tf-models-official 2.20) needs an environment of its own, with the old Keras. Both are
R50-FPN with two fully connected layers, 1000 proposals, 91 classes, random weights; what each finds
is not compared. Model Garden's net takes sides that are multiples of 64, and one ROIAlign sample per bin
where ours takes four.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import numpy as np

from experiments.benchmarks.turns import make_inputs, print_times, serve, take_turns

CLASSES = 90


def main():
    arguments = parse()
    if arguments.side:
        images = np.load(arguments.images)
        serve((ours if arguments.side == "ours" else model_garden)(images))
        return
    size = tuple(map(int, arguments.image_size.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "images.npy"
        np.save(path, make_inputs(arguments.batch_size, size, CLASSES)["images"])
        module = [*"-m experiments.benchmarks.versus_model_garden".split(), f"--images={path}"]
        commands = {
            "model_garden": [arguments.model_garden_python, *module, "--side=model_garden"],
            "ours": [sys.executable, *module, "--side=ours"],
        }
        print_times(take_turns(commands, arguments.rounds), "ours", ["model_garden"])


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--image_size", default="832,1216", help="height,width, multiples of 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model_garden_python", default=sys.executable)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--images", help=argparse.SUPPRESS)
    return parser.parse_args()


def ours(images):
    """What detects in `images` with fpn_tf."""
    from fpn_tf import FasterRCNN
    from fpn_tf.config import Config, override

    model = FasterRCNN(override(Config(), [f"model.num_classes={CLASSES}"]))
    settle(model)
    detector = model.detector()
    sizes = np.full((len(images), 2), images.shape[1:3], np.int32)
    x = {"images": images.astype(np.float32), "image_sizes": sizes}
    return lambda: [np.asarray(part) for part in detector(x)]  # waits for them


def model_garden(images):
    """What detects in `images` with Model Garden."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    from official.vision.configs import maskrcnn
    from official.vision.modeling import factory

    config = maskrcnn.fasterrcnn_resnetfpn_coco().task.model
    head = config.detection_head.replace(num_convs=0, num_fcs=2)
    config = config.replace(num_classes=CLASSES + 1, detection_head=head)
    spec = tf.keras.layers.InputSpec(shape=[None, *images.shape[1:]])
    model = factory.build_maskrcnn(spec, config)
    settle(model)
    sizes = tf.fill([len(images), 1], 1.0) * tf.constant(images.shape[1:3], tf.float32)
    images = tf.constant(images, tf.float32)
    detect = tf.function(lambda x: model(x, image_shape=sizes, training=False), jit_compile=False)
    names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")

    def work():
        found = detect(images)
        return [found[name].numpy() for name in names]

    return work


def settle(model):
    """Biases and batch norms as a trained net has them: fresh ones fold away, and residuals explode."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "moving_mean" in variable.name:
            variable.assign(random.normal(0, 0.1, variable.shape))
        elif "moving_variance" in variable.name:
            variable.assign(np.full(variable.shape, 4.0))
        elif "bias" in variable.name:
            variable.assign(random.normal(0, 0.01, variable.shape))


if __name__ == "__main__":
    main()
