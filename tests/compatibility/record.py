"""Records what version 0.1.0 wrote and computed. Run with that version, in its root:

    git worktree add ../before 3d5a777 && cd ../before
    PYTHONPATH=.:tests python <this checkout>/tests/compatibility/record.py

Writes goldens/: config.json (of `faster_rcnn`; other kinds are told by their differences), files.json
(names and shapes in every file), keras.json (a `.keras` file's), results.json and numbers.npz (what the
models compute with the seeded weights). Then writes every file once by that version and once by
`old_files`, and compares them.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import h5py
import keras
import numpy as np
import old_files
from conftest import make_coco_folder

from fpn_tf import config as config_lib
from fpn_tf.checkpoint import Checkpoints
from fpn_tf.config import Config
from fpn_tf.models.faster_rcnn import make_model
from fpn_tf.pretrained import naming
from fpn_tf.pretrained.loading import save_npz
from fpn_tf.training.state import TrainingState, make_optimizer

BASE = """
model.backbone=resnet_tiny model.norm=group_norm model.frozen_stages=0 model.fpn_channels=16
model.num_classes=3 model.rpn.anchor_sizes=8,16,32,64,96 model.rpn.samples=32 model.rpn.pre_nms_train=64
model.rpn.pre_nms_test=48 model.rpn.post_nms_train=40 model.rpn.post_nms_test=32 model.roi.samples=16
model.roi.canonical_size=56 model.roi.hidden_units=32 data.short_side=64 data.max_side=96
data.train_annotations=annotations.json data.train_images=images data.eval_annotations=annotations.json
data.eval_images=images data.class_names=red,green,blue data.category_ids=7,3,90
data.max_bad_fraction=0.5 train.steps=4 train.batch_size=2 train.log_every=2 train.checkpoint_every=2
train.warmup_steps=2 train.learning_rate=0.01 eval.batch_size=2 eval.score_threshold=0
eval.max_detections=10 eval.pictures=0
""".split()
KINDS = {
    "faster_rcnn": "",
    "rpn": "model.kind=rpn",
    "fast_rcnn": "model.kind=fast_rcnn data.train_proposals=train.npz data.eval_proposals=eval.npz",
    "mask_proposals": "model.kind=mask_proposals data.masks=true model.mask.canonical_size=8 "
    "model.mask.hidden_units=16 model.mask.samples=32 model.mask.max_proposals=40",
    "conv5": "model.pyramid=c4 model.roi.head=conv5 model.roi.pool_size=14 model.norm=frozen_bn",
    "unshared": "model.rpn.shared_head=false model.rpn.conv_layers=2",
    "fpn_norm": "model.fpn_norm=group_norm",
    "roi_convs": "model.roi.conv_layers=2 model.roi.fc_layers=1 model.pyramid=bottom_up",
    "top_down": "model.pyramid=top_down model.fpn_norm=frozen_bn model.norm=sync_bn",
    "finest": "model.pyramid=finest model.fpn_channels=24",
    "frozen": "model.norm=frozen_bn model.frozen_stages=2 train.freeze=fpn,rpn_head "
    "train.learning_rate=0.0003",
    "resnet18": "model.backbone=resnet18 model.norm=frozen_bn",
    "averaged": "train.optimizer=adamw train.ema_decay=0.5 train.clip_norm=10 train.learning_rate=0.001",
    "half": "train.precision=mixed_float16",
}
COMPUTED = [kind for kind in KINDS if kind not in ("resnet18", "half")]
TRAINED = ("faster_rcnn", "rpn", "frozen", "averaged")


def main():
    old_files.GOLDENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        record_files(pathlib.Path(folder))
        record_numbers(pathlib.Path(folder))
    for path in sorted(old_files.GOLDENS.iterdir()):
        print(path.stat().st_size, path.name)


def record_files(folder):
    """Writes config.json, files.json and keras.json; checks that `old_files` makes the same files."""
    files = {"kinds": {}, "layers": [], "exported": [], "empty_groups": [], "keras_optimizer": "sgd"}
    base, empty_groups = config_of("faster_rcnn"), {}
    config_lib.save(base, old_files.GOLDENS / "config.json")
    for kind in KINDS:
        files["kinds"][kind] = recorded_kind(kind, base, folder, files, empty_groups)
    files["empty_groups"] = [" ".join([*place, ",".join(kinds)]) for place, kinds in empty_groups.items()]
    (old_files.GOLDENS / "files.json").write_text(json.dumps(files, indent=1) + "\n")
    old_files.recorded.cache_clear()
    for kind in KINDS:
        compare(kind, folder)


def record_numbers(folder):
    """Writes results.json and numbers.npz."""
    results, arrays = computed(folder)
    (old_files.GOLDENS / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    np.savez_compressed(old_files.GOLDENS / "numbers.npz", **arrays)


def config_of(kind):
    """The Config of a kind."""
    return config_lib.override(Config(), [*BASE, *KINDS[kind].split()])


# Names and shapes -----------------------------------------------------------------------------------


def recorded_kind(kind, base, folder, files, empty_groups):
    """What files.json holds of a kind; adds to the tables that kinds share.

    Writes the kind's files to `folder`/<kind> with that version's own code.
    """
    keras.utils.clear_session()
    config = config_of(kind)
    model = make_model(config)
    root = model.name
    names = [weight.path.removeprefix(f"{root}/") for weight in model.weights]
    shapes = [tuple(weight.shape) for weight in model.weights]
    fill(model, names)
    write_by_that_version(model, folder / kind)

    own_folder = folder / kind / "own"
    datasets, empty = walked(own_folder / old_files.MODEL_FILE, model)
    for place in empty:
        empty_groups.setdefault(place, []).append(kind)
    layers = [numbered(row, files["layers"]) for row in layer_rows(datasets, names, shapes)]
    export = [numbered(row, files["exported"]) for row in export_rows(exported(model))]
    trainable = {id(weight) for weight in model.trainable_weights}
    keras_parts = None
    if (folder / kind / "own.keras").exists():
        with zipfile.ZipFile(folder / kind / "own.keras") as file:
            described = json.loads(file.read("config.json"))
        keras_parts = {key: described[key] for key in ("module", "class_name", "registered_name")}
    if kind == "faster_rcnn":
        shared = {key: value for key, value in described.items() if key not in keras_parts}
        (old_files.GOLDENS / "keras.json").write_text(json.dumps(shared | {"config": None}, indent=1) + "\n")
    return {
        "name": root,
        "config": {key: value for key, (_, value) in config_lib.differences(base, config).items()},
        "layers": spans(layers),
        "trainable": spans(i for i, w in enumerate(model.weights) if id(w) in trainable),
        "optimizer": grouped(described_slots(model)),
        "state": list(json.loads((own_folder / "state.json").read_text())),
        "keras": keras_parts,
        "export": spans(export),
    }


def fill(model, names, stream=0):
    """Sets every weight of a model to its seeded value."""
    for i, (weight, name) in enumerate(zip(model.weights, names, strict=True)):
        weight.assign(old_files.seeded_weight(i, name, tuple(weight.shape), stream))


def numbered(row, rows):
    """The index of a line in a table, where it is appended if it is new."""
    if row not in rows:
        rows.append(row)
    return rows.index(row)


def layer_rows(datasets, names, shapes):
    """The lines of `old_files.weights_of_layer`; a layer's weights lie together, in order."""
    rows = []
    for dataset, name, shape in zip(datasets, names, shapes, strict=True):
        group, _, number = dataset.rpartition("/")
        layer, _, leaf = name.rpartition("/")
        if number == "0":
            rows.append([group, layer])
        assert rows[-1][:2] == [group, layer], name
        assert len(rows[-1]) == 2 + int(number), name
        rows[-1].append(f"{leaf}:{shape_text(shape)}")
    return [" ".join(row) for row in rows]


