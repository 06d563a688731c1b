"""Speed beside Keras' other Faster R-CNNs, both sides taking turns.

    python -m experiments.benchmarks.versus_keras --peer=model_garden --peer_python=/elsewhere/bin/python
    python -m experiments.benchmarks.versus_keras --peer=keras_cv --peer_python=/elsewhere/bin/python
    python -m experiments.benchmarks.versus_keras --peer=keras_cv --peer_python=/elsewhere/bin/python \
        --task=training --batch_size=2 --image_size=640,640

The peers: TensorFlow Model Garden (tf-models-official 2.20), which needs an environment of its own, with
the old Keras, and keras-cv (keras-cv-nightly 0.10.0.dev2024100303). All are R50-FPN with two fully
connected layers, 1000 proposals, 91 classes, random weights, in training with frozen batch norms and the
first two stages frozen; what each finds is not compared. The peers' ROIAlign takes one sample per bin
where ours takes four, keras-cv's boxes are of no class where ours are of each, and both want sides that
are multiples of 64.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import numpy as np

from experiments.benchmarks import ours
from experiments.benchmarks.turns import make_inputs, print_times, serve, take_turns

CLASSES = 90


def main():
    arguments = parse()
    if arguments.side:
        with open(arguments.inputs, "rb") as file:
            inputs = dict(np.load(file))
        serve(SIDES[arguments.side, arguments.task](inputs))
        return
    size = tuple(map(int, arguments.image_size.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "inputs.npz"
        np.savez(path, **make_inputs(arguments.batch_size, size, CLASSES))
        module = [*"-m experiments.benchmarks.versus_keras".split(), *sys.argv[1:], f"--inputs={path}"]
        pythons = {arguments.peer: arguments.peer_python, "ours": sys.executable}
        commands = {side: [python, *module, f"--side={side}"] for side, python in pythons.items()}
        print_times(take_turns(commands, arguments.rounds), "ours", [arguments.peer])


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", choices=("model_garden", "keras_cv"), required=True)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--task", choices=("inference", "training"), default="inference")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--image_size", default="832,1216", help="height,width, multiples of 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--inputs", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if (arguments.peer, arguments.task) not in SIDES:
        parser.error(f"--peer={arguments.peer} --task={arguments.task}: expected --task=inference")
    return arguments


def our_detection(inputs):
    """A function that detects in the images with fpn_tf."""
    return ours.detection(ours.random_model(CLASSES), inputs["images"])


def our_training(inputs):
    """A function that takes a training step with fpn_tf."""
    return ours.training_step(ours.random_model(CLASSES), inputs)


def model_garden_detection(inputs):
    """A function that detects in the images with Model Garden."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    from official.vision.configs import maskrcnn
    from official.vision.modeling import factory

    images = tf.constant(inputs["images"], tf.float32)
    config = maskrcnn.fasterrcnn_resnetfpn_coco().task.model
    head = config.detection_head.replace(num_convs=0, num_fcs=2)
    config = config.replace(num_classes=CLASSES + 1, detection_head=head)
    spec = tf.keras.layers.InputSpec(shape=[None, *images.shape[1:]])
    model = factory.build_maskrcnn(spec, config)
    ours.settle(model)
    sizes = tf.fill([len(images), 1], 1.0) * tf.constant(images.shape[1:3], tf.float32)
    detect = tf.function(lambda x: model(x, image_shape=sizes, training=False), jit_compile=False)
    names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")

    def work():
        outputs = detect(images)
        return [outputs[name].numpy() for name in names]

    return work


def keras_cv_model(images):
    """keras-cv's detector for images of one size."""
    import keras
    import keras_cv

    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 128, 256, 512],
        stackwise_blocks=[3, 4, 6, 3],
        stackwise_strides=[1, 2, 2, 2],
        block_type="block",
        include_rescaling=True,
        input_shape=images.shape[1:],
    )
    for layer in backbone.layers:
        early = layer.name.startswith(("conv1", "v2_stack_0"))
        layer.trainable = not (early or isinstance(layer, keras.layers.BatchNormalization))
    model = keras_cv.models.FasterRCNN(backbone=backbone, num_classes=CLASSES, bounding_box_format="xyxy")
    ours.settle(model)
    return model


def keras_cv_detection(inputs):
    """A function that detects with keras-cv: its `predict`, which fails with today's Keras, by hand."""
    import tensorflow as tf

    images = tf.constant(inputs["images"], tf.float32)
    model = keras_cv_model(images)
    detect = tf.function(
        lambda x: model.decode_predictions(model({"images": x}, training=False), x),
        input_signature=[tf.TensorSpec(images.shape)],
    )
    return lambda: {name: part.numpy() for name, part in detect(images).items()}


def keras_cv_training(inputs):
    """A function that takes a training step with keras-cv."""
    import keras
    import tensorflow as tf

    images = tf.constant(inputs["images"], tf.float32)
    labels = {name: tf.constant(inputs[name], tf.float32) for name in ("boxes", "classes")}
    model = keras_cv_model(images)
    model.compile(
        optimizer=keras.optimizers.SGD(1e-5, momentum=0.9),
        box_loss="Huber",
        classification_loss="CategoricalCrossentropy",
        rpn_box_loss="Huber",
        rpn_classification_loss="BinaryCrossentropy",
    )
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda: model.train_step((images, labels)))
    return lambda: {name: value.numpy() for name, value in step().items()}


SIDES = {  # (side, task) -> what gives its work
    ("ours", "inference"): our_detection,
    ("ours", "training"): our_training,
    ("model_garden", "inference"): model_garden_detection,
    ("keras_cv", "inference"): keras_cv_detection,
    ("keras_cv", "training"): keras_cv_training,
}

if __name__ == "__main__":
    main()
