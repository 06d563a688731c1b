"""Config -> parts -> model. `model.*` is read here and nowhere else; the parts know no Config."""

import dataclasses

import keras

from fpn_tf.catalogue import APPLICATIONS, BACKBONES
from fpn_tf.config import PIXELS, Config, check
from fpn_tf.geometry.bilinear_pooling import ROIAlign
from fpn_tf.geometry.max_pooling import ROIPool
from fpn_tf.models.backbones import applications
from fpn_tf.models.backbones.resnet import ResNet
from fpn_tf.models.detector import Detector
from fpn_tf.models.fast_rcnn import FastRCNN
from fpn_tf.models.faster_rcnn import FasterRCNN
from fpn_tf.models.heads.box import BoxHead, BoxStage
from fpn_tf.models.heads.conv5 import Conv5Head
from fpn_tf.models.heads.rpn import ProposalStage, RPNHead
from fpn_tf.models.heads.segment import SegmentStage
from fpn_tf.models.heads.unshared_rpn import UnsharedRPNHead
from fpn_tf.models.necks.baselines import make_neck
from fpn_tf.models.rpn import RPN
from fpn_tf.models.segment_proposals import SegmentProposals
from fpn_tf.preprocessing import Preprocessor


def build(config: Config) -> Detector:
    """The model that a config describes, with random weights.

    Args:
        config: `fpn_tf.Config`.

    Returns:
        FasterRCNN, FastRCNN, RPN or SegmentProposals, by `model.kind`; its attribute `config` is
        the config.

    Raises:
        ConfigError: a bad value, with its key.

    Example:

    >>> config = fpn_tf.Config(model=fpn_tf.ModelConfig(backbone="resnet_tiny", num_classes=3))
    >>> fpn_tf.build(config).num_classes
    3
    """
    config.validate()
    kinds = {kind.kind: kind for kind in (FasterRCNN, FastRCNN, RPN, SegmentProposals)}
    return settle(kinds[config.model.kind](**parts_of(config)), config)


def settle(model, config):
    """The model, which was made of the config's parts, with the config, its frozen parts frozen."""
    model.config, model.is_assembled = config, True
    freeze(model, config.train.freeze)
    return model


def parts_of(config):
    """The parts that a config describes, as arguments of its kind of model."""
    dtype = keras.DTypePolicy(config.train.precision)
    chosen = {
        "backbone": make_backbone(config, dtype),
        "neck": make_neck(
            config.model.neck,
            config.model.neck_channels,
            config.model.neck_norm or None,
            name="neck",
            dtype=dtype,
        ),
        "preprocessor": make_preprocessor(config),
        "dtype": dtype,
    }
    kind = config.model.kind
    if kind in ("faster_rcnn", "rpn"):
        chosen["rpn"] = make_rpn(config, dtype)
    if kind in ("faster_rcnn", "fast_rcnn"):
        chosen["box_head"] = make_box_head(config, dtype)
    if kind == "segment_proposals":
        settings = dataclasses.asdict(config.model.segment)
        chosen["segment_head"] = SegmentStage(**settings, name="segment_head", dtype=dtype)
    return chosen


def resnet_arguments(config):
    """The arguments of the ResNet that a config describes."""
    model = config.model
    plain = {"groups": 1, "width_per_group": 64}
    return (
        plain
        | BACKBONES[model.backbone]
        | {
            "stride_in_1x1": model.stride_in_1x1,
            "norm": model.norm,
            "epsilon": model.norm_epsilon,
            "frozen_stages": model.frozen_stages,
            "remat": config.train.remat,
            "last_level": 4 if model.neck == "c4" else 5,
        }
    )


