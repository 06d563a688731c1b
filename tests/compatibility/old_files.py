"""Files as version 0.1.0 wrote them, made with NumPy and h5py alone from what `record.py` recorded.

Every number in them is a function of its place, so the goldens hold names, shapes and results only.
Nothing of `fpn_tf` is imported: the version that reads these files may name everything otherwise.
"""

import functools
import hashlib
import json
import math
import pathlib
import zipfile
import zlib
from typing import NamedTuple

import h5py
import numpy as np

GOLDENS = pathlib.Path(__file__).parent / "goldens"
STEP = 2  # of the checkpoint
MODEL_FILE, TRAINING_FILE = "model.weights.h5", "training.weights.h5"
POOL_SIZE = 7  # cells on a side of what a fully connected box head flattens
SEGMENT_CELLS = 64  # on a side of the grid that holds an object's mask


class Weight(NamedTuple):
    """A weight of a model of version 0.1.0."""

    dataset: str  # its path in model.weights.h5
    name: str  # its path in the model, without the model's own name
    shape: tuple


class Slot(NamedTuple):
    """A variable of an optimizer of version 0.1.0; optimizer.npz numbers them in order."""

    name: str  # "iteration", "velocity", ...
    weight: int | None  # index in the model's weights; None: of the whole optimizer
    shape: tuple
    dtype: str


@functools.cache
def recorded():
    """What goldens/files.json holds."""
    return json.loads((GOLDENS / "files.json").read_text())


@functools.cache
def numbers():
    """{"<kind>/<what>": array} of goldens/numbers.npz."""
    with np.load(GOLDENS / "numbers.npz") as arrays:
        return dict(arrays)


@functools.cache
def results():
    """{kind: {"losses", "metrics", "train": {name: float}}} of goldens/results.json."""
    return json.loads((GOLDENS / "results.json").read_text())


def has_keras(kind):
    """Whether a `.keras` file of this kind is recorded."""
    return recorded()["kinds"][kind]["keras"] is not None


def has_export(kind):
    """Whether this kind can be exported as `.npz`."""
    return bool(recorded()["kinds"][kind]["export"])


def kinds():
    """The names of the recorded models."""
    return list(recorded()["kinds"])


@functools.cache
def weights(kind):
    """The Weights of a model, in the order of `model.weights`."""
    rows = recorded()["layers"]
    numbers_of_layers = spans_expanded(recorded()["kinds"][kind]["layers"])
    return [weight for i in numbers_of_layers for weight in weights_of_layer(rows[i])]


def weights_of_layer(row):
    """The Weights of a line `group layer variable:shape variable:shape ...`."""
    group, layer, *variables = row.split(" ")
    for number, text in enumerate(variables):
        name, _, shape = text.partition(":")
        yield Weight(f"{group}/{number}", f"{layer}/{name}", parsed_shape(shape))


def parsed_shape(text):
    """`3x3x16` -> (3, 3, 16); `-` -> ()."""
    return () if text == "-" else tuple(map(int, text.split("x")))


def spans_expanded(text):
    """`0-2,5` -> [0, 1, 2, 5]."""
    spans = (span.partition("-") for span in text.split(",") if span)
    return [i for first, _, last in spans for i in range(int(first), int(last or first) + 1)]


def slots(kind):
    """Yields the Slots of a model's optimizer, in the order of `optimizer.variables`."""
    shapes = [weight.shape for weight in weights(kind)]
    for text in recorded()["kinds"][kind]["optimizer"]:
        name, of = text.split(" ")
        if of in ("int32", "int64", "float32"):
            yield Slot(name, None, (), of)
        else:
            yield from (Slot(name, i, shapes[i], "float32") for i in spans_expanded(of))


# Values ---------------------------------------------------------------------------------------------


@functools.cache
def weight_values(kind, stream=0):
    """The seeded value of every weight: float32 arrays, no two alike.

    Args:
        kind: name of a recorded model.
        stream: values of another stream are others.
    """
    return [seeded_weight(i, weight.name, weight.shape, stream) for i, weight in enumerate(weights(kind))]


def seeded_weight(index, name, shape, stream=0):
    """The value of the weight at `index`, such that activations keep their size."""
    rng = np.random.default_rng([stream, index, *shape])
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "kernel":
        value = rng.normal(size=shape) * math.sqrt(2 / math.prod(shape[:-1]))
    elif leaf in ("gamma", "moving_variance"):
        value = rng.uniform(0.7, 1.3, shape)
    else:
        value = rng.normal(size=shape) * 0.1
    return value.astype(np.float32)


def slot_values(kind):
    """The seeded value of every optimizer variable, in order."""
    averages = weight_values(kind)  # which model.weights.h5 holds where there are some
    return [seeded_slot(s, averages[s.weight] if s.name == "average" else None) for s in slots(kind)]


