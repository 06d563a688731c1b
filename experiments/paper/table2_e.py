"""Table 2 (e): Fast R-CNN on a top-down pyramid without laterals; the proposals are those of Table 1 (c).

    python -m experiments.paper.study --rows=table2_e --data_root=COCO

Published: AP 31.3, AP50 54.0 (small 13.3, medium 35.2, large 45.3); COCO val2017, R-50.
"""

from experiments.paper.recipes import TOP_DOWN, fast_rcnn


def get_config():
    return fast_rcnn("table2_e", "table1_c", TOP_DOWN)
