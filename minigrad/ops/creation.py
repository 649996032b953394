"""New tensors that are computed from nothing. They are made where `mg.use` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import backends
from ..tensor import Tensor

Shape = int | Sequence[int]


def _new(function: str, *args: Any, dtype: Any, backend: str | None) -> Tensor:
    xp = backends.get(backend) if backend else backends.current()
    return Tensor(getattr(xp, function)(*args, dtype=xp.dtype(backends.dtype_name(dtype))))


def zeros(shape: Shape, *, dtype: Any = backends.float32, backend: str | None = None) -> Tensor:
    """A tensor of zeros."""
    return _new("zeros", shape, dtype=dtype, backend=backend)


def ones(shape: Shape, *, dtype: Any = backends.float32, backend: str | None = None) -> Tensor:
    """A tensor of ones."""
    return _new("ones", shape, dtype=dtype, backend=backend)


def full(shape: Shape, value: float, *, dtype: Any = backends.float32, backend: str | None = None) -> Tensor:
    """A tensor with one value everywhere."""
    return _new("full", shape, value, dtype=dtype, backend=backend)


def arange(
    start: float, stop: float | None = None, step: float = 1, *, dtype: Any = None, backend: str | None = None
) -> Tensor:
    """start, start + step, ... up to, not including, stop; `arange(n)` counts from 0. int64 unless a float is given."""
    start, stop = (0, start) if stop is None else (start, stop)
    if dtype is None:
        dtype = backends.float32 if any(isinstance(v, float) for v in (start, stop, step)) else backends.int64
    return _new("arange", start, stop, step, dtype=dtype, backend=backend)


def eye(n: int, m: int | None = None, *, dtype: Any = backends.float32, backend: str | None = None) -> Tensor:
    """The identity matrix (n, n), or (n, m) with ones on the diagonal."""
    return _new("eye", n, m, dtype=dtype, backend=backend)


def from_dlpack(array: Any) -> Tensor:
    """A tensor that shares the memory of another library's array or tensor, on the CPU or the GPU where it lies.

    Raises DtypeError for a dtype that tensors do not have, such as float16.
    """
    device_type, _ = array.__dlpack_device__()
    shared = Tensor(backends.get("cupy" if device_type == 2 else "numpy").from_dlpack(array))
    backends.dtype_name(shared.dtype)  # raises for one that tensors do not have
    return shared
