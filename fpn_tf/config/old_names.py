"""The names that the version before gave to parts and keys: the one table of them, read for one release."""

import functools

from absl import logging

KEYS = {  # key of a config -> its name now
    "model.pyramid": "model.neck",
    "model.fpn_channels": "model.neck_channels",
    "model.fpn_norm": "model.neck_norm",
    "model.mask.mask_size": "model.segment.segment_size",
    **{
        f"model.mask.{key}": f"model.segment.{key}"
        for key in ("windows", "canonical_size", "padding", "hidden_units", "samples")
    },
    **{
        f"model.mask.{key}": f"model.segment.{key}"
        for key in ("foreground_fraction", "loss_weight", "max_proposals")
    },
    "data.masks": "data.segments",
    "train.start_from": "train.initial_model_dir",
}
VALUES = {  # key -> {value: its name now}
    "model.kind": {"mask_proposals": "segment_proposals"},
    "train.freeze": {"fpn": "neck", "rpn_head": "rpn"},
}
WEIGHTS = (  # where a file of weights has them: (pattern of a path's beginning, what it is now)
    (r"^fpn/", "neck/"),
    (r"^layers/(unshared_)?rpn_head/", "rpn/head/"),
    (r"^box_head/", "box_head/head/"),
    (r"^layers/mask_head(_\d+)?/mask/", r"segment_head/heads/segment_head\1/segment/"),
    (r"^layers/mask_head(_\d+)?/", r"segment_head/heads/segment_head\1/"),
)


def today(key, value):
    """(key, value) of a config under the names of today, as given where they are."""
    key = KEYS.get(key, key)
    renamed = VALUES.get(key, {})
    if isinstance(value, str):
        value = ",".join(renamed.get(part.strip(), part) for part in value.split(",")) if renamed else value
    elif isinstance(value, list | tuple):
        value = [renamed.get(part, part) if isinstance(part, str) else part for part in value]
    return key, value


@functools.cache
def note(message):
    """Says once that an old name was read."""
    logging.warning("%s; the old name is read until the next release", message)
