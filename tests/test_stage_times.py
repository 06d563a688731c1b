import json

import keras
import pytest
from commands import SMALL, main

if keras.config.backend() != "tensorflow":
    pytest.skip("needs TensorFlow", allow_module_level=True)
import tensorflow as tf

from fpn_tf.kernels import winograd
from fpn_tf.stage_times import _measure, gflop, peak_gflops

PARTS = ["trunk", "neck", "rpn head", "proposals", "roi align", "box head", "final nms"]


def test_the_work_of_a_graph_by_hand():
    image, kernel = tf.ones([2, 8, 6, 4]), tf.ones([3, 3, 4, 5])
    one_way = 2 * (2 * 4 * 3 * 5) * (3 * 3 * 4)  # two for each multiply-add of the 4 x 3 outputs

    def convolve(kernel):
        return tf.nn.conv2d(image * 2, kernel, 2, "SAME")

    def both_gradients(image, kernel):
        with tf.GradientTape() as tape:
            tape.watch((image, kernel))
            total = tf.reduce_sum(tf.nn.conv2d(image, kernel, 2, "SAME") ** 2)
        return tape.gradient(total, (image, kernel))

    wide, wide_kernel = tf.ones([2, 9, 6, 4]), tf.ones([3, 3, 4, 5])
    tiles = 2 * (2 * 3 * 2) * 36 * 4 * 5  # of 4 x 4 outputs: three in the height of 9, two in the width of 6

    def by_winograd(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            total = tf.reduce_sum(winograd.conv3x3(x, kernel) ** 2)
        return tape.gradient(total, (x, kernel))

    def products(a, b):
        return tf.matmul(a, b, transpose_a=True), tf.matmul(
            tf.stack([a, a]), tf.stack([b, b]), transpose_a=True
        )

    def work(function, *inputs):
        return gflop(tf.function(function, autograph=False).get_concrete_function(*inputs)) * 1e9

    assert work(convolve, kernel) == one_way
    assert work(both_gradients, image, kernel) == 3 * one_way
    assert work(by_winograd, wide, wide_kernel) == 3 * tiles
    assert work(products, tf.ones([7, 5]), tf.ones([7, 3])) == 3 * (2 * 5 * 7 * 3)


def test_the_peak_is_a_rate():
    assert 1 < peak_gflops("float32") < 1e6


@pytest.mark.slow
def test_a_run_in_this_process(tiny_config):
    found = _measure("inference", tiny_config, (64, 96), 2)
    names = [stage["name"] for stage in found["stages"]]
    assert names == [*PARTS, "total"]
    assert all(0 < s["fastest"] <= s["milliseconds"] <= s["slowest"] for s in found["stages"])
    work = {stage["name"]: stage["gflop"] for stage in found["stages"]}
    assert sum(work[name] for name in PARTS) == pytest.approx(work["total"], rel=1e-6)
    assert work["trunk"] > work["neck"] > 0 == work["final nms"]


@pytest.mark.slow
def test_a_benchmark_times_every_stage(tmp_path):
    status, output, errors = main(
        "--mode=benchmark",
        "--experiment=coco_r50_fpn_1x",
        f"--model_dir={tmp_path}",
        "--image_size=64,96",
        "--repeats=2",
        overrides=[*SMALL, "model.num_classes=3"],
    )
    assert status == 0, errors
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert [run["task"] for run in found["runs"]] == ["inference", "training"]
    stages = {stage["name"]: stage for run in found["runs"] for stage in run["stages"]}
    assert list(stages) == [*PARTS, "total", "forward", "gradient", "step"]
    for name, stage in stages.items():
        assert stage["fastest"] <= stage["milliseconds"] <= stage["slowest"]
        assert name in output
    # fc6 and fc7, the classifier and the boxes of 32 RoIs
    assert stages["box head"]["gflop"] == pytest.approx(2e-9 * 32 * 32 * (49 * 16 + 32 + 4 + 12))
    assert stages["gradient"]["gflop"] > 2 * stages["forward"]["gflop"] > 0
    assert all(run["peak_memory_mb"] > 100 and run["peak_gflops"] > 1 for run in found["runs"])
