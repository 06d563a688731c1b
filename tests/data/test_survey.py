import json

import numpy as np
import pytest
from conftest import make_coco_folder
from PIL import Image

from fpn_tf import config as config_lib
from fpn_tf import modes
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.survey import anchor_coverage, annotation_findings, best_anchor_iou, check_files, survey_of
from fpn_tf.errors import DataError
from fpn_tf.geometry.boxes import anchor_grid, base_anchors, pairwise_iou


@pytest.mark.parametrize("neck", ["fpn", "finest", "c4"])
@pytest.mark.parametrize("rounding", ["none", "torchvision", "detectron"])
def test_best_anchor_iou_equals_that_of_all_anchors(rounding, neck):
    sizes = (8, 16, 32, 64, 96)
    rpn = config_lib.RPNConfig(anchor_sizes=sizes, anchor_rounding=rounding)
    model = config_lib.ModelConfig(neck=neck, rpn=rpn)
    rng = np.random.default_rng(0)
    corner = rng.uniform(-10, 90, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 70, corner.shape)], axis=1)
    canvas = (64, 96)
    expected = np.zeros(len(boxes))
    of_level = {"finest": {2: sizes}, "c4": {4: sizes}}.get(neck) or {
        level: (size,) for level, size in enumerate(sizes, start=2)
    }
    for level, sizes_of_level in of_level.items():
        cell = base_anchors(sizes_of_level, rpn.anchor_ratios, rounding, 2**level)
        anchors = anchor_grid([-(-side // 2**level) for side in canvas], 2**level, cell)
        expected = np.maximum(expected, np.asarray(pairwise_iou(boxes, anchors)).max(axis=1))
    np.testing.assert_allclose(best_anchor_iou(boxes, canvas, model), expected, atol=1e-6)


def test_coverage_by_hand(folder_config):
    """An anchor of 32 x 32 at a cell fits a box of 32 x 32 there, and half of one of 32 x 64."""
    config = config_lib.replace(folder_config, **{"model.rpn.anchor_sizes": (32,) * 5})
    [record] = [r for r in open_dataset(config.data, "train").records if r.image_id == 100]
    boxes = np.array([[16, 16, 48, 48], [16, 0, 48, 64], [0, 0, 3, 3]], np.float32)
    coverage = anchor_coverage([record._replace(boxes=boxes)], config)
    # In the second lies the anchor of ratio 2, 22.6 x 45.3: half of its area.
    assert coverage["all"] == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert coverage["small"] == (1, 0.0, 0.0)
    assert coverage["medium"] == (2, 1.0, 0.5)
    assert coverage["large"] == (0, 0.0, 0.0)


@pytest.fixture
def doubtful(folder_config, coco_folder):
    """The drawn folder with one of everything that may be wrong but stops no run."""
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][0]["bbox"] = [3.0, 4.0, 5.0, 0.0]
    coco["annotations"][1]["bbox"] = [-9.0, 2.0, 40.0, 20.0]
    coco["categories"].append({"id": 4, "name": "none of these"})
    path.write_text(json.dumps(coco))
    (coco_folder / "images" / "photo_1.png").write_bytes(b"")
    Image.new("RGB", (9, 8)).save(coco_folder / "images" / "photo_2.png")
    return config_lib.replace(folder_config, **{"model.num_classes": 4})


def test_findings(doubtful, coco_folder):
    dataset = open_dataset(doubtful.data, "train")
    told = [str(f) for f in annotation_findings(dataset)]
    assert told == [
        "1 boxes have no area inside their photo, left out: annotation 1 of image 100 (3, 4, 5, 0)",
        "1 boxes reach outside their photo, clipped: annotation 2 of image 100 (-9, 2, 40, 20)",
        "1 classes without a box: none of these",
        "1 photos without a box: image 130",
    ]
    found = check_files(dataset, doubtful.data)
    assert [f.what for f in found] == ["photos cannot be read", "photos are not of the annotated size"]
    assert "photo_1.png" in str(found[0])
    assert str(found[1]).endswith("photo_2.png (9x8, the annotations say 96x64)")
    strict = config_lib.replace(doubtful, **{"data.max_bad_fraction": 0.2})
    with pytest.raises(DataError, match="2 of 6 photos cannot be used, more than data.max_bad_fraction=0.2"):
        check_files(dataset, strict.data)


def test_only_the_first_of_many_are_named(folder_config, tmp_path):
    root = make_coco_folder(tmp_path / "many", sizes=[(64, 96)] * 8)
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    config = config_lib.replace(folder_config, **{"data.root": str(root), "data.max_bad_fraction": 1.0})
    [found] = check_files(open_dataset(config.data, "train"), config.data)
    assert found.count == 8
    assert len(found.first) == 3
    assert str(found).endswith(", ...")


def test_counts(folder_config):
    dataset = open_dataset(folder_config.data, "train")
    found = survey_of(dataset, folder_config)
    assert (found.photos, found.boxes, found.crowd_regions) == (6, 10, 1)
    assert sum(found.class_counts.values()) == 10
    assert found.class_counts["red"] == sum(int((r.classes == 1).sum()) for r in dataset.records)
    assert dict(zip(*found.photo_aspects))["1.333 .. 2"] == 4  # 96 x 64
    assert dict(zip(*found.photo_aspects))["0.5 .. 0.75"] == 2
    assert sum(found.box_sides.counts) == 10


def test_inspect_prints_and_writes(doubtful, tmp_path, capsys):
    modes.inspect(doubtful, tmp_path / "run")
    told = capsys.readouterr().out
    for word in (
        "crowd regions",
        "none of these",
        "best anchor",
        "note: 1 classes without a box",
        "train.png",
    ):
        assert word in told
    for split in ("train", "eval"):
        written = json.loads((tmp_path / "run" / "inspect" / f"{split}.json").read_text())
        assert written["photos"] == 6
        assert set(written["coverage"]) == {"all", "small", "medium", "large"}
        assert len(written["findings"]) == 6
        with Image.open(tmp_path / "run" / "inspect" / f"{split}.png") as sheet:
            assert sheet.width > 480
