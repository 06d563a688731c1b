"""Table 1 (f): RPN on the finest level of the pyramid, with all anchors on it (750k).

    python -m experiments.paper.study --rows=table1_f --data_root=COCO

Published: AR@100 38.4, AR@1000 51.3 (small 35.1, medium 59.7, large 67.6); COCO val2017, R-50.
"""

from experiments.paper.recipes import FINEST, rpn


def get_config():
    return rpn("table1_f", FINEST)
