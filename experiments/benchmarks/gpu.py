"""A GPU by Keras' JAX backend beside PyTorch and torchvision: how exact, how fast, what share of the peak.

    KERAS_BACKEND=jax python -m experiments.benchmarks.gpu

Needs JAX, torch and torchvision, all three with CUDA; no TensorFlow. Each side is one process that goes
through the cases (a task, a batch size, a precision) and works while the others wait. For each case are
printed the images per second of all sides, the ratio of our time to that of the faster torchvision, round
by round, and the share that ours reaches of the rate of a large matrix product in that precision. First come
how far the detections of the GPU lie from the CPU's and from torchvision's, in full float32.

`--profile` adds what a case spends its time on. Without a GPU: `--sides=ours --image_size=64,96 --rounds=1`.
"""

import argparse
import contextlib
import gc
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np

from experiments.benchmarks import versus_torchvision
from experiments.benchmarks.turns import answer, make_inputs, program, reply, seconds_in_turns, tell

CASES = "detection:1,8,32;training:2,8,16"
PRECISIONS = "tf32,bfloat16"
SIDES = "torchvision,torchvision_channels_last,ours"
JAX_PRECISION = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "default"}
PRODUCT_SIDE = 8192


def main():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the sides share the GPU's memory
    arguments = parse()
    if arguments.side:
        serve_cases(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = pathlib.Path(folder)
        compare(arguments)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default=CASES, help="TASK:BATCH,BATCH;TASK:BATCH")
    parser.add_argument("--precisions", default=PRECISIONS, help=f"of {', '.join(JAX_PRECISION)}")
    parser.add_argument("--sides", default=SIDES)
    parser.add_argument("--image_size", default="800,1344", help="height,width, multiples of 32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--exactness", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--profile", action="store_true", help="print the slowest operations of each case")
    parser.add_argument("--output", type=pathlib.Path, help="a JSON file for the figures")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.size = tuple(map(int, arguments.image_size.split(",")))
    return arguments


def cases_of(text, precisions):
    """As `--cases` and `--precisions`: [{"task", "batch_size", "precision"}], those of a task together."""
    tasks = [part.split(":") for part in text.split(";")]
    return [
        {"task": task, "batch_size": int(batch_size), "precision": precision}
        for task, batch_sizes in tasks
        for precision in precisions.split(",")
        for batch_size in batch_sizes.split(",")
    ]


# The parent -----------------------------------------------------------------------------------


def compare(arguments):
    """Runs all cases, prints a line for each as it is done, and writes the figures."""
    cases, sides = cases_of(arguments.cases, arguments.precisions), arguments.sides.split(",")
    most = max(case["batch_size"] for case in cases)
    inputs = make_inputs(most, arguments.size, versus_torchvision.CLASSES)
    np.savez(arguments.folder / "inputs.npz", **inputs)
    figures = []
    with contextlib.ExitStack() as stack:
        workers = {}
        for side in sides:  # the first one writes the weights
            workers[side] = stack.enter_context(program(command(side, arguments)))
            print(f"{side}: {answer(workers[side], side)['device']}", flush=True)
        if arguments.exactness:
            check_exactness(arguments, workers)
        for case in cases:
            figures.append(measured(workers, case, arguments.rounds))
            print(line_of(figures[-1]), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1))


def command(side, arguments):
    """The argv of one side."""
    python = arguments.torch_python if side.startswith("torchvision") else sys.executable
    flags = [*sys.argv[1:], f"--side={side}", f"--folder={arguments.folder}"]
    return [python, "-m", "experiments.benchmarks.gpu", *flags]


def prepare(worker, side, case):
    """Has a side make itself ready for a case. Returns: what it replies."""
    tell(worker, json.dumps(case))
    return answer(worker, side)


def check_exactness(arguments, workers):
    """Prints how far the detections on the GPU are from the CPU's and from torchvision's."""
    case = {"task": "detection", "batch_size": 1, "precision": "float32", "is_saved": True}
    for side, worker in workers.items():
        prepare(worker, side, case)
    with program(["env", "JAX_PLATFORMS=cpu", *command("ours_on_cpu", arguments)]) as worker:
        answer(worker, "ours_on_cpu")
        prepare(worker, "ours_on_cpu", case)
    detections = {path.stem: np.load(path) for path in sorted(arguments.folder.glob("*ours*.npz"))}
    detections |= {path.stem: np.load(path) for path in arguments.folder.glob("torchvision.npz")}
    for other in detections:
        if other != "ours":
            print(f"ours beside {other}, float32:", flush=True)
            versus_torchvision.print_agreement(detections["ours"], detections[other])


def measured(workers, case, rounds):
    """The figures of a case: {..., "seconds": {side: [of every round]}}."""
    figures = dict(case)
    for side, worker in workers.items():
        answers = prepare(worker, side, case)
        figures |= {f"{side}_{name}": value for name, value in answers.items()}
    return figures | {"seconds": seconds_in_turns(workers, rounds)}


