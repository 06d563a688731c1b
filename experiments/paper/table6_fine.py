"""Table 6: segment proposals, both MLPs, segments of 28x28.

    python -m experiments.paper.study --rows=table6_fine --data_root=COCO

Published: AR 46.7 (small 31.7, medium 53.1, large 63.2), 0.25 s an image; the first 5000 images of
COCO's val2014 (this file: val2017).
"""

from experiments.paper.recipes import FINE_SEGMENTS, segment_proposals


def get_config():
    return segment_proposals("table6_fine", FINE_SEGMENTS)
