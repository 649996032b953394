"""The namespaces: which is current, whose array is this, and that the slow definitions equal the fast ones."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import operator
import os
import subprocess
import sys
import textwrap
import types

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import backends
from minigrad.errors import (
    ArgumentError,
    BackendMismatchError,
    BackendUnavailableError,
    DtypeError,
    OutOfRangeError,
    ShapeError,
)

from .conftest import STRICT

CREATORS = {
    "tensor": lambda: mg.tensor([1.0]),
    "tensor of an array": lambda: mg.tensor(np.ones(2)),
    "zeros": lambda: mg.zeros((2,)),
    "ones": lambda: mg.ones((2,)),
    "full": lambda: mg.full((2,), 3.0),
    "arange": lambda: mg.arange(3),
    "eye": lambda: mg.eye(2),
    "normal": lambda: mg.random.normal((2,)),
    "uniform": lambda: mg.random.uniform((2,)),
}
NO_CUPY = importlib.util.find_spec("cupy") is None


# Which is current


@pytest.mark.parametrize("name", CREATORS)
def test_creation_follows_use_within_its_block(name):
    with mg.use("array_api_strict"):
        assert CREATORS[name]().backend == "array_api_strict"
        with mg.use("numpy"):
            assert CREATORS[name]().backend == "numpy"
        assert CREATORS[name]().backend == "array_api_strict"
    assert CREATORS[name]().backend == "numpy"


def test_use_without_a_block_holds_from_there_on():
    before = backends._current.get()
    try:
        mg.use("array_api_strict")
        assert mg.zeros((2,)).backend == "array_api_strict"
    finally:
        backends._current.set(before)


def test_use_ends_with_its_block_when_that_raises():
    with pytest.raises(KeyError), mg.use("array_api_strict"):
        raise KeyError
    assert mg.zeros(()).backend == "numpy"


def test_use_does_not_move_what_exists_and_a_backend_that_is_named_wins():
    x = mg.ones((2,))
    with mg.use("array_api_strict"):
        assert (x * 2.0).backend == "numpy" and mg.tensor(x).backend == "numpy"
        assert mg.ones((2,), backend="numpy").backend == mg.tensor([1.0], backend="numpy").backend == "numpy"
    assert mg.tensor(STRICT.ones((2,))).backend == "array_api_strict"


def test_the_environment_variable_is_the_default(monkeypatch):
    monkeypatch.setenv("MINIGRAD_BACKEND", "array_api_strict")
    assert mg.zeros(()).backend == "array_api_strict"
    with mg.use("numpy"):
        assert mg.zeros(()).backend == "numpy"
    monkeypatch.setenv("MINIGRAD_BACKEND", "")
    assert mg.zeros(()).backend == "numpy"


@pytest.mark.parametrize("name", ["abacus", "NumPy", ""])
def test_an_unknown_backend_is_refused_with_the_list_of_those_there_are(name):
    with pytest.raises(ArgumentError, match=f"unknown backend {name!r}.*numpy") as caught:
        mg.use(name)
    assert "cupy" in str(caught.value)
    assert mg.zeros(()).backend == "numpy"


def test_an_unknown_backend_in_the_environment_is_refused_when_it_is_needed(monkeypatch):
    monkeypatch.setenv("MINIGRAD_BACKEND", "abacus")
    with pytest.raises(ArgumentError, match="abacus"):
        mg.zeros(())


@pytest.mark.skipif(not NO_CUPY, reason="CuPy is installed")
@pytest.mark.parametrize(
    "need",
    [
        lambda: mg.use("cupy"),
        lambda: mg.tensor(1.0, backend="cupy"),
        lambda: mg.tensor(1.0).to("cupy"),
        lambda: mg.zeros((2,), backend="cupy"),
    ],
)
def test_without_cupy_one_line_names_the_extra_to_install(need):
    with pytest.raises(BackendUnavailableError, match=r"'minigrad\[cuda12\]'") as caught:
        need()
    assert isinstance(caught.value, ImportError) and "\n" not in str(caught.value)
    assert mg.zeros(()).backend == "numpy"


def asked_of_cupy():
    """The names, dotted, that `backends` asks of the module of CuPy, and the attributes of its arrays."""
    asked = {name for name in backends.STANDARD if not hasattr(backends.CuPy, name)}
    for kind in (backends.Namespace, backends._NumPyLike, backends.CuPy):
        source = textwrap.dedent(inspect.getsource(kind)).replace("cuda_random.", "self.module.random.")
        written = {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
        asked |= {name.removeprefix("self.module.") for name in written if name.startswith("self.module.")}
        asked |= {name.removeprefix("cupy.") for name in written if name.startswith("cupy.")}
    asked = {name for name in asked if "(" not in name}  # what is asked of a result
    return sorted(asked), ["mT", "copy", "ndim", "shape", "dtype", "__dlpack__"]


def test_the_names_that_are_asked_of_cupy_are_found_in_the_source():
    names, _ = asked_of_cupy()
    assert {"asnumpy", "tanh", "add.at", "random.Philox4x3210", "cuda.runtime.getDeviceCount"} <= set(names)


@pytest.mark.skipif(NO_CUPY, reason="CuPy is not installed")
def test_all_that_is_asked_of_cupy_is_in_the_one_that_is_installed():
    """It can be imported without a GPU."""
    cupy = importlib.import_module("cupy")
    names, attributes = asked_of_cupy()
    missing = []
    for name in names:
        try:
            operator.attrgetter(name)(cupy)
        except AttributeError:
            missing.append(name)
    assert missing == [] and [name for name in attributes if not hasattr(cupy.ndarray, name)] == []


def test_a_cupy_that_finds_no_gpu_is_unavailable_too(monkeypatch):
    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        raise CUDARuntimeError("no CUDA-capable device is detected")

    runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(BackendUnavailableError, match=r"no GPU.*no CUDA-capable device"):
        backends.CuPy()


@pytest.mark.skipif(not NO_CUPY, reason="CuPy is installed")
def test_a_fresh_process_imports_without_cupy_and_says_so_at_the_first_creation():
    program = "import minigrad as mg\nprint('imported')\ntry: mg.zeros(())\nexcept ImportError as error: print(error)"
    environment = {**os.environ, "MINIGRAD_BACKEND": "cupy"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    first, second = run.stdout.splitlines()
    assert first == "imported" and "minigrad[cuda12]" in second


# Whose array is this


def test_the_type_of_an_array_says_its_namespace():
    assert backends.namespace_of(np.zeros(2)) is backends.numpy
    assert backends.namespace_of(np.float32(1)) is backends.numpy
    assert backends.namespace_of(np.zeros((2, 2)).view(np.matrix)) is backends.numpy
    assert backends.namespace_of(STRICT.zeros((2,))) is STRICT
    assert backends.namespace_of(mg.zeros(())) is mg.ops


@pytest.mark.parametrize("thing", [1.0, [1.0], None, "a", object()])
def test_what_is_no_array_has_no_namespace(thing):
    assert not backends.is_array(thing)
    with pytest.raises(DtypeError, match=rf"{type(thing).__name__} is no array.*mg\.tensor"):
        backends.namespace_of(thing)


def test_a_tensor_has_a_namespace_but_is_no_array():
    assert not backends.is_array(mg.zeros(())) and backends.is_array(np.zeros(())) and backends.is_array(STRICT.eye(1))


def test_mixing_names_the_operation_both_backends_and_the_way_out():
    with pytest.raises(BackendMismatchError, match=r'^stuff: .*"numpy" and of "array_api_strict".*\.to\("numpy"\)'):
        backends.require_same("stuff", [np.zeros(1), np.zeros(2), STRICT.zeros((1,))])
    assert backends.require_same("stuff", [np.zeros(1), np.float64(2)]) is backends.numpy


def test_a_namespace_that_is_registered_is_found_by_name_and_by_type(monkeypatch):
    class Array(np.ndarray):
        pass

    monkeypatch.setattr(backends, "namespaces", dict(backends.namespaces))
    monkeypatch.setattr(backends, "_by_name", dict(backends._by_name))
    new = backends.register(backends.Namespace("new", array_api_strict, Array))
    assert backends.get("new") is new
    assert backends.namespace_of(np.zeros(2).view(Array)) is new
    assert repr(new) == "<the arrays of new>"


# What a namespace offers


@pytest.mark.parametrize("name", backends.STANDARD)
def test_every_backend_offers_every_function_of_the_closed_list_as_its_library_does(name, backend):
    xp = backends.get(backend)
    assert callable(getattr(xp, name)) and hasattr(xp.module, name)


def test_every_function_of_the_closed_list_is_standard():
    assert set(backends.STANDARD) <= set(dir(array_api_strict))
    assert len(set(backends.STANDARD)) == len(backends.STANDARD)


def test_the_dtypes_are_the_librarys_own(backend):
    xp = backends.get(backend)
    for name in backends.DTYPES:
        assert xp.zeros((1,), dtype=xp.dtype(name)).dtype == xp.dtype(name)
        assert backends.dtype_name(xp.dtype(name)) == name
        assert backends.is_floating(xp.zeros((1,), dtype=xp.dtype(name))) == (name in backends.FLOATING)
        kind = {"b": "boolean", "i": "integer", "f": "float"}[name[0]]
        assert backends.kind_of(xp.zeros((1,), dtype=xp.dtype(name))) == kind


@pytest.mark.parametrize("dtype", ["float16", "uint8", "complex64", "nonsense", np.dtype("U3"), object(), None])
def test_other_dtypes_are_refused_with_the_list_of_those_there_are(dtype):
    if dtype is None:
        assert backends.dtype_name(dtype) == "float64"  # as NumPy has it
        return
    with pytest.raises(DtypeError, match="is not one of bool, int32, int64, float32, float64"):
        backends.dtype_name(dtype)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)))
def test_arrays_go_from_and_to_numpy_as_they_are(array):
    for xp in (backends.numpy, STRICT):
        there = xp.from_numpy(array)
        assert type(there) is xp.array_type
        assert not np.shares_memory(np.asarray(there), array) or not array.size
        back = xp.to_numpy(there)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


# What the standard lacks: the slow definitions, NumPy's fast ones, and NumPy itself

SLOW = backends.Namespace("slow", np, np.ndarray)  # the definitions for any library, on NumPy's arrays
FAST = backends.numpy
arrays = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4), elements=st.integers(-9, 9).map(float))


@st.composite
def keys(draw, shape: tuple[int, ...]) -> tuple:
    """Keys as `Namespace.index` takes them, at least one part an array of integers or none of them."""
    if draw(st.booleans()):
        key = draw(hnp.basic_indices(shape, allow_newaxis=True))
        return key if isinstance(key, tuple) else (key,)
    result = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
    among = draw(st.integers(1, len(shape)))
    chosen = draw(result)
    integers = [
        draw(hnp.arrays(np.int64, chosen, elements=st.integers(-n, n - 1))) if n else np.zeros((0,), np.int64)
        for n in shape[:among]
    ]
    return (*integers, *draw(st.sampled_from([(), (...,)])))


@given(st.data())
def test_index_is_numpys_and_scatter_its_adjoint(data):
    x = data.draw(arrays)
    key = data.draw(keys(x.shape))
    y = x[key]
    g = data.draw(hnp.arrays(np.float64, np.shape(y), elements=st.integers(-9, 9).map(float)))
    expected = np.zeros_like(x)
    np.add.at(expected, key, g)
    for xp in (SLOW, FAST):
        np.testing.assert_array_equal(xp.index(x, key), y)
        np.testing.assert_array_equal(xp.scatter(g, key, x.shape), expected)
        np.testing.assert_array_equal(xp.scatter_sum([(g, key), (2 * g, key)], x.shape), 3 * expected)
    strict_key = tuple(STRICT.from_numpy(k) if isinstance(k, np.ndarray) else k for k in key)
    np.testing.assert_array_equal(np.asarray(STRICT.index(STRICT.from_numpy(x), strict_key)), y)
    scattered = STRICT.scatter(STRICT.from_numpy(np.asarray(g)), strict_key, x.shape)
    np.testing.assert_array_equal(np.asarray(scattered), expected)


@given(
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=6), elements=st.integers(-5, 4)),
    hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_rows_added_in_sorted_runs_are_those_that_add_at_adds(rows, rest, seed, broadcast):
    shape = (5, *rest)
    rng = np.random.default_rng(seed)
    g = rng.integers(-9, 10, rest if broadcast else (*rows.shape, *rest)).astype(np.float64)
    total = rng.integers(-9, 10, shape).astype(np.float64)
    expected = total.copy()
    np.add.at(expected, (rows,), g)
    FAST.add_at(total, (rows,), g)
    np.testing.assert_array_equal(total, expected)  # integers: exact in any order


@pytest.mark.parametrize("row", [3, -4, 100])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2)])
def test_rows_out_of_range_are_refused_whichever_way_they_are_added(row, shape, backend):
    x = mg.zeros(shape, backend=backend)
    key = mg.tensor(np.array([0, row]), backend=backend)
    with pytest.raises(OutOfRangeError, match=r"^index_add"):
        mg.index_add(x, key, mg.ones((2, *shape[1:]), backend=backend))
    with pytest.raises(OutOfRangeError, match=r"^scatter"):
        mg.scatter(mg.ones((2, *shape[1:]), backend=backend), key, shape)


@given(st.data())
def test_index_update_writes_what_numpy_writes_into_a_copy(data):
    x = data.draw(arrays)
    key = data.draw(hnp.basic_indices(x.shape))
    key = key if isinstance(key, tuple) else (key,)
    expected = x.copy()
    values = np.arange(float(np.size(x[key]))).reshape(np.shape(x[key]))
    for new in (values, 7.0):
        expected[key] = new
        before = x.copy()
        for xp in (SLOW, FAST, STRICT):
            theirs = xp.from_numpy(np.asarray(new)) if isinstance(new, np.ndarray) else new
            updated = xp.index_update(xp.from_numpy(x) if xp is STRICT else x, key, theirs)
            np.testing.assert_array_equal(np.asarray(updated), expected)
        np.testing.assert_array_equal(x, before)


@given(arrays, st.data())
def test_split_and_unstack_are_numpys_and_views(x, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[axis]), max_size=3)))
    sizes = tuple(np.diff([0, *cuts, x.shape[axis]]).tolist())
    expected = np.split(x, cuts, axis=axis)
    for xp in (SLOW, FAST):
        parts = xp.split(x, sizes, axis=axis)
        assert [p.shape for p in parts] == [e.shape for e in expected]
        for part, e in zip(parts, expected):
            np.testing.assert_array_equal(part, e)
            assert not part.size or np.shares_memory(part, x)
        slices = xp.unstack(x, axis=axis)
        np.testing.assert_array_equal(np.stack(slices, axis=axis), x)
        assert all(type(s) is np.ndarray and np.shares_memory(s, x) for s in slices)
    strict = STRICT.from_numpy(x)
    np.testing.assert_array_equal(np.asarray(STRICT.concat(STRICT.split(strict, sizes, axis=axis), axis=axis)), x)
    np.testing.assert_array_equal(np.asarray(STRICT.stack(STRICT.unstack(strict, axis=axis), axis=axis)), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("xp", [SLOW, FAST, STRICT], ids=repr)
def test_sigmoid_is_accurate_to_rounding_without_a_warning_everywhere(xp, dtype):
    x = np.concatenate([np.linspace(-80, 80, 1001), [-1e4, 1e4, 0.0, -0.0]]).astype(dtype)
    exact = np.empty(x.shape, np.longdouble)
    np.divide(1, 1 + np.exp(-x.astype(np.longdouble)), out=exact)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = np.asarray(xp.sigmoid(xp.from_numpy(x)))
    assert y.dtype == dtype
    # exp (2.5 ulp), a sum and a quotient (half each); beyond the largest exponent the limit is missed by less than tiny
    np.testing.assert_allclose(y, exact.astype(dtype), rtol=6 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
@pytest.mark.parametrize("xp", [SLOW, FAST, STRICT], ids=repr)
def test_sigmoid_gives_an_array_of_the_same_shape_and_leaves_its_input(xp, shape):
    x = xp.from_numpy(np.full(shape, 2.0))
    y = xp.sigmoid(x)
    assert np.shape(y) == shape and np.all(np.asarray(x) == 2.0)
    assert np.all(np.abs(np.asarray(xp.sigmoid(xp.from_numpy(np.array([np.nan, np.inf]))))[1:] - 1) == 0)
    assert np.isnan(np.asarray(xp.sigmoid(xp.from_numpy(np.array([np.nan])))))


def test_random_numbers_depend_on_the_key_alone_and_are_uniform():
    for xp in (SLOW, FAST, STRICT):
        a, b, c = (np.asarray(xp.random(key, (4000,))) for key in (1, 1, 2))
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, np.asarray(FAST.random(1, (4000,))))
        assert (a != c).mean() > 0.99 and a.dtype == np.float32 and a.min() >= 0 and a.max() < 1
        # five standard deviations of a mean of 4000 uniform numbers, and of their mean square
        assert abs(a.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / 4000)
        assert abs((a**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / 4000)


@given(
    hnp.mutually_broadcastable_shapes(signature="(n,k),(k,m)->(n,m)", max_dims=2, max_side=3, min_side=0),
    st.integers(0, 99),
)
def test_matmul_is_numpys(shapes, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-9, 10, shape).astype(np.float64) for shape in shapes.input_shapes)
    np.testing.assert_array_equal(FAST.matmul(a, b), np.matmul(a, b))
    assert type(FAST.matmul(a, b)) is np.ndarray


@given(arrays, st.data())
def test_sum_is_numpys(x, data):
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1) | st.just(tuple(range(x.ndim))))
    for keepdims in (False, True):
        np.testing.assert_array_equal(
            FAST.sum(x, axis=axis, keepdims=keepdims), np.sum(x, axis=axis, keepdims=keepdims)
        )


# as_array and as_number


@pytest.mark.parametrize("value", [np.float32(2.0), np.array(2.0), np.int64(2), np.True_, np.array(2)])
def test_numpys_scalars_and_0d_arrays_become_python_numbers(value):
    number = backends.as_number(value)
    assert number == value and type(number) in (float, int, bool)


@pytest.mark.parametrize("value", [np.ones(1), 2.0, "a", None, mg.ones(())])
def test_anything_else_is_no_number_and_stays(value):
    assert backends.as_number(value) is value


def test_as_array_copies_from_any_backend_into_any(backend):
    xp = backends.get(backend)
    for source in (np.arange(3.0), STRICT.from_numpy(np.arange(3.0)), [0.0, 1.0, 2.0]):
        array = backends.as_array(source, dtype="float64", namespace=xp)
        assert type(array) is xp.array_type and backends.dtype_name(array.dtype) == "float64"
        np.testing.assert_array_equal(xp.to_numpy(array), np.arange(3.0))
        assert array is not source


def test_a_formula_that_fails_in_the_library_is_reported_with_the_operation_and_what_it_got(backend):
    x = mg.ones((2, 3), backend=backend)
    for _ in range(2):
        with pytest.raises(ShapeError, match=r"reshape\(float32\(2, 3\), shape=\(4,\)\)"):
            mg.reshape(x, (4,))
