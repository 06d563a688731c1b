"""What an evaluation's numbers were made from, so that old ones are not taken for new ones."""

import hashlib
import json

import numpy as np

from fpn_tf import config as config_lib
from fpn_tf.data.plan import SHARED_FIELDS
from fpn_tf.data.snapshot import snapshot_of

IDLE = ("pictures", "annotations")  # keys of `eval` without a say: what official annotations hold has one


def scored_by(dataset, config):
    """What stands for all that an AP depends on but the weights: a dict of JSON values.

    Args:
        dataset: Dataset of the held-out split, see `fpn_tf.evaluation.held_out.as_scored`.
        config: Config with the model's classes.
    """
    values = config_lib.to_dict(config)
    shown = {name: values["data"][name] for name in SHARED_FIELDS}
    model = {key: value for key, value in values["model"].items() if key != "backbone_weights"}
    network = json.dumps([model, shown, values["train"]["precision"]], sort_keys=True)
    return {
        "held_out": held_out_digest(dataset, config.data.segments),
        "eval": {key: value for key, value in values["eval"].items() if key not in IDLE},
        "network": hashlib.sha256(network.encode()).hexdigest(),
    }


def made_from(sources, weights, photos):
    """What metrics.json says of itself.

    Args:
        sources: of `scored_by`.
        weights: hash of the checkpoint's weights.
        photos: how many were scored.
    """
    return sources | {"checkpoint": weights, "photos": photos}


def changed_sources(sources, scored_by_now):
    """What eval/metrics.json was not made from, in words.

    Args:
        sources: what it says, or None.
        scored_by_now: of `scored_by`.
    """
    if not isinstance(sources, dict):
        return "eval/metrics.json does not say what it was made from"
    old, new = (each.get("eval") or {} for each in (sources, scored_by_now))
    texts = [f"eval.{key} {old.get(key)} -> {value}" for key, value in new.items() if old.get(key) != value]
    if sources.get("held_out") != scored_by_now["held_out"]:
        texts.append("another held-out set")
    if sources.get("network") != scored_by_now["network"]:
        texts.append("other sizes or settings of the network")
    return f"eval/metrics.json is of {', '.join(texts) or 'another checkpoint or not of all photos'}"


def held_out_digest(dataset, has_segments=False):
    """The SHA-256, in hexadecimal, of a Dataset's photos (by name, size and time) and of its ground truth.

    Args:
        dataset: Dataset.
        has_segments: whether segmentations are scored.
    """
    digest = hashlib.sha256()
    for name, values in snapshot_of(dataset, has_segments).arrays().items():
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    truth = dataset.coco
    digest.update(repr([(c["id"], c["name"]) for c in truth["categories"]]).encode())
    digest.update(np.asarray([image["id"] for image in truth["images"]], np.int64).tobytes())
    annotations = truth["annotations"]
    whole = [(a["image_id"], a["category_id"], a["iscrowd"]) for a in annotations]
    real = [(*a["bbox"], a["area"]) for a in annotations]
    digest.update(np.asarray(whole, np.int64).tobytes() + np.asarray(real, np.float64).tobytes())
    if has_segments:
        digest.update(json.dumps([a.get("segmentation") for a in annotations]).encode())
    return digest.hexdigest()
