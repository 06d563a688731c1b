"""Programs that take turns: each lives in a process of its own and works while the others wait.

A machine's pace drifts from minute to minute, so only what ran in the same minute is compared: every
round times each side once, and a ratio is taken round by round.
"""

import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the sides import TensorFlow later
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np

STARTED = time.perf_counter()
ROOT = pathlib.Path(__file__).parents[2]
OBJECTS = 8


class Times(NamedTuple):
    """The measurements of all sides, each {side: ...}."""

    seconds: dict  # [of every round]
    peak_mb: dict  # of the process


# The parent -----------------------------------------------------------------------------------


def take_turns(commands, rounds):
    """Starts the sides one after the other, then times them in turns.

    Args:
        commands: {side: the argv of a program that calls `serve`}.
        rounds: how often each side works; another one begins every time.

    Returns:
        Times.
    """
    peak_mb = {}
    with contextlib.ExitStack() as stack:
        workers = {}
        for side, command in commands.items():
            workers[side] = stack.enter_context(program(command))
            print(f"{side}: first call after {answer(workers[side], side)['start_s']:.1f} s", flush=True)
        seconds = seconds_in_turns(workers, rounds)
        for side, worker in workers.items():
            tell(worker, "end")
            peak_mb[side] = answer(worker, side)["peak_mb"]
            worker.wait()
    return Times(seconds, peak_mb)


def seconds_in_turns(workers, rounds):
    """{side: [seconds of every round]} of running sides, {side: program}; another begins every round."""
    seconds, sides = {side: [] for side in workers}, list(workers)
    for number in range(rounds):
        first = number % len(sides)
        for side in sides[first:] + sides[:first]:
            tell(workers[side], "go")
            seconds[side].append(answer(workers[side], side)["s"])
    return seconds


def print_times(times, side, others):
    """Medians and ranges of all, and the ratio of `side` to the fastest of `others`."""
    for name, values in times.seconds.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:26s} {middle:7.3f} s ({low:.3f}..{high:.3f}), peak {times.peak_mb[name]:.0f} MB")
    best = min(others, key=lambda name: statistics.median(times.seconds[name]))
    ratios = sorted(a / b for a, b in zip(times.seconds[side], times.seconds[best]))
    print(f"{side} / {best}: {statistics.median(ratios):.3f} ({ratios[0]:.3f}..{ratios[-1]:.3f})")


def make_inputs(count, size, classes, photos=None):
    """Images, and boxes to train on.

    Args:
        count: images.
        size: (height, width), multiples of 32.
        classes: number of classes of the boxes, which are 1..classes.
        photos: a folder; random images without one.

    Returns:
        {"images": [N, H, W, 3] uint8, "boxes": [N, M, 4] float32, "classes": [N, M]}.
    """
    random = np.random.default_rng(0)
    height, width = size
    if photos:
        from PIL import Image

        files = sorted(p for p in pathlib.Path(photos).iterdir() if p.suffix in (".jpg", ".png"))
        images = [Image.open(file).convert("RGB").resize((width, height)) for file in files[:count]]
        images = np.stack([np.asarray(image) for image in images])
    else:
        coarse = random.uniform(0, 255, (count, height // 32, width // 32, 3))
        images = np.repeat(np.repeat(coarse, 32, 1), 32, 2) + random.normal(0, 20, (count, height, width, 3))
        images = images.clip(0, 255).astype(np.uint8)
    corners = random.uniform(0, 0.6, (count, OBJECTS, 2))
    sides = random.uniform(0.05, 0.4, (count, OBJECTS, 2))
    boxes = np.concatenate([corners, corners + sides], axis=-1) * ([width, height] * 2)
    numbers = random.integers(1, classes + 1, (count, OBJECTS))
    return {"images": images, "boxes": boxes.astype(np.float32), "classes": numbers}


@contextlib.contextmanager
def program(command):
    """The running program of a side, which does not outlive the block."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def tell(worker, word):
    """Sends a side a line."""
    worker.stdin.write(word + "\n")
    worker.stdin.flush()


def answer(worker, side):
    """Waits for what a side replies: a dict."""
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)
    sys.exit(f"{side} ended with status {worker.wait()}")


# A side ---------------------------------------------------------------------------------------


def serve(work, finish=lambda: None):
    """Answers every "go" with the seconds of one call of `work`, and "end" after `finish`."""
    work()
    first = time.perf_counter() - STARTED  # imports, building and tracing included
    for _ in range(2):  # libraries choose algorithms in the first rounds
        work()
    reply({"start_s": first})
    while sys.stdin.readline().strip() == "go":
        start = time.perf_counter()
        work()
        reply({"s": time.perf_counter() - start})
    finish()
    reply({"peak_mb": _peak_mb()})


def _peak_mb():
    """Of this program alone, on Linux; `getrusage` would begin at the size of its parent."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def reply(value):
    """Answers the parent with a dict."""
    print(json.dumps(value), flush=True)
