"""Weight files of others are read without running code from them."""

import io
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from fpn_tf.errors import WeightsError
from fpn_tf.pretrained import unpickle
from fpn_tf.pretrained.backbone_files import read_arrays

GOLDENS = pathlib.Path(__file__).parent / "goldens"
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
READERS = [unpickle.read_pth_without_torch, unpickle.read_pth]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["tensors.pth", "tensors_legacy.pth"])
def test_both_formats_of_pytorch(reader, name):
    value = reader(GOLDENS / name)
    assert value["epoch"] == 3
    found = value["model"]
    np.testing.assert_array_equal(found["shared"], BASE)
    np.testing.assert_array_equal(found["transposed"], BASE.T[1:])
    np.testing.assert_array_equal(found["half"], [0.5, -2])
    np.testing.assert_array_equal(found["bfloat16"], [1, 3.140625])
    np.testing.assert_array_equal(found["parameter"], [1, 1])
    assert found["counter"] == 7
    assert found["counter"].dtype == np.int64
    assert found["empty"].shape == (0, 3)


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def hostile_files(folder):
    value = {"model": {"a": Hostile(folder / "harm")}}
    (folder / "plain.pkl").write_bytes(pickle.dumps(value))
    with zipfile.ZipFile(folder / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value))
        archive.writestr("archive/version", "3")
    legacy = [pickle.dumps(part, protocol=2) for part in (unpickle.LEGACY_MAGIC, 1001, {}, value, [])]
    (folder / "legacy.pth").write_bytes(b"".join(legacy))
    (folder / "first.pth").write_bytes(pickle.dumps(Hostile(folder / "harm"), protocol=2))


@pytest.mark.parametrize("name", ["plain.pkl", "zip.pth", "legacy.pth", "first.pth"])
@pytest.mark.parametrize("with_torch", [True, False])
def test_a_hostile_file_has_no_effect(tmp_path, monkeypatch, name, with_torch):
    hostile_files(tmp_path)
    if not with_torch:
        monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(WeightsError, match=f"{name}: .*system"):
        read_arrays(tmp_path / name)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nset\n(I0\ntS'b'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    ],
)
def test_other_names_are_refused(tmp_path, program):
    (tmp_path / "w.pkl").write_bytes(program)
    with pytest.raises(WeightsError, match="w.pkl"):
        unpickle.read_pkl(tmp_path / "w.pkl")


def test_arrays_scalars_and_containers_of_any_protocol(tmp_path):
    value = {"a": BASE, "s": np.float32(2), "l": [1, (2.0, None)], "fortran": np.asfortranarray(BASE)}
    for protocol in range(6):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(value, protocol))
        found = unpickle.read_pkl(tmp_path / "w.pkl")
        np.testing.assert_array_equal(found["a"], BASE)
        np.testing.assert_array_equal(found["fortran"], BASE)
        assert found["s"] == 2
        assert found["l"] == [1, (2.0, None)]


def damaged(name, kind):
    data = (GOLDENS / name).read_bytes()
    if kind == "short":
        return data[:-40] if "legacy" in name else data[: len(data) // 2]
    if kind == "empty":
        return b""
    return b"\x80\x02" + bytes(50)


@pytest.mark.parametrize("kind", ["short", "empty", "noise"])
@pytest.mark.parametrize("name", ["tensors.pth", "tensors_legacy.pth"])
def test_a_damaged_file_is_one_line(tmp_path, name, kind):
    (tmp_path / "w.pth").write_bytes(damaged(name, kind))
    with pytest.raises(WeightsError, match="w.pth: .*expected a file of weights") as caught:
        unpickle.read_pth_without_torch(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_a_view_beyond_its_storage_is_refused():
    storage = unpickle._Storage("<f4", 3, struct.pack("<3f", 1, 2, 3))
    assert unpickle._Tensor(storage, 1, (2,), (1,)).numpy().tolist() == [2, 3]
    for offset, size, stride in ((2, (2,), (1,)), (0, (2, 2), (3, 1)), (0, (2,), (-1,)), (-1, (1,), (1,))):
        with pytest.raises(ValueError, match="beyond"):
            unpickle._Tensor(storage, offset, size, stride).numpy()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": {"a": "text"}}, "'a' is no tensor"),
        ([1, 2], "holds a list"),
        ({}, "holds a dict"),
    ],
)
def test_what_is_no_set_of_tensors(tmp_path, value, message):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(WeightsError, match=message):
        read_arrays(tmp_path / "w.pkl")
    with pytest.raises(WeightsError, match="expected a file ending in"):
        read_arrays(tmp_path / "w.bin")
    with pytest.raises(WeightsError, match=r"w.pth: No such file"):
        read_arrays(tmp_path / "w.pth")


def test_wrappings_come_off(tmp_path):
    buffer = io.BytesIO()
    pickle.dump({"model": {"module.a": BASE, "module.b": BASE}, "iteration": 9}, buffer)
    (tmp_path / "w.pkl").write_bytes(buffer.getvalue())
    assert set(read_arrays(tmp_path / "w.pkl")) == {"a", "b"}
