"""Table 3 (c): Faster R-CNN, RPN and detector both on the feature pyramid; features not shared.

The same run as Table 2 (c).

    python -m experiments.paper.study --rows=table3_c --data_root=COCO

Published: AP 33.9, AP50 56.9 (small 17.8, medium 37.7, large 45.8); COCO val2017, R-50.
"""

from experiments.paper.recipes import fast_rcnn


def get_config():
    return fast_rcnn("table3_c", "table1_c")
