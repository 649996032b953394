"""Rearrangements: the table, whose oracle follows numbered elements through NumPy, and what the table cannot say."""

from __future__ import annotations

from itertools import accumulate
from math import prod

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors, ops
from tests import strategies
from tests.conftest import BACKENDS
from tests.ops.harness import Row, proofs
from tests.oracles import ops as oracles
from tests.strategies import as_numpy, as_tensor


def shaped(static, min_dims=0, **sides):
    """One shape, and static arguments that fit it."""
    return strategies.shapes(min_dims=min_dims, **sides).flatmap(
        lambda shape: st.tuples(st.just((shape,)), st.fixed_dictionaries(static(shape)))
    )


def axis_of(shape, more=0):
    return st.integers(-len(shape) - more, len(shape) - 1 + more)


def moves(name, f, numpy, shapes, points):
    """An operation that moves elements: NumPy says where each comes from."""
    return Row(name, f, numpy, oracles.rearrangement(numpy), shapes, points)


def reshaped(shape):
    """Shapes of as many elements; one size may be left out."""
    flat = prod(shape)
    same = [shape, shape[::-1], (flat,), (1, flat), (*shape, 1), flat]
    return st.sampled_from([*same, -1, *([(-1, *shape[1:])] if shape and prod(shape[1:]) else [])])


@st.composite
def joined(draw, new_axis):
    """Shapes that agree, but for the axis along which they are joined."""
    shape = draw(strategies.shapes(min_dims=0 if new_axis else 1))
    ndim = len(shape) + new_axis
    axis = draw(st.integers(-ndim, ndim - 1))
    count = draw(st.integers(1, 3))
    if new_axis:
        return (shape,) * count, {"axis": axis}
    at = axis % ndim
    lengths = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return tuple((*shape[:at], n, *shape[at + 1 :]) for n in lengths), {"axis": axis}


@st.composite
def cut(draw):
    """A shape, an axis, and sizes that make it up: a number of equal parts, or a list."""
    shape = draw(strategies.shapes(min_dims=1))
    axis = draw(axis_of(shape))
    length = shape[axis]
    equal = [n for n in range(1, length + 1) if length % n == 0] or [1]
    ends = sorted(draw(st.lists(st.integers(0, length), max_size=3)))
    sizes = tuple(b - a for a, b in zip([0, *ends], [*ends, length]))
    return (shape,), {"sizes": draw(st.sampled_from(equal) | st.just(sizes)), "axis": axis}


def numpy_split(x, sizes, axis):
    return np.split(x, sizes if isinstance(sizes, int) else list(accumulate(sizes))[:-1], axis=axis)


def ones_of(shape):
    ones = [i for i, n in enumerate(shape) if n == 1]
    subsets = [None, *ones, *(i - len(shape) for i in ones), tuple(ones)]
    return st.sampled_from(subsets)


def reduced_to(shape):
    """A shape that broadcasts to this one: axes made 1, first ones left out."""
    return st.tuples(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)), st.integers(0, len(shape))).map(
        lambda drawn: tuple(1 if one else n for one, n in zip(drawn[0], shape))[drawn[1] :]
    )


permutations = [(((2, 1, 3),), {"axes": (2, 0, 1)}), (((2, 3),), {"axes": (-1, 0)})]
axis_points = [(((2, 3),), {"axis": 0}), (((2, 3),), {"axis": -1}), (((2, 1, 2),), {"axis": 1})]

