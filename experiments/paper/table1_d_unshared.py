"""Table 1 (d) with one head per level.

    python -m experiments.paper.study --rows=table1_d_unshared --data_root=COCO

Published: "similarly degraded performance" to row (d), no figures.
"""

from experiments.paper.recipes import BOTTOM_UP, rpn


def get_config():
    return rpn("table1_d_unshared", BOTTOM_UP, {"model.rpn.shared_head": False})
