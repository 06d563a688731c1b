"""Table 2 (d): Fast R-CNN on a bottom-up pyramid; the proposals are those of Table 1 (c).

    python -m experiments.paper.study --rows=table2_d --data_root=COCO

Published: AP 24.9, AP50 44.9 (small 10.9, medium 24.4, large 38.5); COCO val2017, R-50.
"""

from experiments.paper.recipes import BOTTOM_UP, fast_rcnn


def get_config():
    return fast_rcnn("table2_d", "table1_c", BOTTOM_UP)
