"""Table 3 (a): Faster R-CNN, RPN and detector both on conv4, conv5 head; features not shared.

    python -m experiments.paper.study --rows=table3_a --data_root=COCO

Published: AP 31.6, AP50 53.1 (small 13.2, medium 35.6, large 47.1); COCO val2017, R-50.
"""

from experiments.paper.recipes import C4, CONV5_HEAD, fast_rcnn


def get_config():
    return fast_rcnn("table3_a", "table1_a", C4, CONV5_HEAD)
