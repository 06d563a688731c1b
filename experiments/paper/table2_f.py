"""Table 2 (f): Fast R-CNN on the finest level of the pyramid; the proposals are those of Table 1 (c).

    python -m experiments.paper.study --rows=table2_f --data_root=COCO

Published: AP 33.4, AP50 56.3 (small 17.3, medium 37.3, large 45.6); COCO val2017, R-50.
"""

from experiments.paper.recipes import FINEST, fast_rcnn


def get_config():
    return fast_rcnn("table2_f", "table1_c", FINEST)