def make_backbone(config, dtype=None):
    """The backbone: a ResNet, or a model of keras.applications."""
    model = config.model
    if not model.backbone.startswith(APPLICATIONS):
        return ResNet(**resnet_arguments(config), name="backbone", dtype=dtype)
    check(model.norm != "group_norm", "model.norm=group_norm: keras.applications has frozen_bn and sync_bn")
    check(not config.train.remat, "train.remat=true: expected a ResNet as model.backbone")
    try:
        application = applications.application(model.backbone, dtype=dtype)
    except ValueError as error:
        check(False, f"model.backbone={error}")
    chosen = applications.backbone(application)
    if model.norm == "frozen_bn":
        applications.freeze_norms(chosen)
    else:
        applications.synchronize_norms(chosen)
    applications.freeze_stages(chosen, model.frozen_stages)
    return chosen


def make_rpn(config, dtype=None):
    """The region proposal network as a stage."""
    settings = dataclasses.asdict(config.model.rpn)
    kind = RPNHead if settings.pop("shared_head") else UnsharedRPNHead
    conv_layers = settings.pop("conv_layers")
    head = kind(config.model.anchors_per_cell, conv_layers, name="head", dtype=dtype)
    return ProposalStage(head, **settings, name="rpn", dtype=dtype)


def make_box_head(config, dtype=None):
    """The box head as a stage, with its settings at test time."""
    roi, classes = config.model.roi, config.model.num_classes
    check(classes >= 1, f"model.num_classes={classes}: expected the number of classes")
    placing = {"canonical_size": roi.canonical_size, "canonical_level": roi.canonical_level}
    placing |= {"name": "pooler", "autocast": False}
    if roi.pooling == "max":
        pooler = ROIPool(roi.pool_size, **placing)
    else:
        align = {"sampling_ratio": roi.sampling_ratio, "aligned": roi.aligned, "inclusive": roi.inclusive}
        pooler = ROIAlign(roi.pool_size, **align, **placing)
    if roi.head == "conv5":
        learns = config.model.frozen_stages < 5
        head = Conv5Head(classes, resnet_arguments(config), learns, name="head", dtype=dtype)
    else:
        layers = roi.hidden_units, roi.fc_layers, roi.conv_layers, roi.norm
        head = BoxHead(classes, *layers, name="head", dtype=dtype)
    return BoxStage(
        head,
        pooler,
        foreground_iou=roi.foreground_iou,
        samples=roi.samples,
        foreground_fraction=roi.foreground_fraction,
        box_weights=roi.box_weights,
        smooth_l1_beta=roi.smooth_l1_beta,
        score_threshold=config.eval.score_threshold,
        nms_threshold=config.eval.nms_threshold,
        max_detections=config.eval.max_detections,
        min_size=roi.min_size,
        name="box_head",
        dtype=dtype,
    )


def make_preprocessor(config):
    """How photos are shown to the model, and its classes told."""
    model, data = config.model, config.data
    return Preprocessor(
        short_side=data.short_side,
        max_side=data.max_side,
        resize=data.resize,
        pixel_order=model.pixel_order,
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
        category_ids=data.category_ids,
        class_names=data.class_names,
    )


def freeze(model, names):
    """Keeps the parts of these names, those that the model has, as they are."""
    for name in set(names) & set(model.part_names):
        getattr(model, name).trainable = False


def adopt(model, config):
    """A model with parts of somebody else's, under the settings of a run's config.

    The config's sizes, resizing, classes, thresholds and frozen parts count; its other keys of `model`
    are not read.

    Raises:
        ConfigError: the model is of another kind or number of classes than the config says.
    """
    check(
        model.kind == config.model.kind,
        f"model.kind={config.model.kind}: the model of get_model is a {model.kind}",
    )
    classes = config.model.num_classes
    if hasattr(model, "box_head"):  # the other kinds know one class alone
        check(
            model.num_classes == classes, f"model.num_classes={classes}: get_model made {model.num_classes}"
        )
    settings = dataclasses.asdict(make_preprocessor(config))
    settings |= {name: getattr(model.preprocessor, name) for name in PIXELS}
    model.preprocessor = Preprocessor(**settings)
    if hasattr(model, "box_head"):
        for name in ("score_threshold", "nms_threshold", "max_detections"):
            setattr(model.box_head, name, getattr(config.eval, name))
    model.config = config
    freeze(model, config.train.freeze)
    return model
