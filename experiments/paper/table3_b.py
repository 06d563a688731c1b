"""Table 3 (b): Faster R-CNN, RPN and detector both on conv5, two fully connected layers; features not shared.

    python -m experiments.paper.study --rows=table3_b --data_root=COCO

Published: AP 28.0, AP50 51.7 (small 9.6, medium 31.9, large 43.1); COCO val2017, R-50.
"""

from experiments.paper.recipes import C5, fast_rcnn


def get_config():
    return fast_rcnn("table3_b", "table1_b", C5)