def shape_text(shape):
    """(3, 3, 16) -> `3x3x16`."""
    return "x".join(map(str, shape)) or "-"


def spans(indices):
    """[0, 1, 2, 5] -> `0-2,5`."""
    runs = []
    for i in indices:
        if runs and runs[-1][1] + 1 == i:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def walked(path, model):
    """Where a file holds a model's weights, which all differ.

    Returns:
        (dataset of each weight in order, [(group without datasets, name of its layer)]).
    """
    by_value, empty = {}, []

    def visit(name, node):
        if isinstance(node, h5py.Dataset):
            by_value[node[()].tobytes()] = name
        elif "name" in node.attrs and not len(node):
            layer = node.attrs["name"]
            empty.append((name, "-" if layer == model.name else layer))

    with h5py.File(path) as file:
        file.visititems(visit)
    assert len(by_value) == len(model.weights)
    return [by_value[np.asarray(weight).tobytes()] for weight in model.weights], empty


def described_slots(model):
    """(name, index of the weight or dtype) of every variable of a model's optimizer."""
    optimizer = make_optimizer(model.config.train)
    optimizer.build(model.trainable_variables)
    places = {weight.path.replace("/", "_"): i for i, weight in enumerate(model.weights)}
    for variable in optimizer.variables:
        name = variable.path.rsplit("/", 1)[-1]
        owner = max((place for place in places if place in name), key=len, default=None)
        if owner is None:
            yield name, variable.dtype
        else:
            assert variable.shape == model.weights[places[owner]].shape, name
            yield slot_name(name, owner), places[owner]