def seeded_slot(slot, average=None):
    """The value of a Slot; `average`, where it is one, is that of model.weights.h5."""
    if average is not None:
        return average
    if slot.weight is None:
        value = 1024.0 if slot.name == "dynamic_scale" else STEP
        return np.asarray(value, slot.dtype)
    rng = np.random.default_rng([zlib.crc32(slot.name.encode()), slot.weight, *slot.shape])
    return rng.uniform(0.01, 0.1, slot.shape).astype(np.float32)  # positive: AdamW takes roots of them


# Files ----------------------------------------------------------------------------------------------


def config(kind, **changes):
    """The config.json of a model, as nested dicts.

    Args:
        kind: name of a recorded model.
        **changes: values by dotted key, on top.
    """
    values = json.loads((GOLDENS / "config.json").read_text())
    for key, value in (recorded()["kinds"][kind]["config"] | changes).items():
        *sections, name = key.split(".")
        section = functools.reduce(dict.__getitem__, sections, values)
        if name not in section:
            raise KeyError(key)
        section[name] = value
    return values


def write_config(path, values):
    """Writes config.json."""
    path.write_text(json.dumps(values, indent=2) + "\n")


def write_weights(path, kind, values, optimizer=()):
    """Writes the HDF5 file of a model's weights.

    Args:
        path: file.
        kind: name of a recorded model.
        values: an array for each of `weights(kind)`.
        optimizer: arrays of the optimizer that a `.keras` file holds besides.
    """
    root = recorded()["kinds"][kind]["name"]
    with h5py.File(path, "w") as file:
        for row in recorded()["empty_groups"]:
            group, name, kinds_with_it = row.split(" ")
            if kind in kinds_with_it.split(","):
                file.create_group(group).attrs["name"] = root if name == "-" else name
        for weight, value in zip(weights(kind), values, strict=True):
            group = file.require_group(weight.dataset.rpartition("/")[0])
            group.attrs["name"] = weight.name.split("/")[-2]
            file.create_dataset(weight.dataset, data=value)
        if len(optimizer):
            group = file.create_group("optimizer/vars")
            group.attrs["name"] = recorded()["keras_optimizer"]
            for i, value in enumerate(optimizer):
                group.create_dataset(str(i), data=value)


def write_checkpoint(folder, kind, config_values):
    """Writes a checkpoint's folder, whole."""
    folder.mkdir(parents=True)
    write_weights(folder / MODEL_FILE, kind, weight_values(kind))
    if any(slot.name == "average" for slot in slots(kind)):
        write_weights(folder / TRAINING_FILE, kind, weight_values(kind, stream=1))
    write_config(folder / "config.json", config_values)
    arrays = {f"{i:04d}": value for i, value in enumerate(slot_values(kind))}
    np.savez(folder / "optimizer.npz", **arrays)
    state = {"step": STEP, "skipped": []}
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    (folder / "state.json").write_text(json.dumps(state | {"files": hashes}, indent=2))


def write_model_dir(path, kind, **changes):
    """Writes a model_dir whose run stopped at step 2.

    Args:
        path: folder.
        kind: name of a recorded model.
        **changes: of its config, by dotted key.

    Returns:
        The path.
    """
    path = pathlib.Path(path)
    values = config(kind, **changes)
    write_checkpoint(path / "checkpoints" / f"step_{STEP:08d}", kind, values)
    write_config(path / "config.json", values)
    return path


def write_new_run(path, kind, **changes):
    """Writes a model_dir whose run has not begun: its config alone."""
    path = pathlib.Path(path)
    path.mkdir(parents=True)
    write_config(path / "config.json", config(kind, **changes))


def write_keras(path, kind):
    """Writes a `.keras` file of a model compiled with Keras' SGD. Returns: the path."""
    path = pathlib.Path(path)
    weights_file = path.with_suffix(".h5")
    write_weights(weights_file, kind, weight_values(kind), keras_slot_values(kind))
    described = json.loads((GOLDENS / "keras.json").read_text())
    described |= recorded()["kinds"][kind]["keras"]
    described["config"] = {"config": config(kind), "name": recorded()["kinds"][kind]["name"]}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"})
        )
        file.writestr("config.json", json.dumps(described))
        file.write(weights_file, MODEL_FILE)
    weights_file.unlink()
    return path


def keras_slot_values(kind):
    """Of the optimizer in a `.keras` file: steps, learning rate, a momentum for each trainable weight."""
    momenta = spans_expanded(recorded()["kinds"][kind]["trainable"])
    shapes = [weight.shape for weight in weights(kind)]
    start = [np.asarray(STEP, np.int64), np.asarray(0.01, np.float32)]
    return start + [seeded_slot(Slot("momentum", i, shapes[i], "float32")) for i in momenta]


def write_export(path, kind):
    """Writes the `.npz` of `--mode=export --format=npz`. Returns: the path."""
    text = json.dumps(config(kind)).encode()
    np.savez(path, **exported_arrays(kind), **{"config.json": np.frombuffer(text, np.uint8)})
    return pathlib.Path(path)


