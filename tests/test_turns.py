"""The benchmarks' turns: programs that wait for each other."""

import sys

import numpy as np
import pytest

from experiments.benchmarks import ours
from experiments.benchmarks.turns import Times, make_inputs, print_times, take_turns
from fpn_tf import build

SIDE = """
import sys, time
from experiments.benchmarks.turns import serve
name, seconds, log = sys.argv[1], float(sys.argv[2]), sys.argv[3]

def work():
    time.sleep(seconds)
    with open(log, "a") as file:
        file.write(name)

serve(work, lambda: open(log, "a").write("."))
"""


def test_sides_work_one_at_a_time(tmp_path):
    log = tmp_path / "log"
    commands = {
        name: [sys.executable, "-c", SIDE, name, seconds, str(log)]
        for name, seconds in (("a", "0.02"), ("b", "0.2"))
    }
    times = take_turns(commands, rounds=3)
    assert log.read_text() == "aaabbb" + "ab" + "ba" + "ab" + ".."
    assert min(times.seconds["b"]) >= 0.2
    assert all(seconds >= 0.02 for seconds in times.seconds["a"])
    assert min(times.seconds["a"]) < 0.2
    assert len(times.seconds["a"]) == len(times.seconds["b"]) == 3
    assert all(1 < times.peak_mb[name] < 2000 for name in "ab")


@pytest.mark.usefixtures("eagerly")
def test_our_side_detects_and_learns(tiny_config):
    model = build(tiny_config)
    inputs = make_inputs(2, (64, 96), 3)
    boxes, scores, _, valid = ours.detection(model, inputs["images"])()
    assert valid.any()
    for i, photo in enumerate(inputs["images"]):
        [detections] = model.detect(photo)
        np.testing.assert_allclose(boxes[i][valid[i]], detections.boxes, atol=1e-3)
        np.testing.assert_allclose(scores[i][valid[i]], detections.scores, atol=1e-5)
    before = model.get_weights()
    assert ours.training_step(model, inputs)().finite
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_side_that_dies_ends_the_comparison():
    with pytest.raises(SystemExit, match="a ended with status 3"):
        take_turns({"a": [sys.executable, "-c", "raise SystemExit(3)"]}, rounds=1)


def test_the_ratio_is_taken_round_by_round(capsys):
    seconds = {"a": [1.0, 2.0, 6.0], "b": [2.0, 4.0, 8.0], "c": [5.0, 5.0, 5.0]}
    print_times(Times(seconds, {"a": 100, "b": 200, "c": 300}), "a", ["b", "c"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["a", "2.000", "s", "(1.000..6.000),", "peak", "100", "MB"]
    assert lines[-1] == "a / b: 0.500 (0.500..0.750)"


def test_inputs_lie_in_their_images():
    inputs = make_inputs(2, (64, 96), classes=5)
    assert inputs["images"].shape == (2, 64, 96, 3)
    assert inputs["images"].std() > 30
    boxes = inputs["boxes"]
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert boxes[..., 0::2].max() <= 96
    assert boxes[..., 1::2].max() <= 64
    assert set(inputs["classes"].flat) <= {1, 2, 3, 4, 5}
