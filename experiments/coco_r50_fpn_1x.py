"""The paper's Faster R-CNN, R-50 FPN on COCO, trained jointly for 90,000 steps of 16 images ("1x").

    python main.py --experiment=coco_r50_fpn_1x --model_dir=runs/r50 \
        --params_override=data.root=COCO --params_override=model.backbone_weights=R50.npz

COCO holds `annotations/instances_{train,val}2017.json`, `train2017/` and `val2017/`. The backbone is
Caffe's ResNet-50 (see bccd_r50_fpn.py), or `imagenet` for that of keras.applications, which is the
same. Published for this recipe: AP 33.9 (paper, not joint), 36.7 (Detectron), 37.9 (Detectron2, with
scale jitter); not measured here. Hardware: 8 GPUs, 2 images each; on fewer, lower
train.batch_size: the learning rate follows it.
"""

from fpn_tf.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config():
    return Config(
        model=ModelConfig(
            backbone="resnet50",
            num_classes=80,
            stride_in_1x1=True,
            pixel_order="bgr",
            pixel_mean=(103.939, 116.779, 123.68),
            pixel_std=(1.0, 1.0, 1.0),
        ),
        data=DataConfig(
            train_annotations="annotations/instances_train2017.json",
            train_images="train2017",
            eval_annotations="annotations/instances_val2017.json",
            eval_images="val2017",
            short_side=800,
            max_side=1333,
        ),
        train=TrainConfig(
            steps=90000, batch_size=16, decay_at=(60000 / 90000, 80000 / 90000), checkpoint_every=2500
        ),
    )
