"""Table 5, R-101, features shared: step 4, a box head on the same frozen trunk.

    python -m experiments.paper.study --rows=table5_r101_shared --data_root=COCO

Published: AP 35.2, AP50 58.2; COCO val2017. `--mode=join` makes one Faster R-CNN of steps 3 and 4.
"""

from experiments.paper.recipes import FROZEN_TRUNK, R101, after, fast_rcnn


def get_config():
    return fast_rcnn(
        "table5_r101_shared", "table5_r101_step3", after("table5_r101_step3"), FROZEN_TRUNK, R101
    )
