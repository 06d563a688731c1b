"""Table 1 (e): RPN on a top-down pyramid without lateral connections.

    python -m experiments.paper.study --rows=table1_e --data_root=COCO

Published: AR@100 34.5, AR@1000 46.1 (small 26.5, medium 57.4, large 64.7); COCO val2017, R-50.
"""

from experiments.paper.recipes import TOP_DOWN, rpn


def get_config():
    return rpn("table1_e", TOP_DOWN)