def slot_name(name, owner):
    """`velocity` of `faster_rcnn_fpn_lateral2_bias_velocity`."""
    beside = name.replace(owner, "").strip("_")
    return "average" if "average" in beside else beside


def grouped(described):
    """[("velocity", 0), ("velocity", 1)] -> ["velocity 0-1"]."""
    lines = []
    for name, of in described:
        if lines and isinstance(of, int) and lines[-1][0] == name:
            lines[-1][1].append(of)
        else:
            lines.append((name, [of] if isinstance(of, int) else of))
    return [f"{name} {spans(of) if isinstance(of, list) else of}" for name, of in lines]


def exported(model):
    """(name, layout, weight or "") of each array of the exported `.npz`; [] of a kind that has none."""
    try:
        entries = list(naming.detector_weights(model))
        arrays = naming.state_dict(model)
    except AttributeError:
        return []
    names = {id(weight): weight.path.removeprefix(f"{model.name}/") for weight in model.weights}
    layouts = {entry.name: (entry.layout, names[id(entry.variable)]) for entry in entries}
    return [(name, *layouts.get(name, ("counter", ""))) for name in arrays]


def export_rows(entries):
    """The lines of `old_files.export_entries`: the arrays of one foreign layer, in order."""
    rows = []
    for name, layout, weight in entries:
        foreign, _, key = name.rpartition(".")
        layer, _, leaf = weight.rpartition("/")
        if not rows or rows[-1][0] != foreign:
            rows.append([foreign, layer])
        assert rows[-1][1] == layer or not weight, name
        rows[-1].append(f"{key}:{layout}:{leaf}")
    return [" ".join(row) for row in rows]


# Files ----------------------------------------------------------------------------------------------


def write_by_that_version(model, folder):
    """Writes a seeded model's checkpoint, `.keras` file and export with that version's own code."""
    state = TrainingState(model, make_optimizer(model.config.train))
    state.step = old_files.STEP
    names = list(described_slots(model))
    indices = [of if isinstance(of, int) else None for _, of in names]
    for variable, (name, of), index in zip(state.optimizer.variables, names, indices, strict=True):
        shape = tuple(variable.shape)
        slot = old_files.Slot(name, index, shape, of if index is None else "float32")
        variable.assign(slot_value(model, slot))
    names_of_weights = [weight.path for weight in model.weights]
    if state.averages:
        fill(model, names_of_weights, stream=1)
    state.save(Checkpoints(folder))
    fill(model, names_of_weights)
    (folder / "checkpoints" / f"step_{old_files.STEP:08d}").rename(folder / "own")
    with contextlib.suppress(AttributeError):
        save_npz(model, folder / "own.npz")
    if model.config.train.precision != "mixed_float16":  # Keras' own wrapper of the optimizer
        write_keras_by_that_version(model, folder / "own.keras")


def write_keras_by_that_version(model, path):
    """Writes the `.keras` file of a seeded model compiled with Keras' SGD."""
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer)
    optimizer.iterations.assign(old_files.STEP)
    trainable = {id(weight) for weight in model.trainable_weights}
    learned = [i for i, weight in enumerate(model.weights) if id(weight) in trainable]
    for i, momentum in zip(learned, optimizer.momentums, strict=True):
        momentum.assign(slot_value(model, old_files.Slot("momentum", i, tuple(momentum.shape), "float32")))
    model.save(path)


def slot_value(model, slot):
    """`old_files.seeded_slot`, of a model that is not recorded yet."""
    average = None
    if slot.name == "average":
        weight = model.weights[slot.weight]
        average = old_files.seeded_weight(slot.weight, weight.path, slot.shape)
    return old_files.seeded_slot(slot, average)


