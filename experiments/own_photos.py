"""R-50 FPN from ImageNet weights on some hundred photos of one's own: the template to copy.

    python main.py --experiment=own_photos --model_dir=runs/mine --params_override=data.root=/data/mine

/data/mine holds `photos/`, `train.json` and `val.json` (COCO format: images, annotations, categories);
as many classes are learnt as the annotations have. The ImageNet weights are downloaded by Keras.

The settings are those of bccd_r50_fpn, which suit a short run: few steps of a high learning rate after a
short warm-up, a gradient that is clipped, half of few RoIs foreground; photos are shown larger, and there
are more steps. On one small set, 200 steps of coco_r50_fpn_1x (its warm-up of 1000 steps never ends) gave
AP .20, those of bccd_r50_fpn .41 in half the time; this file itself was not measured.

To change: `train.steps` (the schedule follows it; keep train.warmup_steps at a third of it at most),
`data.short_side` (larger for small objects), `train.batch_size` by the memory there is, with
`train.learning_rate` in proportion.
"""

from fpn_tf.config import Config, DataConfig, EvalConfig, ModelConfig, ROIConfig, TrainConfig


def get_config():
    return Config(
        model=ModelConfig(
            backbone="resnet50",
            backbone_weights="imagenet",
            # The weights of keras.applications are Caffe's: these pixels, and this stride.
            stride_in_1x1=True,
            pixel_order="bgr",
            pixel_mean=(103.939, 116.779, 123.68),
            pixel_std=(1.0, 1.0, 1.0),
            # Half of the RoIs foreground: in a short run the rare classes see enough boxes so.
            roi=ROIConfig(samples=128, foreground_fraction=0.5),
        ),
        data=DataConfig(
            train_annotations="train.json",
            train_images="photos",
            eval_annotations="val.json",
            eval_images="photos",
            short_side=480,
            max_side=800,
        ),
        train=TrainConfig(
            steps=600,
            batch_size=4,
            learning_rate=0.02,
            clip_norm=10.0,
            schedule="cosine",
            warmup_steps=60,
            checkpoint_every=200,
            eval_every=200,
            log_every=10,
        ),
        eval=EvalConfig(batch_size=4),
    )