def line_of(figures):
    """A case's figures as a line of text."""
    seconds, size = figures["seconds"], figures["batch_size"]
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    rates = ", ".join(f"{side} {size / median:.1f}" for side, median in medians.items())
    line = f"{figures['task']} of {size}, {figures['precision']}: images/s: {rates}"
    others = [side for side in medians if side.startswith("torchvision")]
    if others:
        best = min(others, key=medians.get)
        ratios = sorted(a / b for a, b in zip(seconds["ours"], seconds[best]))
        line += f"; time to {best}'s {statistics.median(ratios):.3f} ({ratios[0]:.3f}..{ratios[-1]:.3f})"
    share = figures["ours_flop"] / medians["ours"] / figures["ours_peak"]
    return line + f"; {figures['ours_flop'] / 1e12:.2f} TFLOP, {share:.0%} of the peak"


# A side ---------------------------------------------------------------------------------------


def serve_cases(arguments):
    """Takes a case a line, gets ready for it, and answers every "go" with the seconds of one call."""
    with open(arguments.folder / "inputs.npz", "rb") as file:
        inputs = dict(np.load(file))
    is_ours = not arguments.side.startswith("torchvision")
    reply({"device": jax_device() if is_ours else torch_device()})
    work = None
    for line in sys.stdin:
        if line.strip() == "go":
            start = time.perf_counter()
            work()
            reply({"s": time.perf_counter() - start})
            continue
        work = None
        gc.collect()  # the model of the case before
        settings = vars(arguments) | {"threads": os.cpu_count(), "weights": None, "is_saved": False}
        case = argparse.Namespace(**settings | json.loads(line))
        part = {name: array[: case.batch_size] for name, array in inputs.items()}
        work, facts = ready(case, part, is_ours)
        reply(facts)


def ready(case, inputs, is_ours):
    """(a function that does the case's work once, after its first calls; facts about it)."""
    precision = case.precision
    case.task = {"detection": "inference", "training": "training"}[case.task]
    case.precision = "bfloat16" if precision == "bfloat16" else "float32"
    if is_ours:
        import jax

        jax.clear_caches()
        jax.config.update("jax_default_matmul_precision", JAX_PRECISION[precision])
        work, save = versus_torchvision.our_side(case, inputs)
    else:
        import torch

        work, save = versus_torchvision.their_side(case, inputs)
        tf32 = precision != "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    start = time.perf_counter()
    work()
    facts = {"first_s": time.perf_counter() - start}
    for _ in range(3):  # libraries choose algorithms in the first rounds
        work()
    if case.is_saved:
        np.savez(case.folder / f"{case.side}.npz", **save())
    elif is_ours:
        facts |= {"flop": flop_of_a_call(case), "peak": peak_rate(precision)}
        if case.profile:
            print_slowest(work, case)
    return work, facts


def jax_device():
    import jax

    return f"JAX {jax.__version__} on {jax.devices()[0].device_kind}"


def torch_device():
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
    return f"PyTorch {torch.__version__} on {name}"


# What there is to do, and what the device can -----------------------------------------------------


def flop_of_a_call(case):
    """Floating-point operations of the layers in a call, as XLA counts them before it compiles.

    What joins the layers (NMS, matching, pooling) is not counted. A step counts three forward passes, but one
    of the frozen stem and c2.
    """
    import jax

    from experiments.benchmarks import ours

    model = ours.random_model(versus_torchvision.CLASSES)

    def flop(layers, *shape):
        with jax.default_device(jax.devices("cpu")[0]):  # on GPUs XLA counts nothing before it compiles
            return jax.jit(layers).lower(jax.ShapeDtypeStruct(shape, "float32")).cost_analysis()["flops"]

    is_training = case.task == "training"
    rois = model.box_head.samples if is_training else model.rpn.post_nms_test
    whole = flop(lambda x: model.rpn.head(model.neck(model.backbone(x))), 1, *case.size, 3)
    whole += flop(model.box_head.head, 1, rois, 7, 7, 256)
    frozen = flop(lambda x: model.backbone(x)["c2"], 1, *case.size, 3)
    return case.batch_size * (3 * whole - 2 * frozen if is_training else whole)


def peak_rate(precision):
    """Floating-point operations per second of a large matrix product."""
    import jax
    import jax.numpy as jnp

    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    side = PRODUCT_SIDE if jax.default_backend() == "gpu" else PRODUCT_SIDE // 16
    a = jax.random.normal(jax.random.key(0), (side, side), dtype)
    multiply = jax.jit(lambda x: x @ x)
    multiply(a).block_until_ready()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        multiply(a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(times)


def print_slowest(work, case, count=25):
    """Prints the operations on which the device spent most of three calls, to the standard error."""
    import collections

    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(3):
                work()
        [file] = pathlib.Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
        milliseconds, calls = collections.Counter(), collections.Counter()
        lines = [line for plane in profile.planes if "GPU" in plane.name for line in plane.lines]
        for event in (event for line in lines if line.name.startswith("Stream") for event in line.events):
            name = str(dict(event.stats).get("name") or event.name)
            milliseconds[name] += event.duration_ns / 3e6
            calls[name] += 1
    whole = sum(milliseconds.values())
    print(f"{case.task} of {case.batch_size}: {whole:.1f} ms in operations of the device", file=sys.stderr)
    for name, duration in milliseconds.most_common(count):
        print(f"  {duration:8.2f} ms  {calls[name] // 3:5d} x  {name[-110:]}", file=sys.stderr)


if __name__ == "__main__":
    main()
