"""Table 5, R-101, step 3: an RPN head on the frozen trunk of step 2's detector.

    python -m experiments.paper.study --rows=table5_r101_step3 --data_root=COCO

No figures published. Step 2 is table5_r101.
"""

from experiments.paper.recipes import FROZEN_TRUNK, R101, after, rpn


def get_config():
    return rpn("table5_r101_step3", after("table5_r101"), FROZEN_TRUNK, R101)
