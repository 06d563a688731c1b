"""Table 5, R-50, step 3: an RPN head on the frozen trunk of step 2's detector.

    python -m experiments.paper.study --rows=table5_r50_step3 --data_root=COCO

No figures published. Step 2 is table2_c.
"""

from experiments.paper.recipes import FROZEN_TRUNK, after, rpn


def get_config():
    return rpn("table5_r50_step3", after("table2_c"), FROZEN_TRUNK)
