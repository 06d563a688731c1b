"""The RPN of Table 4: ResNet-101.

    python -m experiments.paper.study --rows=table4_rpn --data_root=COCO

No figures published.
"""

from experiments.paper.recipes import R101, rpn


def get_config():
    return rpn("table4_rpn", R101)
