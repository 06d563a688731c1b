"""R-50 FPN from ImageNet weights on BCCD: blood cells in 205 + 87 photos, three classes.

    python main.py --experiment=bccd_r50_fpn --params_override=data.root=BCCD \
        --params_override=model.backbone_weights=R50.npz

BCCD holds `annotations/train.json`, `annotations/val.json` (COCO format) and `images/`; R50.npz a
ResNet-50 in Caffe's convention (BGR, stride in the 1x1) under torchvision's names.

Result of the 200 steps on two CPU cores, 5 s each: AP .563, AP50 .894, AP75 .617 (small .310, medium
.448, large .662); RBC .558, WBC .730, platelets .402. One run; one of an earlier version, whose RoIs were
drawn by other random numbers, had AP .578, AP50 .894.
"""

from fpn_tf.config import Config, DataConfig, EvalConfig, ModelConfig, ROIConfig, TrainConfig


def get_config():
    return Config(
        model=ModelConfig(
            backbone="resnet50",
            stride_in_1x1=True,
            pixel_order="bgr",
            pixel_mean=(103.939, 116.779, 123.68),
            pixel_std=(1.0, 1.0, 1.0),
            # Half of the RoIs foreground: in a short run the rare classes see enough boxes so.
            roi=ROIConfig(samples=128, foreground_fraction=0.5),
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
            learning_rate=0.02,
            clip_norm=10.0,
            schedule="cosine",
            warmup_steps=30,
            checkpoint_every=100,
            log_every=10,
        ),
        eval=EvalConfig(batch_size=4),
    )
