"""What a run that begins with another run's weights takes over from that run's config."""

from fpn_tf.config.edit import differences, replace
from fpn_tf.config.run import Config

TUNABLE = (  # keys of `model` that may change: weights mean the same under any value
    "num_classes",
    "backbone_weights",
    "frozen_stages",
    *(f"rpn.{key}" for key in ("foreground", "background", "samples", "pre_nms", "post_nms", "smooth_l1")),
    *(f"roi.{key}" for key in ("foreground", "samples", "smooth_l1")),
)


def beginning_of(config: Config) -> Config:
    """A run's config as that of a new run: of its data set's classes nothing is left."""
    return replace(
        config, **{"model.num_classes": 0, "data.class_names": (), "data.category_ids": (), "name": ""}
    )


def with_network_of(config: Config, source: Config) -> Config:
    """`config` with what decides the meaning of weights in `source`; of another kind of model unchanged.

    Args:
        config: of the run that begins.
        source: of the run whose weights it begins with.
    """
    if source.model.kind != config.model.kind:
        return config  # they share parts alone: the 4-step training of the paper
    changes = {
        f"model.{key}": value
        for key, (_, value) in differences(config.model, source.model).items()
        if not key.startswith(TUNABLE)
    }
    return replace(config, **changes)
