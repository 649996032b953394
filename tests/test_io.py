"""Tensors in files: what goes in comes out, and a file is whole or not there."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import io, nn
from minigrad.errors import DtypeError, FileFormatError

from .strategies import LAYOUTS, SEEDS, as_numpy, as_tensor, laid_out, shapes

DTYPES = ["float32", "float64", "int32", "int64", "bool"]


@given(shape=shapes(), dtype=st.sampled_from(DTYPES), layout=st.sampled_from(LAYOUTS), seed=SEEDS)
def test_a_tensor_of_any_dtype_shape_and_layout_comes_back_bit_for_bit(tmp_path_factory, shape, dtype, layout, seed):
    path = tmp_path_factory.getbasetemp() / "round trip"
    rng = np.random.default_rng(seed)
    values = laid_out(
        (rng.integers(0, 2, shape) if dtype == "bool" else 100 * rng.normal(size=shape)).astype(dtype), layout
    )
    io.save(path, {"tensor": as_tensor(values, "numpy"), "array": values})
    found, metadata = io.load(path)
    assert list(found) == ["array", "tensor"]
    assert metadata == {}
    for tensor in found.values():
        assert (tensor.dtype, tensor.shape, tensor.requires_grad) == (values.dtype, shape, False)
        assert tensor.numpy().tobytes() == np.ascontiguousarray(values).tobytes()


def test_nan_infinity_and_minus_zero_survive(tmp_path):
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    io.save(tmp_path / "f", {"x": mg.tensor(values)})
    assert io.load(tmp_path / "f")[0]["x"].numpy().tobytes() == values.tobytes()


@given(st.dictionaries(st.text(), st.text()))
def test_strings_are_kept_beside_the_tensors(tmp_path_factory, metadata):
    path = tmp_path_factory.getbasetemp() / "metadata"
    io.save(path, {}, metadata)
    assert io.load(path) == ({}, metadata)


def test_tensors_of_every_backend_are_saved_and_loaded_where_they_are_wanted(tmp_path, backend):
    path = tmp_path / "f"
    io.save(path, {"x": mg.tensor([1.0, 2.0], requires_grad=True, backend=backend)})
    assert io.load(path)[0]["x"].backend == "numpy"
    with mg.use(backend):
        assert io.load(path)[0]["x"].backend == backend
    x = io.load(path, backend=backend)[0]["x"]
    assert (x.backend, x.tolist()) == (backend, [1.0, 2.0])


def test_a_module_comes_back_from_a_file_as_it_was(tmp_path, backend):
    net, other = (nn.Recurrent(nn.LSTMCell, 2, 3) for _ in range(2))
    net.to(backend)
    io.save(tmp_path / "f", net.state_dict())
    other.load_state_dict(io.load(tmp_path / "f")[0])
    for p, q in zip(net.parameters(), other.parameters()):
        assert (as_numpy(p) == q.numpy()).all()


def test_other_libraries_read_the_file(tmp_path):
    io.save(tmp_path / "f", {"x": mg.tensor([[1.0, 2.0]])})
    assert safetensors.numpy.load_file(tmp_path / "f")["x"].tolist() == [[1.0, 2.0]]


def test_the_file_is_laid_out_as_the_published_format_says(tmp_path):
    """8 bytes: the length of the header, little-endian; the header, JSON; the bytes of the tensors in order."""
    io.save(tmp_path / "f", {"x": mg.tensor([1.0, -2.0])}, {"by": "me"})
    content = (tmp_path / "f").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    assert header == {"__metadata__": {"by": "me"}, "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    assert content[8 + size :] == struct.pack("<2f", 1.0, -2.0)


def test_a_file_of_another_library_is_read(tmp_path):
    safetensors.numpy.save_file({"w": np.arange(6.0).reshape(3, 2)}, tmp_path / "f")
    assert io.load(tmp_path / "f")[0]["w"].tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize("dtype", ["F8_E4M3", "BF16", "U8", "F16"])
def test_a_dtype_that_tensors_do_not_have_is_refused_by_an_error_of_ours(tmp_path, dtype):
    size = 2 if "16" in dtype else 1
    header = json.dumps({"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}).encode()
    (tmp_path / "f").write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(DtypeError, match=f"x is of the dtype {dtype}"):
        io.load(tmp_path / "f")


def test_the_folder_is_made(tmp_path):
    io.save(tmp_path / "a" / "b" / "f", {"x": mg.ones((1,))})
    assert os.listdir(tmp_path / "a" / "b") == ["f"]


def test_a_path_may_be_a_string_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io.save("f", {"x": mg.ones((1,))})
    assert io.load("f")[0]["x"].tolist() == [1.0]


@pytest.mark.parametrize("failure", ["no array", "metadata", "while writing", "interrupted"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, failure):
    path = tmp_path / "f"
    io.save(path, {"x": mg.ones((2,))}, {"old": "yes"})
    old = path.read_bytes()

    def broken(part, path):
        assert os.path.getsize(part)
        raise KeyboardInterrupt if failure == "interrupted" else OSError("the disk is full")

    if failure in ("while writing", "interrupted"):
        monkeypatch.setattr(os, "replace", broken)
    tensors = {"x": "no array" if failure == "no array" else mg.zeros((2,))}
    metadata = {"number": 1} if failure == "metadata" else None
    with pytest.raises((DtypeError, OSError, KeyboardInterrupt)):
        io.save(path, tensors, metadata)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["f"]


def test_saving_again_replaces_the_file(tmp_path):
    for value in (1.0, 2.0):
        io.save(tmp_path / "f", {"x": mg.full((3,), value)})
    assert io.load(tmp_path / "f")[0]["x"].tolist() == [2.0] * 3
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        io.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[:5], lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b"\xff" * 8 + b[8:],
     lambda b: b[:8] + b"{not json" + b[17:], lambda b: b + b"more", lambda b: b"some text\n" * 20],
    ids=["empty", "no header", "a byte short", "half", "huge header", "no JSON", "a tail", "a text"],
)  # fmt: skip
def test_a_damaged_file_is_named_and_never_half_read(tmp_path, damage):
    path = tmp_path / "weights"
    io.save(path, {"x": mg.ones((50,))})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match="weights is not a complete safetensors file"):
        io.load(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileFormatError, match="not a complete safetensors file"):
        io.load(tmp_path)


def test_a_file_of_weights_can_be_read_by_whoever_may_read_new_files(tmp_path):
    (tmp_path / "other").write_text("")
    mg.io.save(tmp_path / "w", {"w": mg.ones((1,))})
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_a_link_to_the_new_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "w")
    mg.io.save(tmp_path / "link", {"w": mg.ones((1,))})
    assert (tmp_path / "link").is_symlink() and mg.io.load(tmp_path / "w")[0]["w"].tolist() == [1.0]


@pytest.mark.parametrize(
    "tensors, metadata, message",
    [
        (nn.Linear(1, 1), None, "state_dict"),
        ({"w": [1.0]}, None, "got list under 'w'"),
        ({1: np.ones(1)}, None, "under 1"),
        ({"w": np.ones(1, "float16")}, None, "float16"),
        ({"w": np.ones(1)}, {"epoch": 1}, "metadata holds strings"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_written(tmp_path, tensors, metadata, message):
    with pytest.raises(mg.errors.DtypeError, match=message):
        mg.io.save(tmp_path / "w", tensors, metadata)
    assert not list(tmp_path.iterdir())


def test_loading_the_pair_that_load_returns_is_refused_with_the_way_out(tmp_path):
    layer = nn.Linear(1, 1)
    mg.io.save(tmp_path / "w", layer.state_dict())
    with pytest.raises(mg.errors.DtypeError, match=r"mg.io.load gives \(tensors, metadata\)"):
        layer.load_state_dict(mg.io.load(tmp_path / "w"))
