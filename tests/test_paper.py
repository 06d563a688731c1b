"""The paper's experiments: what their configs say, and the 4-step training end to end."""

import json

import numpy as np
import pytest
from commands import SMALL
from conftest import folder_overrides

from experiments.paper import costs, recipes
from fpn_tf import load
from fpn_tf.data import proposals_file


@pytest.mark.parametrize(
    ("row", "published"), [("table1_a", 47), ("table1_b", 12), ("table1_c", 200), ("table1_f", 750)]
)
def test_anchor_counts_are_the_papers(row, published):
    count = costs.anchor_count(recipes.config_of(row), costs.PHOTO)
    assert count // 1000 in (published, published - 1)  # 199,974 are its "200k"


def test_anchor_count_equals_the_anchors_of_a_model(tiny_config):
    from fpn_tf import build

    x = {"images": np.zeros((1, 64, 96, 3), np.uint8), "image_sizes": np.array([[64, 96]], np.int32)}
    outputs = build(tiny_config).propose(x)
    assert sum(len(a) for a in outputs.rpn.anchors.values()) == costs.anchor_count(tiny_config, (64, 96))


def test_costs_by_hand(tiny_config):
    from fpn_tf.config import replace

    settings = replace(tiny_config, **{"model.kind": "rpn"})
    everything, learned, work = costs.costs(settings)
    frozen = costs.costs(replace(settings, **{"train.freeze": ("backbone",)}))
    assert everything == learned == frozen[0] > frozen[1]
    wider = costs.costs(replace(settings, **{"model.rpn.conv_layers": 2}))
    cells = sum(-(-800 // 2**k) * (1024 // 2**k) for k in (2, 3, 4, 5, 6))
    assert wider[2] - work == pytest.approx(cells * 9 * 16 * 16 / 1e9)
    assert wider[0] - everything == pytest.approx((9 * 16 * 16 + 16) / 1e6)


def test_rows_say_what_they_need():
    assert recipes.needs("table1_c") == []
    assert recipes.needs("table2_d") == [("table1_c", ("train", "eval"))]
    assert recipes.needs("table3_a") == [("table1_a", ("train", "eval"))]
    assert recipes.needs("table5_r50_step3") == [("table2_c", ())]
    assert recipes.needs("table5_r50_shared") == [
        ("table5_r50_step3", ("train", "eval")),
        ("table5_r50_step3", ()),
    ]


@pytest.mark.slow
def test_four_steps_make_one_detector(coco_folder, tmp_path, main_here):
    small = [*SMALL, *folder_overrides(coco_folder), "model.backbone_weights="]

    def call(*arguments, overrides=()):
        status, out, err = main_here(*arguments, overrides=overrides)
        assert status == 0, out + err
        return out

    def train(row, *more):
        call(
            "--mode=train_and_eval",
            f"--experiment=paper/{row}",
            f"--model_dir={tmp_path / row}",
            overrides=[*small, *more],
        )

    def propose(row):
        for split in ("train", "eval"):
            call("--mode=propose", f"--model_dir={tmp_path / row}", f"--split={split}")
        at = tmp_path / row / "proposals"
        return [f"data.{split}_proposals={at / split}.npz" for split in ("train", "eval")]

    train("table1_c")
    train("table2_c", *propose("table1_c"))
    assert not (tmp_path / "table2_c" / "export").exists()
    assert (tmp_path / "table2_c" / "pictures").is_dir()
    train("table5_r50_step3", f"train.initial_model_dir={tmp_path / 'table2_c'}")
    shared = propose("table5_r50_step3")
    train("table5_r50_shared", *shared, f"train.initial_model_dir={tmp_path / 'table5_r50_step3'}")
    detector, rpn = load(tmp_path / "table2_c"), load(tmp_path / "table5_r50_step3")
    fast = load(tmp_path / "table5_r50_shared")
    for part in ("backbone", "fpn"):
        for a, b, c in zip(*(getattr(m, part).get_weights() for m in (detector, rpn, fast)), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)
    parts = [f"--rpn_dir={tmp_path}/table5_r50_step3", f"--fast_rcnn_dir={tmp_path}/table5_r50_shared"]
    call("--mode=join", *parts, f"--model_dir={tmp_path}/joined")
    call("--mode=eval", f"--model_dir={tmp_path}/joined")
    files = [tmp_path / run / "eval" / "metrics.json" for run in ("joined", "table5_r50_shared")]
    one, two = (json.loads(path.read_text()) for path in files)
    assert one["AP"] == pytest.approx(two["AP"], abs=1e-3)
    found = proposals_file.read(tmp_path / "table5_r50_step3" / "proposals" / "eval.npz")
    assert len(found) == 6
    for boxes, scores in found.values():
        assert 0 < len(scores) <= 32
        assert np.all(np.diff(scores) <= 0)
        assert np.all(boxes[:, 2:] > boxes[:, :2])
