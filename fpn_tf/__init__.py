"""Feature Pyramid Networks for object detection, in Keras 3."""

from fpn_tf.config import Config
from fpn_tf.errors import ConfigError, UserError
from fpn_tf.models.box_head import BoxHead
from fpn_tf.models.faster_rcnn import FasterRCNN
from fpn_tf.models.fpn import FeaturePyramid
from fpn_tf.models.resnet import ResNet
from fpn_tf.models.roi_pooler import ROIAlign
from fpn_tf.models.rpn_head import RPNHead
from fpn_tf.pretrained.model_dir import load
from fpn_tf.structures import Detections

__version__ = "0.1.0"
__all__ = [
    "BoxHead",
    "Config",
    "ConfigError",
    "Detections",
    "FasterRCNN",
    "FeaturePyramid",
    "ROIAlign",
    "RPNHead",
    "ResNet",
    "UserError",
    "load",
]
