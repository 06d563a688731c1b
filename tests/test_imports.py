"""Data flows one way: who may import whom inside fpn_tf, and who may import TensorFlow."""

import ast
import pathlib

import pytest

import fpn_tf

ROOT = pathlib.Path(fpn_tf.__file__).parent
BASE = {"coco_classes", "config", "structures", "errors", "files", "photos", "backend"}
CORE = BASE | {"geometry"}
NETS = CORE | {"losses", "targets"}
ALLOWED = {  # room -> rooms it may import from, besides itself
    "coco_classes": set(),
    "errors": set(),
    "files": {"errors"},
    "structures": set(),
    "memory": set(),
    "winograd": set(),
    "backend": {"winograd"},
    "config": {"errors", "files"},
    "photos": {"errors"},
    "fast_photos": {"errors", "photos"},
    "geometry": {"structures"},
    "targets": CORE,
    "losses": CORE,
    "models": CORE,
    "models/base": NETS | {"models"},
    "models/rpn": NETS | {"models"},
    "models/roi_stage": NETS | {"models"},
    "models/fast_rcnn": NETS | {"models"},
    "models/faster_rcnn": NETS | {"models"},
    "models/mask_proposals": NETS | {"models"},
    "checkpoint": {"config", "errors", "files"},
    "pretrained": BASE | {"models", "checkpoint"},
    "cluster": {"errors"},
    "data": CORE | {"fast_photos"},
    "evaluation": CORE | {"cluster", "data", "models"},
    "visualize": BASE | {"data"},
    "inspection": BASE | {"data", "visualize"},
    "predict": BASE | {"data", "models", "evaluation", "visualize"},
    "training": NETS | {"models", "pretrained", "checkpoint", "cluster", "data", "evaluation"},
    "export": NETS | {"models", "training"},
    "report": BASE,
    "benchmark": BASE | {"winograd", "cluster", "models", "training"},
}
TENSORFLOW = {
    "cluster",
    "data",
    "training",
    "export",
    "evaluation",
    "benchmark",
    "modes",
    "geometry/tf_kernels",
    "winograd",
}
BLOCKS = tuple(
    f"fpn_tf.models.{name}" for name in ("conv_norm", "resnet.make_stage", "fpn")
)  # nets share them
LAZILY = {"backend"}  # imports TensorFlow inside functions, where Keras runs on it
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
    """`models/fpn` -> `models`; a file at the root is its own room."""
    return name.split("/")[0]


@pytest.mark.parametrize("name", [f for f in FILES if f not in ("__init__", "modes")])
def test_data_flows_one_way(name):
    allowed = ALLOWED.get(name, ALLOWED[room(name)])
    for module, _ in imported(name):
        if module.startswith("fpn_tf."):
            other = module.split(".")[1]
            own = other == room(name) and (other != "models" or module.startswith(BLOCKS))
            assert other in allowed or own, f"{name} imports {module}"


@pytest.mark.parametrize("name", FILES)
def test_tensorflow_stays_in_its_rooms(name):
    if name in TENSORFLOW or room(name) in TENSORFLOW - {"geometry"}:
        return
    for module, _ in imported(name):
        assert name in LAZILY or module.split(".")[0] not in ("tensorflow", "tensorflow_datasets"), (
            f"{name} imports {module}"
        )