ROWS = [
    moves(
        "reshape",
        ops.reshape,
        np.reshape,
        shaped(lambda shape: {"shape": reshaped(shape)}),
        [(((2, 3),), {"shape": (3, -1)})],
    ),
    moves(
        "permute_dims",
        ops.permute_dims,
        np.transpose,
        shaped(lambda shape: {"axes": st.permutations(range(len(shape))).map(tuple)}),
        permutations,
    ),
    moves(
        "transpose",
        lambda x, axes: ops.transpose(x, *axes),
        lambda x, axes: np.transpose(x, axes or None),
        shaped(lambda shape: {"axes": st.permutations(range(len(shape))).map(tuple) | st.just(())}),
        [*permutations, (((2, 1, 3),), {"axes": ()})],
    ),
    moves(
        "matrix_transpose", ops.matrix_transpose, np.matrix_transpose, shaped(lambda shape: {}, 2), [(((2, 2, 3),), {})]
    ),
    moves(
        "expand_dims",
        ops.expand_dims,
        np.expand_dims,
        shaped(lambda shape: {"axis": axis_of((*shape, 1))}),
        axis_points,
    ),
    moves(
        "squeeze",
        ops.squeeze,
        np.squeeze,
        shaped(lambda shape: {"axis": ones_of(shape)}, max_side=2),
        [(((2, 1, 3),), {"axis": None}), (((1, 2, 1),), {"axis": -1})],
    ),
    moves(
        "broadcast_to",
        ops.broadcast_to,
        np.broadcast_to,
        strategies.shapes().flatmap(
            lambda shape: st.tuples(st.tuples(reduced_to(shape)), st.fixed_dictionaries({"shape": st.just(shape)}))
        ),
        [(((3,),), {"shape": (2, 3)}), (((2, 1),), {"shape": (2, 2, 2)}), (((),), {"shape": (2,)})],
    ),
    moves(
        "flip",
        ops.flip,
        np.flip,
        shaped(lambda shape: {"axis": strategies.axes(len(shape))}),
        [(((2, 3),), {"axis": -1}), (((2, 2),), {"axis": None}), (((2, 2),), {"axis": (0, 1)})],
    ),
    moves(
        "concat",
        lambda *xs, axis: ops.concat(xs, axis=axis),
        lambda *xs, axis: np.concatenate(xs, axis=axis),
        joined(new_axis=False),
        [(((2, 1), (2, 2)), {"axis": -1}), (((1, 2), (2, 2), (1, 2)), {"axis": 0})],
    ),
    moves(
        "stack",
        lambda *xs, axis: ops.stack(xs, axis=axis),
        lambda *xs, axis: np.stack(xs, axis=axis),
        joined(new_axis=True),
        [(((3,), (3,)), {"axis": -1}), (((2, 2), (2, 2)), {"axis": 1})],
    ),
    moves(
        "split",
        lambda x, sizes, axis: ops.split(x, sizes, axis=axis),
        numpy_split,
        cut(),
        [(((2, 3),), {"sizes": (1, 2), "axis": -1}), (((4,),), {"sizes": 2, "axis": 0})],
    ),
    moves(
        "unstack",
        ops.unstack,
        lambda x, axis: list(np.moveaxis(x, axis, 0)),
        shaped(lambda shape: {"axis": axis_of(shape)}, min_dims=1, min_side=1),
        axis_points,
    ),
]

test_values_are_numpys_and_gradients_the_oracles, test_finite_differences_agree_twice_over = proofs(ROWS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2)])
@pytest.mark.parametrize(
    "cut", [lambda x: ops.split(x, (1, 2, 1), axis=1), lambda x: ops.split(x, (2, 1, 1), axis=-1)], ids=["1", "-1"]
)
def test_parts_of_a_split_that_nobody_uses_get_zeros(backend, used, cut):
    values = np.arange(8.0).reshape(2, 4)
    x = as_tensor(values, backend, requires_grad=True)
    parts = cut(x)
    sum(((parts[i] * parts[i]).sum() for i in used), mg.zeros((), dtype="float64", backend=backend)).backward()
    owner = np.concatenate([np.full(as_numpy(part).shape[1], i) for i, part in enumerate(parts)])
    assert as_numpy(x.grad).tolist() == np.where(np.isin(owner, used), 2 * values, 0).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_slices_of_an_unstack_that_nobody_uses_get_zeros_to_second_order_too(backend):
    x = as_tensor(np.arange(6.0).reshape(3, 2) + 1, backend, requires_grad=True)
    ops.unstack(x, axis=0)[1].sum().backward()
    assert as_numpy(x.grad).tolist() == [[0, 0], [1, 1], [0, 0]]
    cubes = lambda x: (ops.unstack(x, axis=1)[1] ** 3).sum()
    second = mg.grad(lambda x: mg.grad(cubes)(x).sum())(x)
    assert as_numpy(second).tolist() == [[0, 12], [0, 24], [0, 36]]


def test_parts_and_slices_are_views():
    x = mg.zeros((4, 2))
    for part in [
        *ops.split(x, 2),
        *ops.split(x, (1, 3)),
        *ops.unstack(x, axis=1),
        ops.flip(x),
        ops.transpose(x),
        x[1:],
    ]:
        assert np.shares_memory(part.data, x.data)


