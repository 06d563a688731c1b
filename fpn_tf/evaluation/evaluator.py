"""Runs a model over a data set and scores it."""

import dataclasses
import pathlib

import numpy as np
from keras import ops

from fpn_tf import files
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import evaluation_batches
from fpn_tf.errors import DataError
from fpn_tf.evaluation import coco, proposals
from fpn_tf.geometry.nms import nms
from fpn_tf.structures import Detections


def make_detector(model, dataset, config, cluster):
    """Compiles what runs a model over a data set, split over the replicas of a cluster.

    Args:
        model: FasterRCNN or RPN, made under the cluster's strategy.
        dataset: Dataset.
        config: Config.
        cluster: Cluster.

    Returns:
        A function `detect(on_batch)`, to be called by every worker: {index into dataset.records:
        Detections} of all readable images, at every scale of `eval.short_sides`, merged.
        `on_batch` is called with the number of images done.
    """
    scales = [(Loader(dataset, data), data) for data in scales_of(config)]

    def batches(loader, data):
        return cluster.distribute(
            evaluation_batches(loader, data, config.eval.batch_size, cluster.replicas, cluster.own_replicas)
        )

    def rows(batch):
        x = {key: batch[key] for key in model.x_spec()}
        found = model(x)
        # Workers can send each other numbers, no booleans.
        found = found._replace(valid=ops.cast(found.valid, "int32"))
        return batch["indices"], batch["image_sizes"], found

    gathered = cluster.gathered(rows, batches(*scales[0]).element_spec)

    def detect_at(loader, data, on_batch):
        found = {}
        with errors_of(loader), cluster.lost_worker:
            for batch in batches(loader, data):
                indices, sizes, outputs = gathered(batch)
                outputs = outputs._replace(valid=outputs.valid > 0)
                for i, index in enumerate(indices.tolist()):
                    if index >= 0:
                        size = dataset.records[index].size
                        found[index] = model.in_photo(*(x[i] for x in outputs), sizes[i], size)
                on_batch(len(found))
        return found

    def detect(on_batch=lambda count: None):
        found = [
            detect_at(*scale, lambda count, n=n: on_batch((n * len(dataset.records) + count) // len(scales)))
            for n, scale in enumerate(scales)
        ]
        if len(found) == 1:
            return found[0]
        return {index: merged([each[index] for each in found], config) for index in found[0]}

    return detect


def scales_of(config):
    """The DataConfigs of every scale that `eval.short_sides` asks for; sides in proportion."""
    data = config.data
    return [
        dataclasses.replace(data, short_side=side, max_side=round(data.max_side * side / data.short_side))
        for side in config.eval.short_sides or (data.short_side,)
    ]


def merged(found, config):
    """What was found in one photo at several scales, as one: NMS over all, class by class.

    Args:
        found: list of Detections.
        config: Config; the thresholds and limits are those of a single scale.
    """
    boxes, scores, classes = (np.concatenate(parts) for parts in zip(*found))
    if not len(scores):
        return found[0]
    if config.model.kind == "rpn":
        threshold, limit = config.model.rpn.nms_threshold, config.model.rpn.post_nms_test
    else:
        threshold, limit = config.eval.nms_threshold, config.eval.max_detections
    kinds = np.unique(classes)
    rows = [np.broadcast_to(x, (len(kinds), *x.shape)) for x in (boxes, scores)]
    indices, kept = nms(*rows, classes == kinds[:, None], threshold, min(limit, len(scores)))
    chosen = ops.convert_to_numpy(indices)[ops.convert_to_numpy(kept)]
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:limit]
    return Detections(boxes[chosen], scores[chosen], classes[chosen])


class errors_of:  # noqa: N801  (reads as a phrase)
    """Turns TensorFlow's report of a Python error inside a pipeline back into the DataError."""

    def __init__(self, loader):
        self.loader = loader

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if error is not None and self.loader.failure is not None:
            raise DataError(self.loader.failure) from None


BOXES, MASKS = proposals.evaluate, proposals.evaluate_masks
SCORERS = {"faster_rcnn": coco.evaluate, "fast_rcnn": coco.evaluate, "rpn": BOXES, "mask_proposals": MASKS}
MAIN_METRIC = {  # of each model.kind, which chooses the best checkpoint
    "faster_rcnn": "AP",
    "fast_rcnn": "AP",
    "rpn": "AR1000",
    "mask_proposals": "AR1000",
}


def score(dataset, found, kind, annotations=None):
    """Scores detections, or an RPN's proposals.

    Args:
        dataset: Dataset.
        found: as `detect_dataset` returns.
        kind: `model.kind`.
        annotations: an official COCO JSON (as a dict) to score against instead of the data set's
            own ground truth; image ids must agree.

    Returns:
        (metrics, results): see `fpn_tf.evaluation.coco` and `fpn_tf.evaluation.proposals`.

    Raises:
        DataError: image ids that the annotations do not have.
    """
    results, ids = [], []
    for index, detections in sorted(found.items()):
        image_id = dataset.records[index].image_id
        ids.append(image_id)
        if kind == "mask_proposals":
            results += proposals.as_mask_results(image_id, detections, dataset.records[index].size)
        else:
            results += coco.as_results(image_id, detections)
    truth = annotations or dataset.coco
    unknown = set(ids) - {image["id"] for image in truth["images"]}
    if unknown:
        raise DataError(
            f"eval.annotations: has no image {min(unknown)}; expected the ids of the evaluated photos"
        )
    return SCORERS[kind](truth, results, ids), results


def write(model_dir, metrics, results, step, seconds):
    """Writes eval/detections.json, speed.json (`seconds` per photo) and metrics.json, each whole."""
    folder = pathlib.Path(model_dir) / "eval"
    files.write_json(folder / "detections.json", results, indent=None)
    files.write_json(folder / "speed.json", {"seconds_per_photo": seconds})
    files.write_json(folder / "metrics.json", metrics | {"step": step})


def score_files(detections, annotations):
    """Scores a COCO result file against an annotation file.

    Returns:
        metrics, see `fpn_tf.evaluation.coco.evaluate`.

    Raises:
        DataError: a file that is absent, no JSON or of another form.
    """
    truth, results = read_truth(annotations), files.read_json(detections)
    if not isinstance(results, list):
        raise DataError(f"{detections}: found an object; expected a list of results")
    known = {image["id"] for image in truth["images"]}
    for i, result in enumerate(results):
        if not isinstance(result, dict):
            raise DataError(f"{detections}: [{i}] = {result}: expected an object in COCO's result format")
        missing = {"image_id", "category_id", "bbox", "score"} - set(result)
        if missing:
            raise DataError(f"{detections}: [{i}] has no '{min(missing)}'; expected COCO's result format")
        if result["image_id"] not in known:
            raise DataError(
                f"{detections}: [{i}].image_id = {result['image_id']} is no image of {annotations}"
            )
    return coco.evaluate(truth, results)


def read_truth(path):
    """A COCO annotation file as a dict. Raises: DataError."""
    truth = files.read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(truth, dict) or not isinstance(truth.get(key), list):
            raise DataError(
                f"{path}: no list '{key}'; expected COCO format (images, annotations, categories)"
            )
    return truth
