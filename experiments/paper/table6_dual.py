"""Table 6: segment proposals, MLPs on 5x5 and 7x7 windows.

    python -m experiments.paper.study --rows=table6_dual --data_root=COCO

Published: AR 45.7 (small 31.9, medium 51.5, large 60.8), 0.24 s an image; the first 5000 images of
COCO's val2014 (this file: val2017).
"""

from experiments.paper.recipes import segment_proposals


def get_config():
    return segment_proposals("table6_dual")
