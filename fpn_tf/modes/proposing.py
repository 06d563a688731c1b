"""`--mode=propose`: the proposals of an RPN as a file."""

import pathlib

import numpy as np

from fpn_tf import files
from fpn_tf.cluster import make_cluster
from fpn_tf.data import proposals_file
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.errors import ConfigError
from fpn_tf.evaluation import evaluator
from fpn_tf.modes.scoring import detect_with_bar, print_notes
from fpn_tf.pretrained.model_dir import load_model_dir
from fpn_tf.pretrained.parts import rpn_of
from fpn_tf.structures import Detections
from fpn_tf.training.progress import console


def propose(model_dir, overrides, checkpoint, split, output):
    """Writes the proposals of a checkpoint's RPN, for a Fast R-CNN (`model.kind=fast_rcnn`).

    Args:
        model_dir: the folder of a run whose model has an RPN.
        overrides: `dotted.key=value` texts; `model.rpn.post_nms_test` is the most per image.
        checkpoint: "newest" or "best".
        split: "train" or "eval", whose images to look at.
        output: file ending in .npz; by default `proposals/<split>.npz` in `model_dir`.

    Raises:
        ConfigError: `output` has another ending.
        OSError: it cannot be written.
    """
    path = pathlib.Path(output or pathlib.Path(model_dir) / "proposals" / f"{split}.npz")
    if path.suffix != ".npz":
        raise ConfigError(f"--output={output}: expected a file ending in .npz")
    cluster = make_cluster()
    console.quiet = not cluster.is_chief
    if cluster.is_chief:
        files.check_writable(path.parent)
    with cluster.strategy.scope():
        config, model, step = load_model_dir(model_dir, overrides, checkpoint)
        rpn = rpn_of(model)
    dataset = open_dataset(config.data, split)
    print_notes(dataset.notes)
    detector = evaluator.make_detector(rpn, dataset, rpn.config, cluster)
    proposals, _ = detect_with_bar(detector, dataset)
    if not cluster.is_chief:
        return
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))  # of an unreadable photo
    by_image = {record.image_id: proposals.get(i, none) for i, record in enumerate(dataset.records)}
    proposals_file.write(path, by_image)
    count = sum(len(of_photo.scores) for of_photo in proposals.values())
    console.print(f"step {step}: {count} proposals on {len(proposals)} photos: {path}")
