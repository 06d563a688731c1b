"""`--mode=benchmark`: how long each stage of the detector takes, and how near that is to the machine's best.

Every measurement runs in a new process, so that its peak memory is that of nothing else, and TensorFlow's
caches of one (oneDNN keeps the algorithm that it chose for a shape) do not speed up another.
"""

import functools
import multiprocessing
import platform
import resource
import statistics
import time
from typing import NamedTuple

import keras
import numpy as np
import rich.box
import rich.table
import tensorflow as tf

from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.cluster import make_cluster
from fpn_tf.kernels import winograd
from fpn_tf.structures import RPNOutputs
from fpn_tf.training.optimizer import make_optimizer
from fpn_tf.training.step import make_train_step

OBJECTS = 8  # ground truths of an image in the training step
MATRIX_PRODUCTS = ("MatMul", "BatchMatMulV2")


class Stage(NamedTuple):
    """One row of the table."""

    name: str
    milliseconds: float  # median of the repeats
    fastest: float  # of the repeats, milliseconds
    slowest: float
    gflop: float  # 2 x multiply-adds of convolutions and matrix products
    share: float  # of the measured peak rate, 0..1; 0 for a stage of no GFLOP


def benchmark(config, size, batch_sizes, precisions, repeats):
    """Measures inference and the training step.

    Args:
        config: Config with `model.num_classes` set.
        size: (height, width) of the images, multiples of 32.
        batch_sizes: images at a time.
        precisions: of `train.precision`.
        repeats: of each stage, in turn with the others.

    Returns:
        A dict for JSON: `machine`, and `runs`, each with `task` ("inference" or "training"),
        `precision`, `batch_size`, `peak_gflops` (the best rate seen of a matrix product and a
        convolution), `peak_memory_mb` of the process, and `stages`, a list of Stage dicts.
    """
    runs = []
    for precision in precisions:
        for batch_size in batch_sizes:
            for task in TASKS:
                settings = config_lib.override(
                    config,
                    [
                        f"train.precision={precision}",
                        f"train.batch_size={batch_size}",
                        "train.num_replicas=1",
                    ],
                )
                run = {"task": task, "precision": precision, "batch_size": batch_size}
                runs.append(run | _in_new_process(_measure, task, settings, size, repeats))
    return {"machine": _machine(), "size": list(size), "repeats": repeats, "runs": runs}


def tables(results):
    """The result of `benchmark` as rich tables."""
    for run in results["runs"]:
        title = (
            f"{run['task']}, {run['precision']}, batch {run['batch_size']}: "
            f"{run['peak_gflops']:.0f} GFLOP/s at best, {run['peak_memory_mb']:.0f} MB"
        )
        table = rich.table.Table(
            "stage", "ms", "range", "GFLOP", "% of peak", title=title, box=rich.box.SIMPLE
        )
        for stage in run["stages"]:
            spread = f"{stage['fastest']:.1f}..{stage['slowest']:.1f}"
            work = (f"{stage['gflop']:.1f}", f"{100 * stage['share']:.0f}") if stage["gflop"] else ("", "")
            table.add_row(stage["name"], f"{stage['milliseconds']:.1f}", spread, *work)
        yield table


