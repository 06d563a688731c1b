"""Speed beside torchvision: the same weights, the same images, both sides taking turns.

    python -m experiments.benchmarks.versus_torchvision --task=inference
    python -m experiments.benchmarks.versus_torchvision --task=training --batch_size=2 --image_size=640,640

Needs torch and torchvision, here or (`--torch_python=/elsewhere/bin/python`) in another environment.
Each side lives in a process of its own under this one and works while the others wait: ours, and
torchvision in its own memory layout and in channels-last. Printed are medians, the range, and the
ratio of ours to the faster torchvision, round by round; then how far the detections of the two agree.

On a GPU, in an environment without TensorFlow, the same commands run Keras' JAX backend:

    KERAS_BACKEND=jax python -m experiments.benchmarks.versus_torchvision --task=training \
        --batch_size=8 --image_size=800,1344 --precision=bfloat16

float32 may use TF32 on both sides there. The weights are random (a trained file: `--weights=FILE.pth`).
"""

import argparse
import json
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
        with open(arguments.folder / "inputs.npz", "rb") as file:
            inputs = dict(np.load(file))
        make = our_side if arguments.side == "ours" else their_side
        work, save = make(arguments, inputs)

        def finish():
            if arguments.task == "inference":
                np.savez(arguments.folder / f"{arguments.side}.npz", **save())

        serve(work, finish)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = pathlib.Path(folder)
        compare(arguments)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=("inference", "training"), default="inference")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--image_size", default="800,1216", help="height,width, multiples of 32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--photos", help="a folder; random images without one")
    parser.add_argument("--weights", help="torchvision's fasterrcnn_resnet50_fpn; random without one")
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--output", type=pathlib.Path, help="a JSON file for the times")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.size = tuple(map(int, arguments.image_size.split(",")))
    return arguments


def compare(arguments):
    """Runs and prints everything."""
    inputs = make_inputs(arguments.batch_size, arguments.size, CLASSES, arguments.photos)
    np.savez(arguments.folder / "inputs.npz", **inputs)
    sides = ("torchvision", "torchvision_channels_last", "ours")  # the first one writes the weights
    times = take_turns({side: command(side, arguments) for side in sides}, arguments.rounds)
    print_times(times, "ours", sides[:2])
    if arguments.task == "inference":
        print_agreement(*(np.load(arguments.folder / f"{side}.npz") for side in ("ours", "torchvision")))
    if arguments.output:
        report = {"arguments": sys.argv[1:], **times._asdict()}
        arguments.output.write_text(json.dumps(report, indent=1))


def command(side, arguments):
    """The argv of one side."""
    python = sys.executable if side == "ours" else arguments.torch_python
    flags = [*sys.argv[1:], f"--side={side}", f"--folder={arguments.folder}"]
    return [python, "-m", "experiments.benchmarks.versus_torchvision", *flags]


def print_agreement(ours, theirs):
    """Every detection of torchvision's beside the one of ours of the same class that overlaps it most."""
    for i in range(len(theirs["count"])):
        count, other = int(theirs["count"][i]), int(ours["count"][i])
        boxes, scores = [], []
        for box, score, label in zip(*(theirs[n][i, :count] for n in ("boxes", "scores", "classes"))):
            same = ours["classes"][i, :other] == label
            if same.any():
                distances = np.abs(ours["boxes"][i, :other][same] - box).max(axis=1)
                boxes.append(distances.min())
                scores.append(abs(ours["scores"][i, :other][same][distances.argmin()] - score))
        print(
            f"image {i}: {other} detections, torchvision {count}; "
            f"boxes differ by at most {max(boxes, default=0):.4f} px, scores by {max(scores, default=0):.1e}"
        )


# The sides ------------------------------------------------------------------------------------


def their_side(arguments, inputs):
    """(work, save) of torchvision; `save` is of inference alone."""
    import torch
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.misc import FrozenBatchNorm2d

    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layers = 3 if arguments.task == "training" else 0
    trunk = {"backbone_name": "resnet50", "weights": None, "norm_layer": FrozenBatchNorm2d}
    backbone = resnet_fpn_backbone(**trunk, trainable_layers=layers)
    short, long = min(arguments.size), max(arguments.size)
    model = detection.FasterRCNN(backbone, CLASSES + 1, min_size=short, max_size=long)
    weights = arguments.folder / "weights.pth"
    if arguments.weights:
        model.load_state_dict(torch.load(arguments.weights, weights_only=True), strict=False)
    elif weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True))
    else:
        for name, values in model.named_buffers():
            if name.endswith("bn3.weight"):
                values.fill_(0.2)  # else the sums of the residual blocks explode
            elif name.endswith("running_mean"):
                values.normal_(0, 0.1)
        for name, values in model.named_parameters():
            if name.endswith("bias"):  # as a trained one has it; zeros would be optimised away
                values.data.normal_(0, 0.01)
        model.roi_heads.box_predictor.cls_score.weight.data *= 30  # random scores then differ clearly
    if not weights.exists():
        torch.save(model.state_dict(), weights)
    if arguments.side.endswith("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    model = model.to(device).train(arguments.task == "training")
    images = [torch.from_numpy(i).permute(2, 0, 1).to(device).float() / 255 for i in inputs["images"]]
    low = arguments.precision == "bfloat16"

    def waited(value):
        if device == "cuda":
            torch.cuda.synchronize()
        return value

    def detect():
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
            return waited(model(images))

    def save():
        names = ("boxes", "scores", "labels")
        return padded([tuple(image[name].cpu().numpy() for name in names) for image in detect()])

    if arguments.task == "inference":
        return detect, save
    targets = [
        {"boxes": torch.from_numpy(b).to(device), "labels": torch.from_numpy(c).to(device)}
        for b, c in zip(inputs["boxes"], inputs["classes"])
    ]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-5, momentum=0.9, weight_decay=1e-4)

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return waited(loss)

    return step, None


def our_side(arguments, inputs):
    """(work, save) of fpn_tf, on Keras' backend; `save` is of inference alone.

    The weights are those that torchvision's side wrote; random ones where it did not run.
    """
    import keras

    import fpn_tf
    from experiments.benchmarks import ours

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    precision = "float32" if arguments.precision == "float32" else "mixed_bfloat16"
    overrides = [f"train.precision={precision}", f"train.batch_size={arguments.batch_size}"]
    overrides += ["model.frozen_stages=2", "train.learning_rate=1e-5"]
    weights = arguments.folder / "weights.pth"
    model = fpn_tf.load(str(weights), overrides) if weights.exists() else ours.random_model(CLASSES)
    if arguments.task == "training":
        return ours.training_step(model, inputs), None
    detect = ours.detection(model, inputs["images"])

    def save():
        boxes, scores, classes, valid = detect()
        return padded([(b[v], s[v], c[v]) for b, s, c, v in zip(boxes, scores, classes, valid)])

    return detect, save


def padded(detections):
    """[(boxes, scores, classes)] of each image as arrays of one length, with the `count` of each image."""
    most = max([len(scores) for _, scores, _ in detections] + [1])
    arrays = {"count": np.asarray([len(scores) for _, scores, _ in detections])}
    for name, parts, shape in zip(("boxes", "scores", "classes"), zip(*detections), ((4,), (), ())):
        rows = np.zeros((len(detections), most, *shape), np.float32)
        for i, part in enumerate(parts):
            rows[i, : len(part)] = part
        arrays[name] = rows
    return arrays


if __name__ == "__main__":
    main()
