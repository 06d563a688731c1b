"""Table 5, R-101, features not shared: steps 1 and 2 of the 4-step training.

    python -m experiments.paper.study --rows=table5_r101 --data_root=COCO

Published: AP 35.0, AP50 58.0; COCO val2017. Step 1 is table4_rpn.
"""

from experiments.paper.recipes import R101, fast_rcnn


def get_config():
    return fast_rcnn("table5_r101", "table4_rpn", R101)