def gflop(function):
    """2 x the multiply-adds of a traced function's convolutions and matrix products, in 10^9.

    Those that are carried out: of a `winograd.conv3x3` and its gradients, the products of the tiles.

    Args:
        function: a tf.function's ConcreteFunction of static shapes.
    """
    total = 0
    for operation in function.graph.get_operations():
        shapes = [tensor.shape for tensor in (*operation.inputs, *operation.outputs)]
        if operation.type == "Conv2D":
            kernel, output = shapes[1], shapes[2]
            total += np.prod(output) * np.prod(kernel[:3])
        elif operation.type == "Conv2DBackpropInput":  # as many as going forward
            kernel, upstream = shapes[1], shapes[2]
            total += np.prod(upstream) * np.prod(kernel[:3])
        elif operation.type == "Conv2DBackpropFilter":
            upstream, kernel = shapes[2], shapes[3]
            total += np.prod(upstream) * np.prod(kernel[:3])
        elif operation.type == "PartitionedCall" and _is_winograd(operation.get_attr("f").name, shapes):
            # "forward" where both gradients are computed as well
            (batch, height, width, _), kernel = shapes[:2]
            tiles = batch * -(-height // winograd.TILE) * -(-width // winograd.TILE)
            products = 3 if "forward" in operation.get_attr("f").name else 1
            total += products * tiles * winograd.WINDOW**2 * np.prod(kernel[2:])
        elif operation.type in MATRIX_PRODUCTS:
            turned = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
            total += np.prod(shapes[2]) * shapes[0][-2 if turned else -1]
    return 2 * float(total) / 1e9


def _is_winograd(name, shapes):
    """Whether a call of a function of this name is `winograd`'s, of a map and a 3x3 kernel, going forward."""
    return "backward" not in name and shapes[0].rank == 4 and shapes[1][:2] == (3, 3)


def _measure(task, config, size, repeats):
    """One run's part of `benchmark`'s result, in this process."""
    cluster = make_cluster(1)
    model = build(config)
    x, y = _batch(config, size)
    peak = peak_gflops(model.compute_dtype)  # before and after: the machine may be busy at either
    stages = TASKS[task](model, x, y, cluster)
    times = {name: [] for name in stages}
    for call, _ in stages.values():
        call()  # traces, and chooses algorithms
    for _ in range(repeats):
        for name, (call, _) in stages.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = max(peak, peak_gflops(model.compute_dtype))
    rows = []
    for name, (_, work) in stages.items():
        median = statistics.median(times[name])
        share = work / (median / 1e3) / peak
        rows.append(Stage(name, median, min(times[name]), max(times[name]), work, share)._asdict())
    return {"peak_gflops": peak, "peak_memory_mb": memory, "stages": rows}


def _inference_stages(model, x, y, cluster):
    """{name: (call, GFLOP)} of detection, each stage fed with what the one before it gave."""
    del y, cluster
    sizes, canvas = x["image_sizes"], x["images"].shape[1:3]
    stages = {}

    def trunk(images):
        return model.backbone(model.preprocessor.normalize(images, sizes))

    def proposals(pyramid, logits, deltas):
        return model.rpn.propose(RPNOutputs(logits, deltas, model.rpn.anchors(pyramid, canvas)), sizes)

    def decode(logits, deltas, proposals):
        return model.box_head.decode(logits, deltas, proposals, sizes, model.score_threshold)

    def stage(name, function, *inputs):
        compiled = tf.function(function, autograph=False, jit_compile=False)
        traced = compiled.get_concrete_function(*inputs)
        stages[name] = functools.partial(_wait, compiled, *inputs), gflop(traced)
        return compiled(*inputs)

    maps = stage("trunk", trunk, x["images"])
    pyramid = stage("neck", model.neck, maps)
    logits, deltas = stage("rpn head", model.rpn.head, pyramid)
    boxes = stage("proposals", proposals, pyramid, logits, deltas)
    pooled_from = {name: pyramid[name] for name in list(pyramid)[:-1]}
    features = stage("roi align", model.box_head.pooler, pooled_from, boxes.boxes)
    scores = stage("box head", model.box_head.head, features)
    stage("final nms", decode, *scores, boxes)
    stage("total", functools.partial(model, training=False), x)
    return stages


def _training_stages(model, x, y, cluster):
    """{name: (call, GFLOP)} of a training step. `gradient` holds `forward`, `step` holds both."""
    values = [variable.value for variable in model.trainable_variables]

    def losses():
        return sum(model.compute_losses(y, model(x, training=True)).values())

    def gradient():
        with tf.GradientTape() as tape:
            loss = losses()
        return tape.gradient(loss, values)

    optimizer = make_optimizer(model.config.train)
    optimizer.build(model.trainable_variables)
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, (x, y))
    step = make_train_step(model, optimizer, cluster, spec)
    stages = {}
    for name, function in (("forward", losses), ("gradient", gradient)):
        compiled = tf.function(function, autograph=False, jit_compile=False)
        stages[name] = functools.partial(_wait, compiled), gflop(compiled.get_concrete_function())
    stages["step"] = functools.partial(step, x, y, False), stages["gradient"][1]
    return stages


TASKS = {"inference": _inference_stages, "training": _training_stages}


def _wait(function, *inputs):
    """Calls a function and waits for its results."""
    for tensor in tf.nest.flatten(function(*inputs)):
        if tensor is not None:
            tf.convert_to_tensor(tensor).numpy()


def _batch(config, size):
    """Random (x, y) of the class docstring of `fpn_tf.RPN`, as tensors."""
    random = np.random.default_rng(0)
    count = config.train.batch_size
    corners = random.uniform(0, 0.6, (count, OBJECTS, 2))
    sides = random.uniform(0.05, 0.4, (count, OBJECTS, 2))
    boxes = np.concatenate([corners, corners + sides], axis=-1) * ([size[1], size[0]] * 2)
    x = {
        "images": random.integers(0, 256, (count, *size, 3), dtype=np.uint8),
        "image_sizes": np.full((count, 2), size, np.int32),
    }
    y = {
        "boxes": boxes.astype(np.float32),
        "classes": random.integers(1, config.model.num_classes + 1, (count, OBJECTS)).astype(np.int32),
        "valid": np.ones((count, OBJECTS), bool),
        "sample_seeds": np.arange(count, dtype=np.int32),
    }
    return tf.nest.map_structure(tf.constant, (x, y))


def peak_gflops(dtype):
    """The best rate seen, GFLOP/s, of a matrix product and a 3x3 convolution that fill the machine."""
    random = np.random.default_rng(0)
    square = tf.cast(random.normal(size=(2048, 2048)), dtype)
    image = tf.cast(random.normal(size=(1, 128, 128, 256)), dtype)
    kernel = random.normal(size=(3, 3, 256, 256))

    def convolve(image):
        return tf.nn.conv2d(image, tf.constant(kernel, dtype), 1, "SAME")

    def multiply(square):
        return square @ square

    rates = []
    for function, data in ((multiply, square), (convolve, image)):
        compiled = tf.function(function, autograph=False, jit_compile=False)
        work = gflop(compiled.get_concrete_function(data))
        _wait(compiled, data)
        for _ in range(5):
            start = time.perf_counter()
            _wait(compiled, data)
            rates.append(work / (time.perf_counter() - start))
    return max(rates)


def _in_new_process(function, *arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _machine():
    devices = [d.name for d in tf.config.list_physical_devices("GPU")]
    return {
        "processor": _processor(),
        "cores": multiprocessing.cpu_count(),
        "gpus": devices,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
