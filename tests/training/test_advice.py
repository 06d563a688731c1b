"""What is told when a loss is no number: each piece of advice where it fits, and only there."""

import math

import numpy as np
import pytest

from fpn_tf.config import Config, override
from fpn_tf.data.records import Record
from fpn_tf.training.advice import advice_for, diagnosis

NAMES = ("rpn_objectness_loss", "rpn_box_loss", "head_class_loss", "head_box_loss", "total_loss")

SOUND = """
model.num_classes=2 model.norm=group_norm train.optimizer=adamw train.clip_norm=10 train.warmup_steps=500
train.batch_size=2 train.learning_rate=0.002
""".split()
LOWER = "lower train.learning_rate=0.002"


def record(image_id=5, side=20.0):
    boxes = np.array([[10, 10, 40, 10 + side]], np.float32)
    return Record(image_id, "photo", (64, 96), boxes, np.array([1], np.int32))


@pytest.mark.parametrize(
    ("changes", "side", "step", "told"),
    [
        ([], 20, 5000, LOWER),
        ([], 0.5, 5000, "image 5 has a box with a side of 0.5 pixels: remove it"),
        ([], 20, 1000, "lengthen train.warmup_steps=500"),
        (["train.warmup_steps=0"], 20, 100, "lengthen train.warmup_steps=0"),
        (["train.clip_norm=0"], 20, 5000, "clip the gradient: train.clip_norm=10"),
        (
            ["model.norm=frozen_bn", "model.backbone_weights="],
            20,
            5000,
            "name model.backbone_weights: a random backbone with frozen batch norm diverges",
        ),
        (["train.optimizer=sgd"], 20, 5000, LOWER),
        (
            ["train.optimizer=sgd", "train.learning_rate=0.01"],
            20,
            5000,
            "train.learning_rate=0.01 is much for 2 images a step: 0.0025 is usual",
        ),
    ],
)
def test_each_where_it_fits(changes, side, step, told):
    config = override(Config(), [*SOUND, *changes])
    assert advice_for(config, [record(side=side)], step) == [told]


def test_a_photo_without_boxes_is_no_reason():
    empty = record()._replace(boxes=np.zeros((0, 4), np.float32))
    assert advice_for(override(Config(), SOUND), [empty], 5000) == [LOWER]


def test_the_line_names_the_step_the_losses_and_the_images_of_its_batch():
    config = override(Config(), SOUND)
    records = [record(image_id=i) for i in (31, 32)]
    line = diagnosis(config, records, 5000, dict(zip(NAMES, (1.5, math.inf, 0.25, 0.0, math.nan))))
    assert "\n" not in line
    assert "at step 5000 (rpn_objectness_loss 1.5, rpn_box_loss inf, head_class_loss 0.25" in line
    assert "image ids 31, 32" in line or "image ids 32, 31" in line
    assert line.endswith(f"; {LOWER}")
