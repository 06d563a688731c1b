"""The benchmark of a GPU: its cases and lines, and one run of our side without a GPU."""

import os
import subprocess
import sys

import pytest

from experiments.benchmarks import gpu


def test_cases_are_of_every_task_precision_and_batch_size():
    cases = gpu.cases_of("detection:1,8;training:2", "tf32,bfloat16")
    assert [(c["task"], c["precision"], c["batch_size"]) for c in cases] == [
        ("detection", "tf32", 1),
        ("detection", "tf32", 8),
        ("detection", "bfloat16", 1),
        ("detection", "bfloat16", 8),
        ("training", "tf32", 2),
        ("training", "bfloat16", 2),
    ]


def test_a_line_has_the_ratio_to_the_faster_of_the_others():
    seconds = {
        "torchvision": [4.0, 4.0, 4.0],
        "torchvision_channels_last": [2.0, 2.0, 4.0],
        "ours": [1.0] * 3,
    }
    figures = {"task": "detection", "batch_size": 8, "precision": "tf32", "seconds": seconds}
    line = gpu.line_of(figures | {"ours_flop": 5e12, "ours_peak": 10e12})
    assert "torchvision 2.0, torchvision_channels_last 4.0, ours 8.0" in line
    assert "time to torchvision_channels_last's 0.500 (0.250..0.500); 5.00 TFLOP, 50% of the peak" in line


@pytest.mark.slow
def test_our_side_runs_without_a_gpu():
    flags = ["--sides=ours", "--cases=detection:2;training:2", "--precisions=float32,tf32", "--rounds=1"]
    run = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.gpu", *flags, "--image_size=64,96"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "boxes differ by at most 0.0000 px" in run.stdout
    assert "detection of 2, tf32: images/s: ours" in run.stdout
    assert "training of 2, tf32: images/s: ours" in run.stdout