def compare(kind, folder):
    """Asserts that `old_files` writes what that version wrote."""
    config = old_files.config(kind)
    own, made = folder / kind / "own", folder / kind / "made"
    old_files.write_checkpoint(made, kind, config)
    assert sorted(p.name for p in own.iterdir()) == sorted(p.name for p in made.iterdir()), kind
    for path in own.glob("*.h5"):
        assert contents(path) == contents(made / path.name), (kind, path.name)
    assert (own / "config.json").read_bytes() == (made / "config.json").read_bytes(), kind
    same_arrays(own / "optimizer.npz", made / "optimizer.npz", kind)
    states = [json.loads((f / "state.json").read_text()) for f in (own, made)]
    assert list(states[0]) == list(states[1]), kind
    assert [s | {"files": list(s["files"])} for s in states[:1]] == [
        s | {"files": list(s["files"])} for s in states[1:]
    ], kind

    if (folder / kind / "own.npz").exists():
        old_files.write_export(folder / kind / "made.npz", kind)
        same_arrays(folder / kind / "own.npz", folder / kind / "made.npz", kind)
    if not (folder / kind / "own.keras").exists():
        return
    old_files.write_keras(folder / kind / "made.keras", kind)
    parts = []
    for name in ("own", "made"):
        with zipfile.ZipFile(folder / kind / f"{name}.keras") as file:
            described = json.loads(file.read("config.json"))
            file.extract(old_files.MODEL_FILE, folder / kind / f"{name}_keras")
            parts.append((sorted(file.namelist()), described))
    assert parts[0] == parts[1], kind
    files = [folder / kind / f"{name}_keras" / old_files.MODEL_FILE for name in ("own", "made")]
    assert contents(files[0]) == contents(files[1]), kind


def contents(path):
    """{path: attributes, and the bytes of datasets} of an HDF5 file."""
    found = {}

    def visit(name, node):
        data = (node.dtype.str, node.shape, node[()].tobytes()) if isinstance(node, h5py.Dataset) else None
        found[name] = (dict(node.attrs), data)

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def same_arrays(first, second, kind):
    """Asserts that two `.npz` hold equal arrays under equal names in one order."""
    with np.load(first) as a, np.load(second) as b:
        assert a.files == b.files, kind
        for name in a.files:
            assert a[name].dtype == b[name].dtype, (kind, name)
            np.testing.assert_array_equal(a[name], b[name], err_msg=f"{kind} {name}")


# Numbers --------------------------------------------------------------------------------------------


def computed(folder):
    """(results.json, arrays of numbers.npz): detections, losses, metrics and resumed weights."""
    results, arrays = {}, {}
    root = make_coco_folder(folder / "data")
    for kind in COMPUTED:
        keras.utils.clear_session()
        model = make_model(config_lib.from_dict(old_files.config(kind)))
        fill(model, [weight.name for weight in old_files.weights(kind)])
        arrays[f"{kind}/detected"] = old_files.detected(model, kind)
        results[kind] = {"losses": {k: float(v) for k, v in old_files.losses_of(model, kind).items()}}
    for kind in TRAINED:
        model_dir = old_files.write_model_dir(folder / kind / "run", kind, **{"data.root": str(root)})
        command("eval", model_dir)
        metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
        results[kind]["metrics"] = {k: v for k, v in metrics.items() if isinstance(v, float)}
        arrays[f"{kind}/evaluated"] = old_files.evaluated(model_dir)
        command("train", model_dir)
        line = json.loads((model_dir / "train.jsonl").read_text().splitlines()[-1])
        results[kind]["train"] = {k: v for k, v in line.items() if k != "images_per_second"}
        with h5py.File(model_dir / "checkpoints" / "step_00000004" / old_files.MODEL_FILE) as file:
            resumed = [file[weight.dataset][()] for weight in old_files.weights(kind)]
        arrays[f"{kind}/resumed"] = np.stack([old_files.sample(value) for value in resumed])
    return results, arrays


def command(mode, model_dir):
    """Runs that version's main.py."""
    subprocess.run([sys.executable, "main.py", f"--mode={mode}", f"--model_dir={model_dir}"], check=True)


if __name__ == "__main__":
    main()
