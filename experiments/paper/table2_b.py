"""Table 2 (b): Fast R-CNN on conv5, two fully connected layers; the proposals are those of Table 1 (c).

    python -m experiments.paper.study --rows=table2_b --data_root=COCO

Published: AP 28.8, AP50 52.9 (small 11.9, medium 32.4, large 43.4); COCO val2017, R-50.
"""

from experiments.paper.recipes import C5, fast_rcnn


def get_config():
    return fast_rcnn("table2_b", "table1_c", C5)
