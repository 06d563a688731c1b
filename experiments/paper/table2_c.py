"""Table 2 (c): Fast R-CNN on the feature pyramid; the proposals are those of Table 1 (c).

    python -m experiments.paper.study --rows=table2_c --data_root=COCO

Published: AP 33.9, AP50 56.9 (small 17.8, medium 37.7, large 45.8); COCO val2017, R-50.
"""

from experiments.paper.recipes import fast_rcnn


def get_config():
    return fast_rcnn("table2_c", "table1_c")
