"""Table 2 (a): Fast R-CNN on conv4, conv5 head; the proposals are those of Table 1 (c).

    python -m experiments.paper.study --rows=table2_a --data_root=COCO

Published: AP 31.9, AP50 54.7 (small 15.7, medium 36.5, large 45.5); COCO val2017, R-50.
"""

from experiments.paper.recipes import C4, CONV5_HEAD, fast_rcnn


def get_config():
    return fast_rcnn("table2_a", "table1_c", C4, CONV5_HEAD)
