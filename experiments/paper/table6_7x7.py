"""Table 6: segment proposals, one MLP on 7x7 windows.

    python -m experiments.paper.study --rows=table6_7x7 --data_root=COCO

Published: AR 43.5 (small 30.0, medium 49.6, large 57.8), 0.19 s an image; the first 5000 images of
COCO's val2014 (this file: val2017).
"""

from experiments.paper.recipes import segment_proposals


def get_config():
    return segment_proposals("table6_7x7", {"model.segment.windows": (7,)})
