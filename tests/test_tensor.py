"""The contract of Tensor: how it is made, shown, shared and refused; its mathematics is tested with the ops."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import errors
from minigrad.errors import (
    ArgumentError,
    BackendMismatchError,
    DtypeError,
    GraphError,
    InPlaceError,
    MinigradError,
    OutOfRangeError,
    ShapeError,
)


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(values, requires_grad=True)


def computed() -> mg.Tensor:
    return leaf(1.0, 2.0) * 3.0


# Errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ShapeError, ValueError),
        (errors.ArgumentError, ValueError),
        (errors.DtypeError, TypeError),
        (errors.OutOfRangeError, IndexError),
        (errors.BackendMismatchError, TypeError),
        (errors.BackendUnavailableError, ImportError),
        (errors.GraphError, RuntimeError),
        (errors.InPlaceError, TypeError),
        (errors.AnomalyError, ArithmeticError),
        (errors.FileFormatError, ValueError),
        (errors.GradcheckError, AssertionError),
    ],
)
def test_every_error_is_a_minigrad_error_and_the_builtin_a_user_would_catch(error, builtin):
    assert issubclass(error, MinigradError) and issubclass(error, builtin)


def test_the_family_has_no_member_that_is_no_builtin():
    for error in vars(errors).values():
        if isinstance(error, type) and error is not MinigradError:
            assert issubclass(error, MinigradError) and len(error.__bases__) == 2


# Making one


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (3, "float32", ()),
        (2.5, "float32", ()),
        (True, "bool", ()),
        ([1, 2], "float32", (2,)),
        ([[1, 2.5]], "float32", (1, 2)),
        ((1.0, 2.0), "float32", (2,)),
        (range(3), "float32", (3,)),
        ([True, False], "bool", (2,)),
        ([], "float32", (0,)),
        ([[], []], "float32", (2, 0)),
        (np.array([1, 2]), "int64", (2,)),
        (np.array([1, 2], np.int32), "int32", (2,)),
        (np.array([1.0]), "float64", (1,)),
        (np.array([1.0], np.float32), "float32", (1,)),
        (np.array(True), "bool", ()),
        (np.float64(1.0), "float64", ()),
        ([np.float64(1.0)], "float32", (1,)),
        ([np.array([1.0, 2.0])], "float32", (1, 2)),
        (np.ones((2, 2)).view(np.matrix), "float64", (2, 2)),
    ],
)
def test_arrays_keep_their_dtype_and_python_numbers_become_float32(data, dtype, shape, backend):
    x = mg.tensor(data, backend=backend)
    assert (str(x.dtype).rpartition(".")[2], x.shape, x.backend) == (dtype, shape, backend)
    np.testing.assert_array_equal(x.numpy(), np.asarray(data))
    assert type(x.numpy()) is np.ndarray


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("source", [1, [1.0, 0.0], np.array([1, 0])])
def test_a_dtype_that_is_named_is_the_dtype(source, dtype, backend):
    for name in (dtype, np.dtype(dtype)):
        x = mg.tensor(source, dtype=name, backend=backend)
        assert x.numpy().dtype == dtype
        np.testing.assert_array_equal(x.numpy(), np.asarray(source).astype(dtype))


def test_a_tensor_is_a_copy(backend):
    source = np.array([1.0, 2.0])
    x = mg.tensor(source, backend=backend)
    y = mg.tensor(x)
    source[0] = 9.0
    assert x.tolist() == y.tolist() == [1.0, 2.0]
    assert y.backend == backend and not np.shares_memory(np.asarray(x.data), np.asarray(y.data))


def test_a_tensor_made_of_a_tensor_has_its_values_but_not_its_graph():
    y = mg.tensor(computed())
    assert y.tolist() == [3.0, 6.0] and not y.requires_grad
    assert mg.tensor(computed(), requires_grad=True).grad is None


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1, 2], [3]], ArgumentError, "unequal length"),
        ([[1], 2], ArgumentError, "unequal length"),
        ("abc", DtypeError, "expected numbers"),
        (["a"], DtypeError, "expected numbers"),
        (1j, DtypeError, "complex128"),
        (np.array([1j]), DtypeError, "complex128"),
        (None, DtypeError, "expected numbers"),
        ([None], DtypeError, "object"),
        (object(), DtypeError, "object"),
        ([2**70], DtypeError, "object"),
        ({1: 2}, DtypeError, "object"),
        (np.array([1], np.uint8), DtypeError, "uint8.*float32"),
        (np.array([1], np.float16), DtypeError, "float16.*float32"),
        ([mg.tensor(1.0), mg.tensor(2.0)], DtypeError, r"mg\.stack"),
        ([1.0, mg.tensor(1.0)], DtypeError, r"mg\.stack"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        mg.tensor(data)


def test_an_unknown_dtype_or_backend_is_refused():
    with pytest.raises(DtypeError, match="float16"):
        mg.tensor(1.0, dtype="float16")
    with pytest.raises(DtypeError, match="nonsense"):
        mg.tensor(1.0, dtype="nonsense")
    with pytest.raises(ArgumentError, match=r"unknown backend 'abacus'.*numpy"):
        mg.tensor(1.0, backend="abacus")


@pytest.mark.parametrize("data", [True, np.array([1, 2]), np.array([1], np.int32)])
def test_only_floats_can_need_a_gradient(data):
    with pytest.raises(DtypeError, match="only floats have gradients"):
        mg.tensor(data, requires_grad=True)
    x = mg.tensor(data)
    with pytest.raises(DtypeError, match=r"dtype=mg\.float32"):
        x.requires_grad = True


# Showing it


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (lambda: mg.tensor(1.5), "tensor(1.5)"),
        (lambda: mg.tensor([1, 2]), "tensor([1., 2.])"),
        (lambda: mg.tensor([True]), "tensor([ True])"),
        (lambda: mg.tensor(np.array([1])), "tensor([1], dtype=int64)"),
        (lambda: mg.tensor(1.0, dtype="float64"), "tensor(1., dtype=float64)"),
        (lambda: leaf(1.0), "tensor([1.], requires_grad=True)"),
        (lambda: mg.tanh(leaf(0.0)), "tensor([0.], from=tanh)"),
        (lambda: mg.split(leaf(1.0, 2.0), 2)[1], "tensor([2.], from=split)"),
        (lambda: mg.tensor([]), "tensor([])"),
        (lambda: mg.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
        (lambda: mg.tensor([1.0], backend="array_api_strict"), "tensor([1.], backend='array_api_strict')"),
        (
            lambda: mg.tensor([1], backend="array_api_strict", dtype="int64"),
            "tensor([1], dtype=int64, backend='array_api_strict')",
        ),
    ],
)
def test_a_tensor_prints_its_values_and_what_is_out_of_the_ordinary(x, text):
    assert repr(x()) == text


def test_a_large_tensor_prints_in_short():
    assert "..." in repr(mg.zeros((1000,))) and len(repr(mg.zeros((1000,)))) < 100


# Values out


def test_item_gives_a_python_number(backend):
    for value, kind in [(2.5, float), (True, bool)]:
        for shape in [(), (1,), (1, 1)]:
            item = mg.tensor(np.full(shape, value), backend=backend).item()
            assert item == value and type(item) is kind
    assert type(mg.tensor(np.array(3), backend=backend).item()) is int
    assert leaf(2.0).item() == 2.0


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)])
def test_item_of_more_or_less_than_one_element_is_refused(shape):
    with pytest.raises(ShapeError, match=r"item.*not one"):
        mg.zeros(shape).item()


def test_numpy_is_a_read_only_view_even_of_a_tensor_in_a_graph():
    for x in (leaf(1.0, 2.0), computed(), mg.tensor(3.0)):
        array = x.numpy()
        assert np.shares_memory(array, x.data) and not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
        assert x.data.flags.writeable


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)))
def test_values_go_in_and_come_out_as_they_were(array):
    for x in (mg.tensor(array), mg.tensor(array, backend="array_api_strict")):
        np.testing.assert_array_equal(x.numpy(), array)
        np.testing.assert_array_equal(x.tolist(), array.tolist())
        assert (x.shape, x.ndim, x.size) == (array.shape, array.ndim, array.size)


def test_detach_shares_the_memory_and_leaves_the_graph():
    y = computed()
    z = y.detach()
    assert z.data is y.data and not z.requires_grad
    with pytest.raises(GraphError):
        z.sum().backward()


@pytest.mark.parametrize(
    ("convert", "x", "expected"),
    [
        (float, mg.tensor(1.5), 1.5),
        (float, leaf(1.5), 1.5),
        (int, mg.tensor([[2.7]]), 2),
        (bool, mg.tensor(0.0), False),
        (bool, mg.tensor([1.0]), True),
        (bool, mg.tensor(np.array(3)), True),
        (operator.index, mg.tensor(np.array(3)), 3),
        (operator.index, mg.tensor(True), 1),
        (len, mg.zeros((3, 2)), 3),
        (len, mg.zeros((0, 2)), 0),
    ],
)
def test_a_tensor_converts_to_a_python_number(convert, x, expected):
    result = convert(x)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda: float(mg.zeros((2,))), ShapeError, "not one"),
        (lambda: int(mg.zeros((0,))), ShapeError, "not one"),
        (lambda: bool(mg.zeros((2,))), ShapeError, r"mg\.all or mg\.any"),
        (lambda: bool(mg.zeros((0,))), ShapeError, r"mg\.all or mg\.any"),
        (lambda: 1 if leaf(1.0, 2.0) > 1.5 else 0, ShapeError, "neither true nor false"),
        (lambda: [1, 2, 3][mg.tensor(1.0)], DtypeError, r"float32 cannot be an index.*int64"),
        (lambda: range(mg.tensor(np.array([1, 2]))), ShapeError, "not one"),
        (lambda: len(mg.tensor(1.0)), DtypeError, "0-d"),
        (lambda: iter(mg.tensor(1.0)), DtypeError, "0-d"),
        (lambda: 1.0 in mg.zeros((2, 2)), ShapeError, "neither"),
    ],
)
def test_a_conversion_without_an_answer_is_refused(misuse, error, message):
    with pytest.raises(error, match=message):
        misuse()


def test_a_tensor_of_an_integer_indexes_a_list():
    assert ["a", "b", "c"][mg.tensor(np.array(1))] == "b"


def test_iteration_and_unpacking_run_along_the_first_axis_with_gradients():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    a, b = x
    (a * b).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert [row.tolist() for row in x] == x.tolist() and list(mg.zeros((0, 2))) == []


def test_membership_compares_the_elements():
    assert 2.0 in leaf(1.0, 2.0) and 3.0 not in leaf(1.0, 2.0)


def test_tensors_hash_by_identity_and_compare_by_element():
    x, y = leaf(1.0, 2.0), leaf(1.0, 3.0)
    assert {x: 1, y: 2}[x] == 1 and hash(x) != hash(y)
    assert (x == y).tolist() == [True, False] and (x != y).tolist() == [False, True]
    assert not (x == y).requires_grad


# Operators

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]
A, B = np.array([[1.0, 2.0], [3.0, 0.5]], np.float32), np.array([2.0, 0.5], np.float32)


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize(
    "other", [B, 2, 2.0, np.float32(2.0), np.array(2.0, np.float32)], ids=["array", "int", "float", "scalar", "0-d"]
)
def test_binary_operators_take_tensors_arrays_and_numbers_on_either_side(op, other, backend):
    x = mg.tensor(A, backend=backend, requires_grad=True)
    tensor = mg.tensor(other, dtype="float32", backend=backend)
    others = [tensor] if isinstance(other, np.ndarray) and backend != "numpy" and other.ndim else [tensor, other]
    for y in others:
        for result, expected in [(op(x, y), op(A, other)), (op(y, x), op(other, A))]:
            assert type(result) is mg.Tensor
            assert result.numpy().dtype == np.asarray(expected).dtype
            np.testing.assert_allclose(result.numpy(), expected, rtol=4 * np.finfo(np.float32).eps)
            assert result.requires_grad == (expected.dtype != bool)


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul])
def test_a_gradient_flows_past_a_numpy_array_on_the_left(op):
    x = mg.tensor(A, requires_grad=True)
    op(A, x).sum().backward()
    y = mg.tensor(A, requires_grad=True)
    op(mg.tensor(A), y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.grad.numpy())


@pytest.mark.parametrize("scalar", [2, 2.0, np.float64(2.0), np.int64(2), np.array(2.0), True, np.True_])
@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
def test_numbers_and_0d_numpy_values_never_widen_a_tensor_or_its_gradient(op, scalar):
    for dtype in ("float32", "float64"):
        for swap in (False, True):
            x = mg.tensor([1.0, 2.0], requires_grad=True, dtype=dtype)
            y = op(scalar, x) if swap else op(x, scalar)
            y.sum().backward()
            assert y.dtype == x.grad.dtype == dtype


def test_a_wider_array_or_tensor_does_widen():
    assert (leaf(1.0) * np.ones(1)).dtype == mg.float64
    assert (leaf(1.0) * mg.tensor(2.0, dtype="float64")).dtype == mg.float64
    assert (mg.tensor(np.array([1])) + leaf(1.0)).dtype == mg.float32
    assert (mg.tensor(np.array([1])) / 2).dtype == mg.float32


def test_unary_operators_and_logic():
    x, p, q = leaf(-1.0, 2.0), mg.tensor([True, True, False]), mg.tensor([True, False, False])
    assert (-x).tolist() == [1.0, -2.0] and (+x) is x and abs(x).tolist() == [1.0, 2.0]
    assert (~p).tolist() == [False, False, True]
    assert (p & q).tolist() == [True, False, False] and (p | q).tolist() == [True, True, False]
    assert (np.array([True, False, True]) & p).tolist() == [True, False, False]
    assert (False | q).tolist() == q.tolist()


def test_matmul_with_an_array_on_either_side():
    x = mg.tensor(A)
    np.testing.assert_allclose((x @ B).numpy(), A @ B)
    np.testing.assert_allclose((B @ x).numpy(), B @ A)


@pytest.mark.parametrize("other", [[1.0, 2.0], (1.0,), "a", None, 1j, object(), {}])
@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.truediv, operator.lt, operator.eq])
def test_an_operand_that_is_no_tensor_array_or_number_is_refused_by_name(op, other):
    name = {operator.add: "add", operator.mul: "multiply", operator.truediv: "divide", operator.eq: "equal"}
    with pytest.raises(DtypeError, match=f"{name.get(op, 'less|greater')}.*got {type(other).__name__}"):
        op(leaf(1.0), other)
    with pytest.raises(DtypeError):
        op(other, leaf(1.0))


@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.lt, operator.matmul])
def test_shapes_that_do_not_fit_are_named(op):
    for x, y in [(leaf(1.0, 2.0), leaf(1.0, 2.0, 3.0)), (mg.zeros((2,)), mg.zeros((3,)))]:
        for _ in range(2):  # the second call takes a shorter way
            with pytest.raises(ShapeError, match=r"float32\((\d, )?2,?\).*float32\(3,( \d)?\)"):
                op(x, y)


@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.lt, operator.matmul])
def test_two_backends_in_one_operation_are_named(op):
    x, y = mg.ones((2, 2)), mg.ones((2, 2), backend="array_api_strict")
    for a, b in [(x, y), (y, x), (x, y.data), (y, x.data)]:
        with pytest.raises(BackendMismatchError, match=r'\w+: .*"(numpy|array_api_strict)".*\.to\("numpy"\)|\.to'):
            op(a, b)


METHODS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sum": (lambda x: x.sum(axis=0), lambda x: mg.sum(x, axis=0)),
    "mean": (lambda x: x.mean(1, keepdims=True), lambda x: mg.mean(x, axis=1, keepdims=True)),
    "max": (lambda x: x.max(axis=(0, 1)), lambda x: mg.max(x)),
    "min": (lambda x: x.min(-1), lambda x: mg.min(x, axis=-1)),
    "reshape": (lambda x: x.reshape(4, -1), lambda x: mg.reshape(x, (4, -1))),
    "reshape of a tuple": (lambda x: x.reshape((1, 4)), lambda x: mg.reshape(x, (1, 4))),
    "transpose": (lambda x: x.transpose(1, 0), lambda x: mg.permute_dims(x, (1, 0))),
    "T": (lambda x: x.T, mg.transpose),
    "mT": (lambda x: x.mT, mg.matrix_transpose),
    "squeeze": (lambda x: x.expand_dims(1).squeeze(1), lambda x: x),
    "expand_dims": (lambda x: x.expand_dims(-1), lambda x: mg.expand_dims(x, axis=-1)),
    "broadcast_to": (lambda x: x.broadcast_to((3, 2, 2)), lambda x: mg.broadcast_to(x, (3, 2, 2))),
    "split": (lambda x: x.split([1, 1], axis=1)[1], lambda x: mg.split(x, 2, axis=-1)[1]),
    "exp": (lambda x: x.exp(), mg.exp),
    "log": (lambda x: x.log(), mg.log),
    "sqrt": (lambda x: x.sqrt(), mg.sqrt),
    "abs": (lambda x: x.abs(), mg.abs),
    "tanh": (lambda x: x.tanh(), mg.tanh),
    "sigmoid": (lambda x: x.sigmoid(), mg.sigmoid),
    "relu": (lambda x: x.relu(), mg.relu),
    "clip": (lambda x: x.clip(0.6, 2.5), lambda x: mg.clip(x, 0.6, max=2.5)),
    "clip above": (lambda x: x.clip(max=2.5), lambda x: mg.minimum(x, 2.5)),
    "astype": (lambda x: x.astype("float64"), lambda x: mg.astype(x, mg.float64)),
    "getitem": (lambda x: x[1, :], lambda x: mg.take(x, mg.tensor(1, dtype="int64", backend=x.backend), axis=0)),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_function_of_its_name(name, backend):
    results = []
    for f in METHODS[name]:
        x = mg.tensor(A, requires_grad=True, backend=backend)
        y = f(x)
        (y * y).sum().backward()
        results.append((y.dtype, y.tolist(), x.grad.tolist()))
    assert results[0] == results[1]


def test_argmax_is_the_function_of_its_name(backend):
    x = mg.tensor(A, requires_grad=True, backend=backend)
    assert x.argmax(axis=1).tolist() == mg.argmax(x, axis=1).tolist() == [1, 0]
    assert x.argmax().item() == 2 and not x.argmax().requires_grad


@pytest.mark.parametrize("f", [mg.sigmoid, mg.tanh, mg.exp, mg.softplus, mg.relu, lambda x: x.sum(), lambda x: x**2])
def test_functions_take_0d_and_empty_tensors_and_give_arrays(f, backend):
    for shape in [(), (0,), (2, 0)]:
        x = mg.ones(shape, backend=backend)
        x.requires_grad = True
        y = f(x)
        assert type(y.data) is type(x.data)
        y.sum().backward()
        assert x.grad.shape == shape and type(x.grad.data) is type(x.data)


# NumPy's functions on tensors

NUMPY_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "asarray": np.asarray,
    "array": np.array,
    "mean": np.mean,
    "sum": lambda x: np.sum(x, axis=0),
    "concatenate": lambda x: np.concatenate([x, x]),
    "stack": lambda x: np.stack((x, x)),
    "where": lambda x: np.where([True, False], x, 0.0),
    "norm": np.linalg.norm,
    "allclose": lambda x: np.allclose(x, x),
    "assign": lambda x: operator.setitem(np.zeros(2), slice(None), x),
}


@pytest.mark.parametrize("name", NUMPY_FUNCTIONS)
def test_a_numpy_function_raises_rather_than_lose_a_gradient(name):
    for x in (leaf(1.0, 2.0), computed()):
        with pytest.raises(GraphError, match=r"lost silently.*tensor\.numpy\(\)"):
            NUMPY_FUNCTIONS[name](x)


@pytest.mark.parametrize("name", NUMPY_FUNCTIONS)
def test_a_numpy_function_takes_a_tensor_that_needs_no_gradient(name):
    x = leaf(1.0, 2.0)
    np.testing.assert_array_equal(NUMPY_FUNCTIONS[name](x.detach()), NUMPY_FUNCTIONS[name](x.numpy()))


@pytest.mark.parametrize("f", [np.exp, np.add.reduce, lambda x: np.add(x, x), lambda x: np.multiply(np.ones(2), x)])
def test_a_numpy_ufunc_refuses_a_tensor(f):
    for x in (leaf(1.0, 2.0), mg.ones((2,))):
        with pytest.raises(TypeError):
            f(x)


def test_an_array_is_not_changed_in_place_by_a_tensor():
    array = np.ones(2)
    with pytest.raises(TypeError):
        array += leaf(1.0, 2.0)
    assert array.tolist() == [1.0, 1.0]


def test_the_array_of_a_tensor_is_read_only_and_a_copy_where_one_is_asked_for():
    x = mg.ones((2,))
    assert np.shares_memory(np.asarray(x), x.data) and not np.asarray(x).flags.writeable
    assert not np.shares_memory(np.array(x), x.data) and np.array(x).flags.writeable
    assert np.asarray(x, dtype=np.float64).dtype == np.float64


# DLPack


def test_dlpack_shares_memory_both_ways():
    x = mg.ones((2, 3))
    assert np.shares_memory(np.from_dlpack(x), x.data)
    array = np.arange(3.0)
    y = mg.from_dlpack(array)
    assert np.shares_memory(y.data, array) and y.dtype == mg.float64 and not y.requires_grad
    assert np.shares_memory(mg.from_dlpack(y).data, array)


def test_dlpack_of_a_tensor_that_needs_a_gradient_raises():
    for x in (leaf(1.0), computed()):
        with pytest.raises(GraphError, match=r"__dlpack__.*tensor\.detach\(\)"):
            np.from_dlpack(x)


def test_a_gradient_can_be_shared_by_dlpack():
    x = leaf(1.0, 2.0)
    x.sum().backward()
    assert np.from_dlpack(x.grad).tolist() == [1.0, 1.0]


# Nothing is changed in place


@pytest.mark.parametrize(
    "op",
    ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul"]
    + ["iand", "ior", "ixor", "ilshift", "irshift"],
)
def test_every_in_place_operator_raises_and_names_the_ways_out(op):
    for x in (leaf(1.0), mg.ones((2,)), mg.tensor([True])):
        before = x.tolist()
        with pytest.raises(InPlaceError, match=r"x = x \+ y.*mg\.where.*mg\.index_update"):
            getattr(operator, op)(x, 2)
        assert x.tolist() == before


@pytest.mark.parametrize("key", [0, slice(None), ..., np.array([True, False])])
def test_assignment_to_an_element_raises_and_names_the_ways_out(key):
    x = leaf(1.0, 2.0)
    with pytest.raises(InPlaceError, match=r"mg\.index_update.*mg\.where"):
        x[key] = 3.0
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["shape", "dtype", "backend", "ndim", "size", "T"])
def test_what_follows_from_the_data_cannot_be_set(name):
    with pytest.raises(AttributeError):
        setattr(leaf(1.0), name, None)
    with pytest.raises(AttributeError):
        leaf(1.0).something = 1


# Indices


def test_an_index_out_of_range_raises_and_names_the_operation():
    with pytest.raises(OutOfRangeError, match=r"index.*5"):
        leaf(1.0)[5]
    with pytest.raises(DtypeError, match=r"index.*float"):
        leaf(1.0)[1.0]
    with pytest.raises(DtypeError, match=r"index.*str"):
        leaf(1.0)["a"]


# requires_grad and grad


def test_requires_grad_may_be_switched_on_a_tensor_that_was_created():
    x = mg.ones((2,))
    x.requires_grad = True
    x.sum().backward()
    held = x.grad
    x.requires_grad = True
    assert x.grad is held
    x.requires_grad = False
    assert not x.requires_grad and x.grad is None and not (x * x).requires_grad


@pytest.mark.parametrize("value", [True, False])
def test_requires_grad_of_a_computed_tensor_cannot_be_set(value):
    with pytest.raises(GraphError, match=r"created; detach\(\)"):
        computed().requires_grad = value


def test_grad_can_be_set_and_accumulation_goes_on_from_there():
    x = leaf(1.0, 2.0)
    assert x.grad is None
    g = mg.tensor([10.0, 20.0])
    x.grad = g
    x.sum().backward()
    assert x.grad.tolist() == [11.0, 21.0] and g.tolist() == [10.0, 20.0]
    x.grad = None
    assert x.grad is None


def test_a_grad_with_a_graph_is_kept_without_it():
    x = leaf(1.0, 2.0)
    x.grad = computed()
    assert x.grad.tolist() == [3.0, 6.0] and not x.grad.requires_grad


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (mg.ones((3,)), ShapeError, r"grad: expected float32\(2,\), got float32\(3,\)"),
        (mg.ones((2,), dtype="float64"), ShapeError, r"got float64\(2,\)"),
        (mg.ones((2,), backend="array_api_strict"), BackendMismatchError, r"grad: .*\.to\("),
        (np.ones(2, np.float32), DtypeError, r"grad: expected a tensor.*ndarray"),
        (0, DtypeError, "grad: expected a tensor.*int"),
    ],
)
def test_a_grad_that_does_not_fit_is_refused(value, error, message):
    x = leaf(1.0, 2.0)
    with pytest.raises(error, match=message):
        x.grad = value
    assert x.grad is None


def test_grad_of_what_is_no_leaf_is_none_and_cannot_be_set():
    for x in (mg.ones((2,)), computed()):
        assert x.grad is None
        with pytest.raises(GraphError, match="requires_grad=True"):
            x.grad = mg.ones((2,))


# Copies


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_deep_copy_and_a_pickle_are_new_leaves_without_grad(duplicate, requires_grad, backend):
    x = mg.tensor([1.0, 2.0], requires_grad=requires_grad, backend=backend, dtype="float64")
    if requires_grad:
        (x * x).sum().backward()
    y = duplicate(x)
    assert type(y) is mg.Tensor and y.tolist() == x.tolist()
    assert (y.dtype, y.backend, y.requires_grad, y.grad) == (x.dtype, backend, requires_grad, None)
    assert not np.shares_memory(np.asarray(x.data), np.asarray(y.data))
    if requires_grad:
        y.sum().backward()
        assert y.grad.tolist() == [1.0, 1.0] and x.grad.tolist() == [2.0, 4.0]


def test_a_tensor_that_occurs_twice_is_copied_once():
    x = leaf(1.0)
    for a, b in (copy.deepcopy([x, x]), pickle.loads(pickle.dumps([x, x]))):
        assert a is b and a is not x


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickle.dumps])
def test_a_computed_tensor_is_not_copied_with_half_its_graph(duplicate):
    with pytest.raises(GraphError, match=r"tensor\.detach\(\)"):
        duplicate(computed())


# To another backend

OTHER = "array_api_strict"


def test_to_moves_the_values_and_the_gradient_comes_back():
    x = leaf(1.0, 2.0)
    y = x.to(OTHER)
    assert y.backend == OTHER and y.tolist() == [1.0, 2.0] and y.dtype == mg.tensor(1.0, backend=OTHER).dtype
    z = (y * y).to("numpy") * x
    assert z.backend == "numpy"
    z.sum().backward()
    assert x.grad.backend == "numpy" and x.grad.tolist() == [3.0, 12.0]  # of x**3


def test_to_has_second_derivatives():
    second = mg.grad(lambda x: mg.grad(lambda x: (x.to(OTHER) ** 3).to("numpy").sum())(x).sum())
    assert second(mg.tensor([1.0, 2.0])).tolist() == [6.0, 12.0]


@pytest.mark.parametrize("data", [np.array([1, 2]), np.array([True]), np.zeros((0, 2)), np.array(1.5)])
def test_to_keeps_dtype_and_shape(data):
    y = mg.tensor(data).to(OTHER)
    assert y.shape == data.shape and not y.requires_grad
    back = y.to("numpy").numpy()
    assert back.dtype == data.dtype and back.tolist() == data.tolist()


def test_to_where_it_is_already_is_the_tensor_itself():
    x = leaf(1.0)
    assert x.to("numpy") is x


def test_to_an_unknown_backend_is_refused():
    with pytest.raises(ArgumentError, match="unknown backend 'abacus'"):
        leaf(1.0).to("abacus")


def test_a_tensor_of_one_element_is_formatted_as_a_number():
    assert f"{mg.tensor(1.25):.1f} {mg.tensor([2.0]):5.2f}" == "1.2  2.00"
    assert f"{mg.tensor([1.0, 2.0])}" == "tensor([1., 2.])"


def test_a_subclass_of_ndarray_is_an_operand_like_its_base(tmp_path):
    mapped = np.memmap(tmp_path / "numbers", dtype="float32", mode="w+", shape=(2,))
    mapped[:] = [1.0, 2.0]
    for y in (mapped * mg.tensor([3.0, 4.0]), mg.multiply(mapped, mg.tensor([3.0, 4.0]))):
        assert type(y.data) is np.ndarray
    assert mg.exp(mapped).tolist() == pytest.approx(np.exp([1.0, 2.0]).tolist(), rel=1e-6)


def test_integers_that_do_not_hold_the_numbers_given_are_refused():
    for data in (2**40, [1.5], [float("nan")]):
        with pytest.raises(errors.ArgumentError, match="int32 cannot hold"):
            mg.tensor(data, dtype="int32")


def test_a_dtype_that_tensors_do_not_have_does_not_come_in_through_dlpack():
    with pytest.raises(errors.DtypeError, match="float16"):
        mg.from_dlpack(np.ones(1, "float16"))


def test_numbers_stacked_are_float32_like_numbers_anywhere():
    assert mg.stack([1.0, 2.0]).dtype == mg.concat([mg.ones((1,)), np.ones(1, "float32")]).dtype == mg.float32
