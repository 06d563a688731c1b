"""The configuration: frozen dataclasses, one per stage; overrides by dotted key; JSON.

Keras and TensorFlow are not imported here: a mistake is answered before they start.
"""

from fpn_tf.config.edit import differences, from_dict, load, override, replace, save, to_dict
from fpn_tf.config.network import BACKBONES, CLASSLESS, PYRAMIDS, ModelConfig, ROIConfig, RPNConfig, check
from fpn_tf.config.run import PARTS, Config, DataConfig, EvalConfig, TrainConfig
from fpn_tf.errors import ConfigError

__all__ = [
    "BACKBONES",
    "CLASSLESS",
    "PARTS",
    "PYRAMIDS",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "ModelConfig",
    "ROIConfig",
    "RPNConfig",
    "TrainConfig",
    "check",
    "differences",
    "from_dict",
    "load",
    "override",
    "replace",
    "save",
    "to_dict",
]
