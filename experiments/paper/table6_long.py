"""Table 6: segment proposals, both MLPs, segments of 28x28, twice the steps.

    python -m experiments.paper.study --rows=table6_long --data_root=COCO

Published: AR 48.1 (small 32.6, medium 54.2, large 65.6), 0.25 s an image; the first 5000 images of
COCO's val2014 (this file: val2017).
"""

from experiments.paper.recipes import FINE_SEGMENTS, segment_proposals


def get_config():
    return segment_proposals("table6_long", FINE_SEGMENTS, {"train.steps": 160000})
