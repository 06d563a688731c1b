import numpy as np
import pytest
from conftest import folder_overrides, make_coco_folder

from fpn_tf.cluster import make_cluster
from fpn_tf.config import override, replace
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.evaluation import evaluator
from fpn_tf.training import loop
from fpn_tf.training.preparation import with_classes


@pytest.mark.slow
def test_a_handful_of_photos_is_learned_by_heart(tiny_config, tmp_path):
    root = make_coco_folder(tmp_path / "data")
    config = override(
        tiny_config, [*folder_overrides(root), "train.steps=1200", "train.log_every=50", "train.batch_size=4"]
    )
    config = replace(
        config,
        **{
            "train.optimizer": "adamw",
            "train.learning_rate": 0.003,
            "train.schedule": "cosine",
            "train.checkpoint_every": 1200,
            "model.neck_channels": 32,
            "model.roi.hidden_units": 128,
            "model.roi.samples": 64,
            "model.roi.foreground_fraction": 0.5,
            "data.flip": False,
            "eval.score_threshold": 0.05,
        },
    )
    dataset = open_dataset(config.data, "train")
    config = with_classes(config, dataset)
    (tmp_path / "run").mkdir()
    model, _ = loop.train(config, dataset, tmp_path / "run", make_cluster())
    metrics, results = evaluator.score(
        dataset, evaluator.make_detector(model, dataset, config, make_cluster())(), config
    )
    assert metrics["AP"] > 0.95
    assert len(results) >= sum(len(r.boxes) for r in dataset.records)
    assert np.isfinite([r["score"] for r in results]).all()
