"""Feature Pyramid Networks for object detection, in Keras 3.

Names are imported at their first use, so that a mistake in a flag is answered before Keras starts.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "BoxHead": "fpn_tf.models.box_head",
    "Config": "fpn_tf.config",
    "ConfigError": "fpn_tf.errors",
    "Detections": "fpn_tf.structures",
    "FastRCNN": "fpn_tf.models.fast_rcnn",
    "FasterRCNN": "fpn_tf.models.faster_rcnn",
    "FeaturePyramid": "fpn_tf.models.fpn",
    "MaskProposals": "fpn_tf.models.mask_proposals",
    "ROIAlign": "fpn_tf.models.roi_pooler",
    "ROIPool": "fpn_tf.models.roi_pooler",
    "RPNHead": "fpn_tf.models.rpn_head",
    "RPN": "fpn_tf.models.rpn",
    "ResNet": "fpn_tf.models.resnet",
    "UserError": "fpn_tf.errors",
    "load": "fpn_tf.pretrained.load",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'fpn_tf' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return [*globals(), *_HOMES]
