"""Table 6: segment proposals, one MLP on 5x5 windows.

    python -m experiments.paper.study --rows=table6_5x5 --data_root=COCO

Published: AR 43.4 (small 32.5, medium 49.2, large 53.7), 0.15 s an image; the first 5000 images of
COCO's val2014 (this file: val2017).
"""

from experiments.paper.recipes import segment_proposals


def get_config():
    return segment_proposals("table6_5x5", {"model.segment.windows": (5,)})
