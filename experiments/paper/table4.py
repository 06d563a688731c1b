"""Table 4: the submitted Faster R-CNN, ResNet-101, twice the steps, features not shared.

    python -m experiments.paper.study --rows=table4 --data_root=COCO

Published: AP 36.2, AP50 59.1 on test-dev (small 18.2, medium 39.0, large 48.2), AP 35.6 on val2017.
"""

from experiments.paper.recipes import R101, fast_rcnn


def get_config():
    return fast_rcnn("table4", "table4_rpn", R101, {"train.steps": 160000})
