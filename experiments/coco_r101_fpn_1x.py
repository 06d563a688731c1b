"""As coco_r50_fpn_1x.py, with ResNet-101.

    python main.py --experiment=coco_r101_fpn_1x --model_dir=runs/r101 \
        --params_override=data.root=COCO --params_override=model.backbone_weights=imagenet

Published: AP 35.0 (paper), 39.4 (Detectron); not measured here. Hardware: 8 GPUs, 2 images each.
"""

from experiments import coco_r50_fpn_1x
from fpn_tf.config import replace


def get_config():
    return replace(coco_r50_fpn_1x.get_config(), **{"model.backbone": "resnet101"})
