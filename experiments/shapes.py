"""A small detector, from scratch, on the generated set: the first run.

    python main.py

Two CPU cores, minutes.
"""

from fpn_tf.config import Config, DataConfig, EvalConfig, ModelConfig, ROIConfig, RPNConfig, TrainConfig


def get_config():
    return Config(
        model=ModelConfig(
            backbone="resnet_tiny",
            norm="sync_bn",
            frozen_stages=0,
            neck_channels=48,
            rpn=RPNConfig(
                anchor_sizes=(10, 20, 40, 80, 120),
                anchor_ratios=(1.0,),
                samples=128,
                pre_nms_train=300,
                pre_nms_test=200,
                post_nms_train=200,
                post_nms_test=100,
            ),
            roi=ROIConfig(canonical_size=64, hidden_units=256, samples=64, foreground_fraction=0.5),
        ),
        data=DataConfig(tfds_name="shapes", short_side=128, max_side=160),
        train=TrainConfig(
            steps=1800,
            batch_size=4,
            optimizer="adamw",
            learning_rate=0.002,
            weight_decay=0.01,
            clip_norm=10.0,
            schedule="cosine",
            warmup_steps=50,
            checkpoint_every=500,
        ),
        eval=EvalConfig(batch_size=8),
    )