@pytest.mark.parametrize("backend", BACKENDS)
def test_joining_floats_of_two_dtypes_gives_the_wider_and_gradients_of_each(backend):
    for join in (ops.concat, ops.stack):
        x1 = as_tensor(np.ones(2, "float32"), backend, requires_grad=True)
        x2 = as_tensor(np.ones(2, "float64"), backend)
        x3 = as_tensor(np.ones(2, "float64"), backend, requires_grad=True)
        y = join([x1, x2, x3])
        assert y.dtype == x3.dtype
        y.backward(np.arange(6.0).reshape(y.shape))
        assert as_numpy(x1.grad).tolist() == [0, 1] and x1.grad.dtype == x1.dtype
        assert as_numpy(x3.grad).tolist() == [4, 5] and x2.grad is None


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda x: ops.reshape(x, (4,)), errors.ShapeError, r"^reshape\(float32\(2, 3\), shape=\(4,\)\)"),
        (lambda x: ops.reshape(x, (-1, 4)), errors.ShapeError, r"^reshape\(float32\(2, 3\), shape=\(-1, 4\)\)"),
        (lambda x: ops.permute_dims(x, (0,)), errors.ShapeError, r"^permute_dims\(float32\(2, 3\), axes=\(0,\)\)"),
        (lambda x: ops.transpose(x, 0, 2), errors.ShapeError, r"\(float32\(2, 3\), axes=\(0, 2\)\)"),
        (lambda x: ops.matrix_transpose(x[0]), errors.ShapeError, r"^matrix_transpose\(float32\(3,\)\)"),
        (lambda x: ops.expand_dims(x, axis=4), errors.ShapeError, r"^expand_dims\(float32\(2, 3\), axis=4\)"),
        (lambda x: ops.squeeze(x, 1), errors.ShapeError, r"^squeeze: axis 1 of shape \(2, 3\) has length 3, not 1"),
        (lambda x: ops.squeeze(x[:1], 2), errors.ShapeError, r"^squeeze: shape \(1, 3\) has no axis 2"),
        (lambda x: ops.squeeze(x[0, 0], 0), errors.ShapeError, r"^squeeze: shape \(\) has no axis 0"),
        (lambda x: ops.broadcast_to(x, (2, 4)), errors.ShapeError, r"^broadcast_to\(float32\(2, 3\), shape=\(2, 4\)\)"),
        (lambda x: ops.flip(x, axis=2), errors.ShapeError, r"^flip\(float32\(2, 3\), axis=2\)"),
        (lambda x: ops.concat([x, x[0]]), errors.ShapeError, r"\(float32\(2, 3\), float32\(3,\), axis=0\)"),
        (lambda x: ops.concat([x, x[:1]], axis=1), errors.ShapeError, r"\(float32\(2, 3\), float32\(1, 3\), axis=1\)"),
        (lambda x: ops.concat([x], axis=2), errors.ShapeError, r"\(float32\(2, 3\), axis=2\)"),
        (lambda x: ops.concat([]), errors.ArgumentError, r"^concat: expected a list of at least one tensor"),
        (lambda x: ops.concat(x), errors.ArgumentError, r"^concat: expected a list"),
        (lambda x: ops.stack([x, x[0]]), errors.ShapeError, r"\(float32\(2, 3\), float32\(3,\), axis=0\)"),
        (lambda x: ops.stack([]), errors.ArgumentError, r"^stack: expected a list"),
        (
            lambda x: ops.split(x, 2, axis=1),
            errors.ShapeError,
            r"^split: axis 1 of shape \(2, 3\) does not divide into 2",
        ),
        (lambda x: ops.split(x, 0), errors.ShapeError, r"^split: axis 0 of shape \(2, 3\) does not divide into 0"),
        (lambda x: ops.split(x, (1, 1), axis=1), errors.ShapeError, r"^split: sizes \(1, 1\) do not make up axis 1 of"),
        (lambda x: ops.split(x, (4, -1), axis=1), errors.ShapeError, r"^split: sizes \(4, -1\) do not make up axis 1"),
        (lambda x: ops.split(x, 1, axis=2), errors.ShapeError, r"^split: shape \(2, 3\) has no axis 2"),
        (lambda x: ops.unstack(x, axis=-3), errors.ShapeError, r"^unstack: shape \(2, 3\) has no axis -3"),
        (lambda x: ops.split([1.0, 2.0], 2), errors.DtypeError, r"^split: expected a tensor, got list"),
        (lambda x: ops.unstack([1.0, 2.0]), errors.DtypeError, r"^unstack: expected a tensor, got list"),
        (lambda x: ops.squeeze([1.0]), errors.DtypeError, r"^squeeze: expected a tensor, got list"),
        (lambda x: ops.transpose([1.0]), errors.DtypeError, r"^transpose: expected a tensor, got list"),
        (lambda x: ops.reshape([1.0], (1, 1)), errors.DtypeError, r"^reshape: expected .* got list"),
        (lambda x: ops.concat([[1.0], [2.0]]), errors.DtypeError, r"expected .* got list"),
    ],
)
def test_a_mistake_is_answered_with_the_operation_the_shape_and_the_argument(call, kind, message):
    for requires_grad in (False, True, True):  # the plan of the first call with a gradient serves the second
        with pytest.raises(kind, match=message):
            call(mg.tensor(np.zeros((2, 3), "float32"), requires_grad=requires_grad))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_axis_of_length_zero_splits_into_nothing_or_into_empty_parts(backend):
    x = as_tensor(np.zeros((0, 2)), backend, requires_grad=True)
    assert ops.split(x, ()) == [] and ops.unstack(x) == []
    assert [part.shape for part in ops.split(x, (0, 0))] == [(0, 2), (0, 2)]
