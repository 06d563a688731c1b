"""The configuration: frozen dataclasses, one per stage; overrides by dotted key; JSON.

This package imports neither Keras nor TensorFlow: a mistake is answered before they start.
"""

from fpn_tf.config.beginning import TUNABLE, beginning_of, with_network_of
from fpn_tf.config.edit import (
    differences,
    from_dict,
    load,
    override,
    replace,
    save,
    to_dict,
    value_given,
)
from fpn_tf.config.network import PIXELS, ModelConfig, ROIConfig, RPNConfig, SegmentConfig, check
from fpn_tf.config.run import PARTS, Config, DataConfig, TrainConfig
from fpn_tf.config.use import SCORERS, EvalConfig, ExportConfig
from fpn_tf.errors import ConfigError

__all__ = [
    "PARTS",
    "PIXELS",
    "SCORERS",
    "TUNABLE",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "ExportConfig",
    "ModelConfig",
    "ROIConfig",
    "RPNConfig",
    "SegmentConfig",
    "TrainConfig",
    "beginning_of",
    "check",
    "differences",
    "from_dict",
    "load",
    "override",
    "replace",
    "save",
    "to_dict",
    "value_given",
    "with_network_of",
]
