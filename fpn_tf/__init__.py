"""Feature Pyramid Networks for object detection, in Keras 3.

Detectors, `keras.Model`s that are put together from parts:

    FasterRCNN        the detector: backbone, neck, RPN, box head, further heads, preprocessor
    RPN               its first half alone, class-agnostic proposals
    FastRCNN          its second half, on proposals that are given
    SegmentProposals  the paper's segment proposals

Their parts, `keras.Layer`s but for the preprocessor:

    ResNet            a backbone: images -> {"c2": ..., "c5"}
    backbone          makes one of a classifier, such as those of keras.applications
    FeaturePyramid    the paper's neck: {"c2": ...} -> {"p2": ...}; alone in a functional model as well
    ProposalStage     the region proposal network with its losses
    RPNHead           its convolutions
    BoxStage          the second stage with its losses
    BoxHead           its layers
    ROIAlign          maps under boxes, by bilinear sampling
    ROIPool           the same by maxima
    Head              the base of a further head of one's own
    TruthField        what such a head wants to know of every annotation
    Preprocessor      sizes, resizing, pixel format, category ids

Made, trained and used:

    build             a model of a Config
    load              the model of a model_dir, a `.npz` or another library's checkpoint
    batches           one's own photos for `model.fit` and `model.evaluate`
    evaluate          COCO's numbers
    CocoMetrics       the same after every epoch of `fit`, a callback
    Detections        what `model.detect` gives for a photo

Configured, for `main.py`; `help` of each section tells its keys, defaults, units and bounds:

    Config            everything that decides a run: the sections model, data, train, eval,
                      export
    ModelConfig       model.*: the network, and the pixels that it expects
    RPNConfig         model.rpn.*: anchors, sampling, proposals
    ROIConfig         model.roi.*: the box head
    SegmentConfig     model.segment.*: the head of segment proposals
    DataConfig        data.*: photos and boxes, and their size
    TrainConfig       train.*: the optimisation
    EvalConfig        eval.*: detection at test time
    ExportConfig      export.*: the SavedModel
    UserError         what a user can put right, told in one line
    ConfigError       a UserError in the configuration

Names are imported at their first use, so that a mistake in a flag is answered before Keras starts.
"""

import importlib
import typing

from fpn_tf import keras_settings, registration

__version__ = "0.2.0"

_HOMES = {
    "BoxHead": "fpn_tf.models.heads.box",
    "BoxStage": "fpn_tf.models.heads.box",
    "CocoMetrics": "fpn_tf.evaluation.callback",
    "Config": "fpn_tf.config",
    "ConfigError": "fpn_tf.errors",
    "DataConfig": "fpn_tf.config",
    "Detections": "fpn_tf.structures",
    "EvalConfig": "fpn_tf.config",
    "ExportConfig": "fpn_tf.config",
    "FastRCNN": "fpn_tf.models.fast_rcnn",
    "FasterRCNN": "fpn_tf.models.faster_rcnn",
    "FeaturePyramid": "fpn_tf.models.necks.feature_pyramid",
    "Head": "fpn_tf.models.heads.head",
    "ModelConfig": "fpn_tf.config",
    "Preprocessor": "fpn_tf.preprocessing",
    "ProposalStage": "fpn_tf.models.heads.rpn",
    "ROIAlign": "fpn_tf.geometry.bilinear_pooling",
    "ROIConfig": "fpn_tf.config",
    "ROIPool": "fpn_tf.geometry.max_pooling",
    "RPN": "fpn_tf.models.rpn",
    "RPNConfig": "fpn_tf.config",
    "RPNHead": "fpn_tf.models.heads.rpn",
    "ResNet": "fpn_tf.models.backbones.resnet",
    "SegmentConfig": "fpn_tf.config",
    "SegmentProposals": "fpn_tf.models.segment_proposals",
    "TrainConfig": "fpn_tf.config",
    "TruthField": "fpn_tf.structures",
    "UserError": "fpn_tf.errors",
    "backbone": "fpn_tf.models.backbones.applications",
    "batches": "fpn_tf.data.photo_batches",
    "build": "fpn_tf.assemble",
    "evaluate": "fpn_tf.evaluation.api",
    "load": "fpn_tf.pretrained.loading",
}
_WITHOUT_KERAS = ("fpn_tf.config", "fpn_tf.errors", "fpn_tf.structures")
_OLD_NAMES = {"MaskProposals": "SegmentProposals"}  # read until the next release
__all__ = list(_HOMES)

if typing.TYPE_CHECKING:
    from fpn_tf.assemble import build
    from fpn_tf.config import (
        Config,
        DataConfig,
        EvalConfig,
        ExportConfig,
        ModelConfig,
        ROIConfig,
        RPNConfig,
        SegmentConfig,
        TrainConfig,
    )
    from fpn_tf.data.photo_batches import batches
    from fpn_tf.errors import ConfigError, UserError
    from fpn_tf.evaluation.api import evaluate
    from fpn_tf.evaluation.callback import CocoMetrics
    from fpn_tf.geometry.bilinear_pooling import ROIAlign
    from fpn_tf.geometry.max_pooling import ROIPool
    from fpn_tf.models.backbones.applications import backbone
    from fpn_tf.models.backbones.resnet import ResNet
    from fpn_tf.models.fast_rcnn import FastRCNN
    from fpn_tf.models.faster_rcnn import FasterRCNN
    from fpn_tf.models.heads.box import BoxHead, BoxStage
    from fpn_tf.models.heads.head import Head
    from fpn_tf.models.heads.rpn import ProposalStage, RPNHead
    from fpn_tf.models.necks.feature_pyramid import FeaturePyramid
    from fpn_tf.models.rpn import RPN
    from fpn_tf.models.segment_proposals import SegmentProposals
    from fpn_tf.preprocessing import Preprocessor
    from fpn_tf.pretrained.loading import load
    from fpn_tf.structures import Detections, TruthField
else:  # a type checker that saw it would take any name for one of ours

    def __getattr__(name):
        if name in _OLD_NAMES:
            from fpn_tf.config import old_names

            old_names.note(f"fpn_tf.{name} is fpn_tf.{_OLD_NAMES[name]} now")
            name = _OLD_NAMES[name]
        if name not in _HOMES:
            raise AttributeError(f"module 'fpn_tf' has no attribute '{name}'")
        if _HOMES[name] not in _WITHOUT_KERAS:
            keras_settings.check_startable()
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return [*globals(), *_HOMES]


registration.register_once_keras_is_imported()
