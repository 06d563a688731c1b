"""How many files a reader passes; the figures of the whole detector are upper bounds that may only sink."""

import types

import numpy as np
import pytest

from experiments.benchmarks import readers_path
from fpn_tf import build
from fpn_tf.geometry import boxes, selection

FILES_TO_LOSSES = 12
FILES_TO_DETECTIONS = 10

BOXES = np.array([[0, 0, 4, 4]], np.float32)


def test_files_are_counted_once_and_moves_each_time():
    def call():
        boxes.box_area(BOXES)
        selection.uniform_noise(np.array([1], np.int32), 2, 1)
        boxes.box_area(BOXES)

    path = readers_path.path_of(call)
    assert path == (("geometry/boxes.py", "geometry/selection.py"), 2)


def test_nothing_outside_of_the_package_counts():
    assert readers_path.path_of(lambda: types.SimpleNamespace(a=np.sort([2, 1]))) == ((), 0)


@pytest.mark.parametrize(
    ("follow", "most"),
    [(readers_path.to_losses, FILES_TO_LOSSES), (readers_path.to_detections, FILES_TO_DETECTIONS)],
)
def test_a_reader_passes_few_files(tiny_config, follow, most):
    path = follow(build(tiny_config))
    assert path.files[0] == "models/faster_rcnn.py"
    assert len(path.files) <= most, path.files
