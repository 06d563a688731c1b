"""Weight files of other libraries as NumPy arrays, without ever running code from them.

A pickle is a program. These functions let it build NumPy arrays, tensors and plain containers;
anything else that it names is refused before it is touched.
"""

import collections
import contextlib
import io
import pickle
import struct
import types
import zipfile

import numpy as np

from fpn_tf.errors import WeightsError

TORCH_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a .pth older than PyTorch 1.6
ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def read_pkl(path):
    """The contents of a `.pkl` of NumPy arrays and plain containers.

    Args:
        path: of the file; Python 2's pickles are read too.

    Raises:
        WeightsError: the file is absent, damaged, or names anything else.
    """
    with _errors_in_one_line(path), open(path, "rb") as file:
        return _NumPyUnpickler(file, encoding="latin1").load()


def read_pth(path):
    """The contents of a `.pth`, its tensors as NumPy arrays.

    PyTorch reads it if it is installed (`weights_only=True`), a reader of its two formats
    otherwise.

    Raises:
        WeightsError: the file is absent, damaged, or names anything but tensors and containers.
    """
    try:
        import torch
    except ImportError:
        return read_pth_without_torch(path)
    with _errors_in_one_line(path):
        try:
            value = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise ValueError(str(error).splitlines()[0]) from None
        return _map_tensors(value, torch)


def read_pth_without_torch(path):
    """`read_pth` where PyTorch is not installed."""
    with _errors_in_one_line(path), open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            return _read_zip(file)
        file.seek(0)
        return _read_legacy(file)


@contextlib.contextmanager
def _errors_in_one_line(path):
    """A context that turns whatever reading a file may raise into a WeightsError."""
    try:
        yield
    except ERRORS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise WeightsError(f"{path}: {reason}; expected a file of weights") from None


def _map_tensors(value, torch):
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, dict):
        return {key: _map_tensors(item, torch) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_tensors(item, torch) for item in value]
    return value


# What a pickle may name ----------------------------------------------------------------------


def _reconstruct(kind, shape, typecode):
    """As NumPy's `_reconstruct`, for arrays alone."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.ndarray((0,), "b")


def _scalar(dtype, data=b""):
    if dtype.hasobject:
        raise pickle.UnpicklingError("a NumPy scalar of dtype object")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)[0]


def _frombuffer(data, dtype, shape, order):
    """As NumPy's `_frombuffer`, by which protocol 5 writes arrays."""
    if dtype.hasobject:
        raise pickle.UnpicklingError("an array of dtype object")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _encode(text, encoding="latin1"):
    """As `codecs.encode`, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoded as {encoding}")
    return text.encode("latin1")


PLAIN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): _encode,
}
NUMPY = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    NUMPY |= {(_module, "_reconstruct"): _reconstruct, (_module, "scalar"): _scalar}
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    NUMPY[_module, "_frombuffer"] = _frombuffer


class _Unpickler(pickle.Unpickler):
    """Admits PLAIN and what a subclass lists in `admitted`."""

    admitted = types.MappingProxyType({})

    def find_class(self, module, name):
        admitted = self.admitted.get((module, name)) or PLAIN.get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no weights need; refused")
        return admitted


class _NumPyUnpickler(_Unpickler):
    admitted = NUMPY


class _Storage:
    """A run of numbers that tensors look into."""

    def __init__(self, dtype, count, values=None):
        self.dtype, self.count, self.values = dtype, count, values


class _Tensor:
    """A view that is made when all storages have been read."""

    def __init__(self, storage, offset, size, stride, *rest):
        self.storage, self.offset = storage, int(offset)
        self.size, self.stride = tuple(map(int, size)), tuple(map(int, stride))

    def numpy(self):
        values = _as_array(self.storage)
        count = int(np.prod(self.size))
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride))
        if min(self.stride + self.size + (self.offset, 0)) < 0 or (count and last >= len(values)):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [s * values.itemsize for s in self.stride]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.size, strides)
        return np.array(view)  # a copy: the storage can be freed


def _as_array(storage):
    if storage.values is None:
        raise ValueError("a storage is missing")
    if storage.dtype != "bfloat16":
        return np.frombuffer(storage.values, np.dtype(storage.dtype))
    halves = np.frombuffer(storage.values, "<u2").astype("<u4")
    return (halves << 16).view("<f4")  # a bfloat16 is the upper half of a float32


def _rebuild_parameter(tensor, *rest):
    return tensor


class _TorchUnpickler(_Unpickler):
    """Reads PyTorch's pickles; `storage_of(key, dtype, count)` hands out the storages."""

    admitted = NUMPY | {
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("torch", "Size"): tuple,
    }

    def __init__(self, file, storage_of):
        super().__init__(file, encoding="latin1")
        self.storage_of = storage_of

    def find_class(self, module, name):
        if module == "torch" and name in TORCH_DTYPES:
            return TORCH_DTYPES[name]
        return super().find_class(module, name)

    def persistent_load(self, pid):
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or dtype not in TORCH_DTYPES.values() or any(v is not None for v in view):
            raise pickle.UnpicklingError(f"refers to {pid!r}, expected a storage")
        return self.storage_of(str(key), dtype, int(count))


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        [root] = [n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")]
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written by a big-endian machine")

        def storage_of(key, dtype, count):
            return _Storage(dtype, count, archive.read(f"{root}data/{key}"))

        return _materialize(_TorchUnpickler(archive.open(f"{root}data.pkl"), storage_of).load())


def _read_legacy(file):
    """Magic number, protocol, system, the value, the order of the storages, the storages."""
    storages = {}

    def storage_of(key, dtype, count):
        return storages.setdefault(key, _Storage(dtype, count))

    # Each of the five is a pickle; the unpickler stops right behind it.
    data = io.BytesIO(file.read())
    magic, protocol, _ = (_TorchUnpickler(data, storage_of).load() for _ in range(3))
    if magic != LEGACY_MAGIC or protocol != 1001:
        raise ValueError("not PyTorch's format")
    value = _TorchUnpickler(data, storage_of).load()
    for key in _TorchUnpickler(data, storage_of).load():
        storage = storages[str(key)]
        [count] = struct.unpack("<q", data.read(8))
        size = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
        storage.values = data.read(count * size)
        if count != storage.count or len(storage.values) != count * size:
            raise ValueError("the file is cut short")
    return _materialize(value)


def _materialize(value):
    if isinstance(value, _Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _materialize(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_materialize(item) for item in value]
    return value
