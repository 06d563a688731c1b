"""R-50 FPN from ImageNet weights on BCCD: blood cells in 205 + 87 photos, three classes.

    python main.py --experiment=bccd_r50_fpn --params_override=data.root=BCCD \
        --params_override=model.backbone_weights=R50.npz

BCCD holds `annotations/train.json`, `annotations/val.json` (COCO format) and `images/`; R50.npz a
ResNet-50 in Caffe's convention (BGR, stride in the 1x1) under torchvision's names.

Result of the 200 steps on two CPU cores: AP .543, AP50 .895, AP75 .595; RBC .547, WBC .714,
platelets .369.
"""

from fpn_tf.config import Config, DataConfig, EvalConfig, ModelConfig, ROIConfig, RPNConfig, TrainConfig


def get_config():
    return Config(
        model=ModelConfig(
            backbone="resnet50",
            stride_in_1x1=True,
            pixel_order="bgr",
            pixel_mean=(103.939, 116.779, 123.68),
            pixel_std=(1.0, 1.0, 1.0),
            # Half of COCO's: the photos are shown at less than half of its size.
            rpn=RPNConfig(anchor_sizes=(16, 32, 64, 128, 256)),
            roi=ROIConfig(canonical_size=112, samples=128),
        ),
        data=DataConfig(
            train_annotations="annotations/train.json",
            train_images="images",
            eval_annotations="annotations/val.json",
            eval_images="images",
            short_side=320,
            max_side=533,
        ),
        train=TrainConfig(
            steps=200,
            batch_size=4,
            learning_rate=0.01,
            warmup_steps=50,
            decay_at=(0.7, 0.9),
            checkpoint_every=100,
            log_every=10,
        ),
        eval=EvalConfig(batch_size=4),
    )
