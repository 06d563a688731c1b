"""Table 1 (d): RPN on a bottom-up pyramid: lateral connections, no top-down path.

    python -m experiments.paper.study --rows=table1_d --data_root=COCO

Published: AR@100 37.4, AR@1000 49.5 (small 30.5, medium 59.9, large 68.0); COCO val2017, R-50.
"""

from experiments.paper.recipes import BOTTOM_UP, rpn


def get_config():
    return rpn("table1_d", BOTTOM_UP)
