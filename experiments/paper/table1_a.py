"""Table 1 (a): RPN on conv4 alone, with five anchor scales on it (47k anchors).

    python -m experiments.paper.study --rows=table1_a --data_root=COCO

Published: AR@100 36.1, AR@1000 48.3 (small 32.0, medium 58.7, large 62.2); COCO val2017, R-50.
"""

from experiments.paper.recipes import C4, rpn


def get_config():
    return rpn("table1_a", C4)
