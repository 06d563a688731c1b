"""Table 1 (c): RPN on the feature pyramid (200k anchors).

    python -m experiments.paper.study --rows=table1_c --data_root=COCO

Published: AR@100 44.0, AR@1000 56.3 (small 44.9, medium 63.4, large 66.2); COCO val2017, R-50.
"""

from experiments.paper.recipes import rpn


def get_config():
    return rpn("table1_c")
