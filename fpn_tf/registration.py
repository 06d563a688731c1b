"""Has Keras know this project's classes by their registered names as soon as both are imported.

`keras.saving.load_model` looks a class up by that name, whether or not anything has imported its
module yet. And Keras takes seconds to import, which a mistake in a flag need not wait for.
"""

import importlib
import importlib.abc
import sys

REGISTERED = (  # modules with classes that `keras.saving` serialises
    "fpn_tf.models.faster_rcnn",
    "fpn_tf.models.fast_rcnn",
    "fpn_tf.models.rpn",
    "fpn_tf.models.segment_proposals",
    "fpn_tf.models.necks.baselines",
    "fpn_tf.models.heads.head",
    "fpn_tf.training.optimizer",
)
OLD_NAMES = {"fpn_tf>MaskProposals": "fpn_tf>SegmentProposals"}  # read until the next release


def register():
    """Imports every module that registers a class."""
    for name in REGISTERED:
        importlib.import_module(name)
    known = sys.modules["keras"].saving.get_custom_objects()
    known.update({old: known[new] for old, new in OLD_NAMES.items()})


def register_once_keras_is_imported():
    """Registers at once where Keras is imported already, else at the end of its import."""
    if sys.modules.get("keras") is not None:
        register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds `keras` and this project's modules as others do, and calls `register` once after them.

    A module of the project may be what imports Keras. Then `register`, which imports that module, too,
    waits for the outermost one to be whole.
    """

    def __init__(self):
        self.unfinished = 0  # modules that are being executed, one inside another

    def find_spec(self, name, path=None, target=None):
        if name != "keras" and not name.startswith("fpn_tf."):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader, self)
                return spec
        return None

    def begin(self):
        self.unfinished += 1

    def end(self):
        self.unfinished -= 1
        if not self.unfinished and self in sys.meta_path and sys.modules.get("keras") is not None:
            sys.meta_path.remove(self)
            register()


class _Loader(importlib.abc.Loader):
    """Another loader, which tells an `_AfterKeras` when it begins and ends, and then takes its place."""

    def __init__(self, loader, listener):
        self.loader, self.listener = loader, listener

    def __getattr__(self, name):  # what python -m asks a loader for
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.listener.begin()
        try:
            self.loader.exec_module(module)
        finally:
            self.listener.end()
