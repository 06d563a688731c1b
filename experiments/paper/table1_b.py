"""Table 1 (b): RPN on conv5 alone, with five anchor scales on it (12k anchors).

    python -m experiments.paper.study --rows=table1_b --data_root=COCO

Published: AR@100 36.3, AR@1000 44.9 (small 25.3, medium 55.5, large 64.2); COCO val2017, R-50.
"""

from experiments.paper.recipes import C5, rpn


def get_config():
    return rpn("table1_b", C5)
