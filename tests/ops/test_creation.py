"""Creation functions: where, of what dtype, with what values."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, errors, ops
from tests.conftest import BACKENDS
from tests.strategies import as_numpy

CALLS = {
    "zeros": (lambda **more: mg.zeros((2, 3), **more), lambda dtype: np.zeros((2, 3), dtype)),
    "zeros of one axis": (lambda **more: mg.zeros(3, **more), lambda dtype: np.zeros(3, dtype)),
    "ones": (lambda **more: mg.ones((2, 0), **more), lambda dtype: np.ones((2, 0), dtype)),
    "ones without axes": (lambda **more: mg.ones((), **more), lambda dtype: np.ones((), dtype)),
    "full": (lambda **more: mg.full((2,), 7, **more), lambda dtype: np.full((2,), 7, dtype)),
    "eye": (lambda **more: mg.eye(3, **more), lambda dtype: np.eye(3, dtype=dtype)),
    "eye, not square": (lambda **more: mg.eye(2, 3, **more), lambda dtype: np.eye(2, 3, dtype=dtype)),
    "arange": (lambda **more: mg.arange(4, **more), lambda dtype: np.arange(4, dtype=dtype)),
    "arange down": (lambda **more: mg.arange(5, 0, -2, **more), lambda dtype: np.arange(5, 0, -2, dtype=dtype)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("make, expected", CALLS.values(), ids=CALLS)
def test_they_make_what_numpy_makes_in_the_dtype_and_backend_asked_for(backend, dtype, make, expected):
    made = make(dtype=dtype, backend=backend)
    assert type(made.data) is backends.get(backend).array_type and not made.requires_grad
    assert backends.dtype_name(made.dtype) == dtype
    np.testing.assert_array_equal(as_numpy(made), expected(dtype), strict=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_they_make_float32_where_use_says_and_arange_integers_unless_given_a_float(backend):
    with mg.use(backend):
        for make in (mg.zeros, mg.ones, mg.eye):
            made = make(2)
            assert made.backend == backend and backends.dtype_name(made.dtype) == "float32"
        assert backends.dtype_name(mg.full(2, 1).dtype) == "float32"
        assert backends.dtype_name(mg.arange(3).dtype) == "int64"
        assert backends.dtype_name(mg.arange(0, 1, 0.25).dtype) == "float32"
        assert as_numpy(mg.arange(0, 1, 0.25)).tolist() == [0, 0.25, 0.5, 0.75]


def test_from_dlpack_shares_memory_with_an_array_or_a_tensor():
    array = np.arange(3.0)
    shared = ops.from_dlpack(array)
    array[1] = 7.0
    assert shared.tolist() == [0.0, 7.0, 2.0]
    assert np.shares_memory(ops.from_dlpack(mg.tensor(array)).data, array) is False
    tensor = mg.tensor(array)
    assert np.shares_memory(ops.from_dlpack(tensor).data, tensor.data)
    assert ops.from_dlpack(array_api_strict.ones(2)).tolist() == [1.0, 1.0]


def test_a_tensor_that_needs_a_gradient_is_not_shared_silently():
    with pytest.raises(errors.GraphError, match=r"share tensor.detach\(\)"):
        ops.from_dlpack(mg.tensor([1.0], requires_grad=True))


def test_an_unknown_backend_or_dtype_is_named():
    with pytest.raises(errors.ArgumentError, match=r"unknown backend 'torch'; there are: .*cupy"):
        mg.zeros(2, backend="torch")
    with pytest.raises(errors.DtypeError, match=r"float16.* is not one of bool, int32, int64, float32, float64"):
        mg.zeros(2, dtype="float16")
