"""Files of the version before: where their weights lie, read for one release."""

import contextlib
import io
import pathlib
import re
import tempfile

import h5py

from fpn_tf.config.old_names import WEIGHTS, note


def is_old(h5):
    """Whether an open HDF5 file of weights has the layout of the version before."""
    box_head = h5.get("box_head", {})
    return "fpn" in h5 or "layers" in h5 or (len(box_head) > 0 and "head" not in box_head)


def today(path):
    """The path of a weight in an HDF5 file of the version before -> its path now."""
    for pattern, replacement in WEIGHTS:
        if re.match(pattern, path):
            return re.sub(pattern, replacement, path)
    return path


@contextlib.contextmanager
def in_the_layout_of_today(path):
    """Yields the path of a `.weights.h5` in today's layout: `path` itself, or that of a copy."""
    with h5py.File(path, "r") as h5:
        if not is_old(h5):
            yield path
            return
        with _translated(h5) as translated:
            note(f"{path}: written by the version before")
            yield translated


@contextlib.contextmanager
def _translated(h5):
    """Yields the path of a copy of an open HDF5 file, its weights under the paths of today."""
    with tempfile.TemporaryDirectory() as folder:
        path, file = pathlib.Path(folder) / "model.weights.h5", io.BytesIO()
        with h5py.File(file, "w") as target:  # in memory: HDF5 does not survive a disk that runs full

            def copy(name, value):
                if isinstance(value, h5py.Dataset):
                    h5.copy(value, target, today(name))

            h5.visititems(copy)
        path.write_bytes(file.getbuffer())
        yield path


def read_old_archive_next(model):
    """Has `keras.saving.load_model` find the weights of a `.keras` archive of the version before.

    Keras asks each layer in turn to read its own variables from where they lie in today's layout. The
    model, which it asks first, reads them all; each other layer is asked once and reads nothing.
    """

    def read_all(entry):
        del model.load_own_variables
        if entry.h5_file and is_old(entry.h5_file):
            with _translated(entry.h5_file) as path:
                model.load_weights(path)
            for layer in model._flatten_layers(include_self=False):
                layer.load_own_variables = _read_nothing_once(layer)

    model.load_own_variables = read_all


def _read_nothing_once(layer):
    def read_nothing(entry):
        del layer.load_own_variables

    return read_nothing
