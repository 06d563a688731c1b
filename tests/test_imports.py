"""Data flows one way: who may import whom inside fpn_tf, and who may import TensorFlow."""

import ast
import pathlib

import pytest

import fpn_tf

ROOT = pathlib.Path(fpn_tf.__file__).parent
PLAIN = {
    "catalogue",
    "coco_classes",
    "errors",
    "files",
    "interrupts",
}  # rooms that import nothing but each other
CORE = PLAIN | {"structures", "depth", "photos", "photo_forms", "preprocessing", "geometry", "kernels"}
NETS = CORE | {"losses", "targets"}
ALLOWED = {  # room -> rooms it may import from, besides itself
    "catalogue": set(),
    "coco_classes": set(),
    "errors": set(),
    "files": {"errors"},
    "interrupts": {"errors"},
    "output_streams": set(),
    "endings": {"errors", "interrupts"},
    "registration": set(),  # it names modules as texts
    "keras_settings": {"errors"},
    "variable_names": set(),
    "structures": {"photo_forms", "visualize"},  # a record that draws itself, lazily
    "config": PLAIN,
    "depth": set(),
    "photos": {"depth", "errors"},
    "photo_forms": {"errors", "photos"},
    "fast_photos": {"errors", "photos"},
    "preprocessing": {"photos", "structures"},
    "geometry": {"structures", "kernels"},  # of the kernels the choice alone
    "kernels": {"geometry"},
    "losses": {"geometry"},
    "targets": {"geometry", "structures"},
    "models": NETS,
    "models/old_calls": {"assemble", "config", "old_files"},  # for one release
    "models/stored_model": {"exporting", "preprocessing"},  # the first in Keras' hook `export`, lazily
    "old_files": {"config"},
    "assemble": {"catalogue", "config", "geometry", "models", "preprocessing"},
    "checkpoint": PLAIN | {"checkpoint_state", "config", "old_files", "variable_names"},
    "checkpoint_state": PLAIN,
    "pretrained": PLAIN | {"config", "assemble", "checkpoint", "checkpoint_state", "models", "structures"},
    "meeting": {"errors"},
    "cluster": {"errors", "meeting"},
    "data": CORE | {"config", "fast_photos", "photo_paths"},
    "evaluation": CORE | {"cluster", "config", "data", "visualize"},
    "labels": set(),
    "visualize": {"data", "files", "labels", "structures"},
    "charts": set(),
    "report_page": {"charts"},
    "inspection": CORE | {"data", "visualize"},
    "photo_paths": {"errors", "files"},
    "predict": CORE | {"evaluation", "visualize"},
    "training": NETS
    | {"checkpoint", "checkpoint_state", "cluster", "config", "data", "evaluation", "models", "pretrained"},
    "exporting": CORE | {"models"},
    "stage_times": CORE | {"assemble", "cluster", "config", "training"},
}
PARTS = {  # files of `models` that others there may import: the pages join the parts, parts never each other
    "models": {"class_agnostic", "conv_norm", "detector", "serialization", "old_calls"}
    | {"backbones", "necks", "heads"},
    "models/class_agnostic": {"detector"},
    "models/detector": {"backbones", "on_backends", "stored_model"},
    "models/on_backends": set(),
    "models/stored_model": {"old_calls", "serialization"},
    "models/conv_norm": set(),
    "models/serialization": set(),
    "models/old_calls": set(),
    "models/backbones": {"conv_norm"},
    "models/necks": {"conv_norm"},
    "models/heads": {"conv_norm", "serialization"},
    "models/heads/conv5": {"backbones"},  # the ResNet's own stage as a head
}
TENSORFLOW = {
    "cluster",
    "training",
    "exporting",
    "evaluation/evaluator",
    "stage_times",
    "modes",
    "data/pipeline",
    "data/shapes",
    "data/tfds_source",
    *(f"kernels/tf_{name}" for name in ("functions", "nms", "norm", "pooling", "roi_align", "roi_pool")),
    *(f"kernels/tf_{name}" for name in ("rows", "sums")),
    "kernels/winograd",
}
LAZILY = {"kernels/choice", "models/on_backends", "preprocessing"}  # inside functions, where Keras runs on it
# They join everything; the library imports none of them.
PROGRAM = {"__main__", "command", "command_flags", "modes"}
FILES = sorted(p.relative_to(ROOT).with_suffix("").as_posix() for p in ROOT.rglob("*.py"))


def imported(name):
    """Modules that a file of fpn_tf imports, as (dotted name, whether at the top level)."""
    tree = ast.parse((ROOT / f"{name}.py").read_text())
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node in top) for alias in node.names)


def room(name):
    """`models/heads/rpn` -> `models`; a file at the root is its own room."""
    return name.split("/")[0]


def narrowest(table, name):
    """What a table says of a file, or of the smallest folder around it that it knows; None: nothing."""
    while name and name not in table:
        name = name.rpartition("/")[0]
    return table.get(name)


@pytest.mark.parametrize("name", [f for f in FILES if f != "__init__" and room(f) not in PROGRAM])
def test_data_flows_one_way(name):
    allowed = narrowest(ALLOWED, name)
    for module, _ in imported(name):
        if not module.startswith("fpn_tf."):
            continue
        other, *rest = module.split(".")[1:]
        if other == room(name) == "models":
            shelf = name.split("/")[1] if name.count("/") > 1 else None
            assert rest[0] in narrowest(PARTS, name) | {shelf}, f"{name} imports {module}"
        else:
            assert other in allowed or other == room(name), f"{name} imports {module}"


@pytest.mark.parametrize("name", [f for f in FILES if room(f) not in PROGRAM])
def test_tensorflow_stays_in_its_rooms(name):
    if name in TENSORFLOW or room(name) in TENSORFLOW:
        return
    for module, _ in imported(name):
        assert name in LAZILY or module.split(".")[0] not in ("tensorflow", "tensorflow_datasets"), (
            f"{name} imports {module}"
        )


def test_no_public_function_is_named_like_a_module():
    """Or one of them would hide the other, wherever both are reached by that name."""
    modules = {part for name in FILES for part in name.split("/")}
    functions = {}
    for name in FILES:
        for node in ast.parse((ROOT / f"{name}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                functions[node.name] = name
    shared = {function: where for function, where in functions.items() if function in modules}
    assert not shared
