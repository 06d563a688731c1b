"""Table 5, R-50, features not shared: steps 1 and 2 of the 4-step training.

    python -m experiments.paper.study --rows=table5_r50 --data_root=COCO

Published: AP 33.9, AP50 56.9; COCO val2017. Step 1 is table1_c; the same run as Table 2 (c).
"""

from experiments.paper.recipes import fast_rcnn


def get_config():
    return fast_rcnn("table5_r50", "table1_c")