def exported_arrays(kind):
    """{torchvision's name: array in torchvision's layout} of a model's weights, in order."""
    values = weight_values(kind)
    by_name = {weight.name: value for weight, value in zip(weights(kind), values, strict=True)}
    arrays = {}
    for row in spans_expanded(recorded()["kinds"][kind]["export"]):
        for name, layout, weight in export_entries(recorded()["exported"][row]):
            counts = layout == "counter"  # PyTorch's count of batches
            arrays[name] = np.zeros((), np.int64) if counts else _laid_out(by_name[weight], layout)
    return arrays


def export_entries(row):
    """(name, layout, weight's name) of a line `foreign_layer layer key:layout:variable ...`."""
    foreign, layer, *entries = row.split(" ")
    for key, layout, variable in (entry.split(":") for entry in entries):
        yield f"{foreign}.{key}", layout, f"{layer}/{variable}"


def _laid_out(array, layout):
    """An array of ours in the layout of torchvision's."""
    if layout == "conv":
        return array.transpose(3, 2, 0, 1)  # HWIO -> OIHW
    if layout == "dense":
        return array.T
    if layout == "pooled":  # [S*S*C, out] -> [out, C*S*S]
        maps = array.reshape(POOL_SIZE, POOL_SIZE, -1, array.shape[1])
        return maps.transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
    if layout == "boxes":  # the background's deltas come first
        return np.concatenate([np.zeros((4, *array.T.shape[1:]), np.float32), array.T])
    return array


# What the models see ----------------------------------------------------------------------------------


def photo():
    """A uint8 photo [128, 192, 3] of coloured blocks with noise."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 200, (8, 12, 3)).repeat(16, axis=0).repeat(16, axis=1)
    return (blocks + rng.integers(0, 56, (128, 192, 3))).astype(np.uint8)


def photo_proposals():
    """Boxes [P, 4] float32 in that photo."""
    corners = np.random.default_rng(6).uniform(0, (130, 80), (12, 2))
    sides = np.random.default_rng(7).uniform(20, 60, (12, 2))
    return np.concatenate([corners, np.minimum(corners + sides, (192, 128))], axis=1).astype(np.float32)


def batch(kind):
    """(x, y) of two images of different sizes on one canvas, for `test_on_batch`."""
    rng = np.random.default_rng(0)
    sizes = np.array([[64, 96], [50, 80]], np.int32)
    x = {"images": rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8), "image_sizes": sizes}
    y = {
        "boxes": np.array([[[4, 4, 30, 40], [50, 10, 90, 60]], [[10, 12, 60, 48], [0, 0, 0, 0]]], np.float32),
        "classes": np.array([[1, 3], [2, 0]], np.int32),
        "valid": np.array([[True, True], [True, False]]),
        "sample_seeds": np.array([11, 12], np.int32),
    }
    if kind == "fast_rcnn":
        boxes = [[[2, 2, 32, 44], [48, 8, 88, 62]], [[12, 10, 58, 50], [0, 0, 0, 0]]]
        x |= {"proposal_boxes": np.array(boxes, np.float32), "proposal_valid": y["valid"]}
    if kind == "mask_proposals":
        grids = np.zeros((2, 2, SEGMENT_CELLS, SEGMENT_CELLS), np.uint8)
        grids[:, :, 1:-1, 1:-1] = 255
        y |= {"masks": grids, "image_sizes": sizes}
    return x, y


# How results are compared -------------------------------------------------------------------------------


def detected(model, kind):
    """[D, 6] float32 of what a model detects on the photo: box, score, class; the best 20.

    Of segment proposals [D, 7], with the mean of the mask.
    """
    further = ([photo_proposals()],) if kind == "fast_rcnn" else ()
    [detections] = model.detect([photo()], *further)
    columns = [detections.boxes, detections.scores[:, None], detections.classes[:, None]]
    if kind == "mask_proposals":
        columns.append(detections.segments.mean(axis=(1, 2))[:, None])
    return np.concatenate(columns, axis=1).astype(np.float32)[:20]


def evaluated(model_dir):
    """[D, 7] float32 of eval/detections.json: image, category, x, y, width, height, score."""
    entries = json.loads((pathlib.Path(model_dir) / "eval" / "detections.json").read_text())
    rows = [(e["image_id"], e["category_id"], *e["bbox"], e["score"]) for e in entries]
    return np.asarray(sorted(rows, key=lambda row: (row[0], -row[-1])), np.float32)


def losses_of(model, kind):
    """{name: float} of a model's losses on the batch, at test time."""
    model.compile("sgd", run_eagerly=True)
    return model.test_on_batch(*batch(kind), return_dict=True)


def sample(array):
    """[4] values of an array at places that depend on its shape, and its mean."""
    places = np.random.default_rng(array.size).integers(0, array.size, 4)
    return np.append(np.ravel(array)[places], np.mean(array, dtype=np.float64)).astype(np.float32)


def as_multiset(arrays):
    """Sorted fingerprints of arrays: equal where two lists hold bit-equal arrays in any order."""
    arrays = [np.ascontiguousarray(array) for array in arrays]
    return sorted(f"{a.shape} {a.dtype} {hashlib.sha256(a.tobytes()).hexdigest()}" for a in arrays)
