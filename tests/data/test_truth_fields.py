"""Fields of the annotations that a head learns besides boxes and classes."""

import json

import numpy as np
import pytest
from test_sources import jpeg

from fpn_tf.data import coco_folder as folder_source
from fpn_tf.data import tfds_source
from fpn_tf.errors import DataError
from fpn_tf.structures import TruthField


def load(folder, values, **fields):
    """The drawn folder with `values` as the field "mood" of its first annotations (None: without it)."""
    path = folder / "annotations.json"
    coco = json.loads(path.read_text())
    for annotation, value in zip(coco["annotations"], values):
        if value is not None:
            annotation["mood"] = value
    path.write_text(json.dumps(coco))
    return folder_source.load(path, folder / "images", fields)


def test_of_the_boxes_that_are_kept(coco_folder):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][1]["bbox"] = [5, 5, 0, 10]  # no area: it needs no mood, nor does the crowd region
    path.write_text(json.dumps(coco))
    dataset = load(coco_folder, [4, None, 6, 7, 8, 9, 10, 11, 12, 13], mood=TruthField())
    assert [r.fields["mood"].tolist() for r in dataset.records] == [
        [4],
        [6, 7],
        [8, 9],
        [],
        [10, 11],
        [12, 13],
    ]
    assert all(r.fields["mood"].dtype == np.int32 for r in dataset.records)
    assert dataset.truth_fields == {"mood": TruthField()}


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (TruthField(), 3, (None, 2.5, "3", [3], 2**40, True, {})),
        (
            TruthField((2,), "float32"),
            [0.5, 1],
            ([1.0], 1.0, [1.0, float("nan")], [1, "a"], [[1], 2], [1, 1e300]),
        ),
        (TruthField(dtype="bool"), True, (1, "yes", [True])),
        (TruthField((2, 1), "uint8"), [[0], [255]], ([[0], [256]], [[-1], [0]], [0, 1])),
    ],
)
def test_another_kind_of_value_is_told(coco_folder, field, good, bad):
    load(coco_folder, [good] * 10, mood=field)
    for value in bad:
        if value is None:
            continue
        with pytest.raises(DataError) as caught:
            load(coco_folder, [good] * 4 + [value] + [good] * 5, mood=field)
        told = str(caught.value)
        assert told.startswith(
            f"{coco_folder}/annotations.json: annotations[4] (id 5): mood = {str(value)[:40]}; "
        )
        assert told.endswith(f"expected {field}")
        assert "\n" not in told


def test_a_field_that_is_not_there_is_told(coco_folder):
    with pytest.raises(DataError) as caught:
        load(coco_folder, [1, 1, 1], mood=TruthField((3,)))
    assert "annotations[0] (id 1): mood = 1; expected int32 of shape (3,)" in str(caught.value)
    with pytest.raises(DataError) as caught:
        load(coco_folder, [1, 1, 1], mood=TruthField())
    assert "annotations[3] (id 4): no 'mood'; expected one int32; annotations[4]" in str(caught.value)
    assert str(caught.value).endswith("(7 such)")


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("boxes", TruthField(), "truth field 'boxes': expected another name"),
        ("mood", TruthField(dtype="str"), "truth field 'mood': dtype str: expected one of numbers or bool"),
        ("mood", TruthField(dtype="int33"), "dtype int33: expected one of numbers"),
    ],
)
def test_a_field_that_cannot_be_is_told(coco_folder, name, field, message):
    with pytest.raises(DataError, match=message):
        load(coco_folder, [], **{name: field})


def test_features_of_tfds_objects():
    objects = {
        "bbox": [[0.25, 0.5, 0.5, 0.75], [0, 0, 1, 1], [0, 0, 0.5, 0.5]],
        "is_difficult": [False, True, False],
        "label": [1, 0, 0],
        "pose": np.array([2, 0, 1]),
    }
    source = [{"image": jpeg(40, 80), "image/filename": b"000032.jpg", "objects": objects}]
    dataset = tfds_source.from_examples(source, ["a", "b"], (1, 2), {"pose": TruthField()}, "voc/2007")
    assert dataset.records[0].fields["pose"].tolist() == [2, 1]
    with pytest.raises(DataError, match=r"voc/2007: annotations\[0\] \(id 1\): pose = 2; expected one bool"):
        tfds_source.from_examples(source, ["a", "b"], (1, 2), {"pose": TruthField(dtype="bool")}, "voc/2007")
