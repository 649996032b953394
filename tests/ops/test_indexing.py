"""Reading and writing by position: the table, and what the table cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import backends, errors, ops
from minigrad.graph import Sum
from tests import strategies
from tests.conftest import BACKENDS
from tests.ops.harness import Row, proofs
from tests.oracles import ops as oracles
from tests.strategies import as_numpy, as_tensor


@st.composite
def keys(draw, shape, repeats=True):
    """Integers, slices, None and ... ; or arrays of integers, masks, and slices mixed."""
    if not shape or 0 in shape or draw(st.booleans()):
        return draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True).map(_tuple))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    if draw(st.booleans()):
        return (rng.random(shape[: draw(st.integers(1, len(shape)))]) < 0.5,)
    lengths = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    key = []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        array = rng.integers(-n, n, lengths) if repeats else rng.permutation(n)[: draw(st.integers(0, n))]
        key.append(draw(st.sampled_from([array, slice(None), slice(None, None, -1), int(rng.integers(n))])))
        if not repeats and key[-1] is array:  # one array of different integers cannot repeat a place
            break
    return tuple(key)


def _tuple(key):
    return key if isinstance(key, tuple) else (key,)


@st.composite
def reading(draw):
    shape = draw(strategies.shapes())
    return (shape,), {"key": draw(keys(shape))}


@st.composite
def writing(draw, repeats):
    """The shape of x, of values that broadcast to x[key], and a key."""
    shape = draw(strategies.shapes())
    key = draw(keys(shape, repeats))
    chosen = np.zeros(shape)[key].shape
    values = tuple(1 if draw(st.booleans()) else n for n in chosen)[draw(st.integers(0, len(chosen))) :]
    return (shape, values), {"key": key}


@st.composite
def taking(draw):
    shape = draw(strategies.shapes(min_dims=1, min_side=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    return (shape,), {
        "indices": rng.integers(-shape[axis], shape[axis], draw(strategies.shapes(max_dims=2))),
        "axis": axis,
    }


@st.composite
def taking_along(draw):
    shape = draw(strategies.shapes(min_dims=1, min_side=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    wide = tuple(1 if draw(st.booleans()) else n for n in shape)
    at = axis % len(shape)
    indices = (*wide[:at], draw(st.integers(0, 3)), *wide[at + 1 :])
    return (shape,), {"indices": rng.integers(-shape[axis], shape[axis], indices), "axis": axis}


def written(x, values, key):
    x = np.array(x)
    x[key] = values
    return x


def added(x, values, key):
    x = np.array(x)
    np.add.at(x, key, values)
    return x


def scattered(values, key, shape):
    return added(np.zeros(shape, values.dtype), values, key)


def reads(name, f, numpy, shapes, points):
    return Row(name, f, numpy, oracles.rearrangement(numpy), shapes, points)


twice = np.array([0, 2, 0])
KEYS = [
    {"key": (slice(None), 1)},
    {"key": (twice,)},
    {"key": (np.array([[0], [1]]), np.array([1, -1]))},
    {"key": (np.array([[True, False], [False, True], [True, True]]),)},
    {"key": (None, ..., slice(None, None, -1))},
]

ROWS = [
    reads("getitem", lambda x, key: x[key], lambda x, key: x[key], reading(), [(((3, 2),), key) for key in KEYS]),
    reads(
        "index",
        lambda x, key: ops.index(x, tuple(k.data if isinstance(k, mg.Tensor) else k for k in key)),
        lambda x, key: x[key],
        reading().filter(lambda case: not any(isinstance(k, np.ndarray) and k.dtype == bool for k in case[1]["key"])),
        [(((3, 2),), key) for key in KEYS[:3]],
    ),
    Row(
        "index_update",
        lambda x, values, key: ops.index_update(x, key, values),
        written,
        oracles.rearrangement(written),
        writing(repeats=False),
        [(((3, 2), (2,)), {"key": (np.array([0, 2]),)}), (((3, 2), (3,)), {"key": (slice(None), 1)})],
    ),
    Row(
        "index_add",
        lambda x, values, key: ops.index_add(x, key, values),
        added,
        oracles.index_add,
        writing(repeats=True),
        [(((3, 2), (3, 2)), {"key": (twice,)}), (((3, 2), ()), {"key": (slice(1, 3),)})],
        precise="sum",
    ),
    Row(
        "scatter",
        lambda values, key, shape: ops.scatter(values, key, shape),
        scattered,
        oracles.scatter,
        reading().map(lambda case: ((np.zeros(case[0][0])[case[1]["key"]].shape,), {**case[1], "shape": case[0][0]})),
        [(((3, 2),), {"key": (twice,), "shape": (3, 2)}), (((2,),), {"key": (1,), "shape": (3, 2)})],
        precise="sum",
    ),
    reads(
        "take",
        lambda x, indices, axis: ops.take(x, indices, axis=axis),
        lambda x, indices, axis: np.take(x, indices, axis=axis),
        taking(),
        [
            (((3, 2),), {"indices": np.array([[0, 2], [0, 1]]), "axis": 0}),
            (((2, 2),), {"indices": twice % 2, "axis": -1}),
        ],
    ),
    reads(
        "take_along_axis",
        lambda x, indices, axis: ops.take_along_axis(x, indices, axis=axis),
        lambda x, indices, axis: np.take_along_axis(x, indices, axis=axis),
        taking_along(),
        [
            (((3, 2),), {"indices": np.array([[0, 2, 0]]).T % 2, "axis": -1}),
            (((3, 2),), {"indices": np.array([[0, 2], [0, 1]]), "axis": 0}),
        ],
    ),
]

test_values_are_numpys_and_gradients_the_oracles, test_finite_differences_agree_twice_over = proofs(ROWS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reading_step_after_step_writes_one_gradient_array_once(backend, monkeypatch):
    """T reads of xs[t] must not make T arrays of the size of xs: that would be quadratic in T."""
    made = []
    kind = type(backends.get(backend))
    scatter_sum = kind.scatter_sum
    monkeypatch.setattr(
        kind, "scatter_sum", lambda self, pieces, shape: made.append(len(pieces)) or scatter_sum(self, pieces, shape)
    )
    T = 20
    values = np.arange(2.0 * T).reshape(T, 2)
    xs = as_tensor(values, backend, requires_grad=True)
    h = mg.zeros((2,), dtype="float64", backend=backend)
    for t in range(T):
        h = h + xs[t] * xs[t] * (t + 1)
    h.backward(np.ones(2))
    assert made == [2 * T] or made == [T]
    np.testing.assert_array_equal(as_numpy(xs.grad), 2 * values * np.arange(1, T + 1)[:, None])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x[0] + x[1] + x.sum(),
        lambda x: x.sum() + x[0] + x[1],
        lambda x: x[0] + x.sum() + x[1],
    ],
    ids=["last", "first", "between"],
)
def test_a_tensor_read_by_index_and_used_whole_gets_both_gradients(backend, f):
    x = as_tensor(np.array([1.0, 2.0, 3.0]), backend, requires_grad=True)
    f(x).backward()
    assert as_numpy(x.grad).tolist() == [2.0, 2.0, 1.0]
    assert mg.gradcheck(lambda x: f(x) ** 2, [x], order=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_place_read_or_written_twice_counts_twice(backend):
    x = as_tensor(np.zeros(3), backend, requires_grad=True)
    x[[1, 1, -1, -2]].backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    assert as_numpy(x.grad).tolist() == [0.0, 1011.0, 100.0]
    y = ops.index_add(x.detach(), [0, 0, 2], as_tensor(np.array([1.0, 10.0, 100.0]), backend))
    assert as_numpy(y).tolist() == [11.0, 0.0, 100.0]
    table = as_tensor(np.zeros((3, 2)), backend, requires_grad=True)
    rows = ops.take(table, as_tensor(np.array([2, 0, 2]), backend), axis=0)
    rows.backward(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert as_numpy(table.grad).tolist() == [[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_number_takes_one_slice_and_leaves_no_axis(backend):
    x = as_tensor(np.arange(6.0).reshape(3, 2), backend, requires_grad=True)
    y = ops.take(x, -1, axis=0)
    assert as_numpy(y).tolist() == [4.0, 5.0]
    y.backward(np.array([1.0, 2.0]))
    assert as_numpy(x.grad).tolist() == [[0, 0], [0, 0], [1, 2]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("write", [ops.index_add, ops.index_update])
@pytest.mark.parametrize("value", [5, 5.0, np.float64(5), np.float32(5), np.int64(5), np.array(5.0)])
def test_a_number_written_never_widens(backend, write, value):
    x = as_tensor(np.zeros(3, "float32"), backend, requires_grad=True)
    y = write(x, slice(1, None), value)
    assert backends.dtype_name(y.dtype) == "float32" and as_numpy(y).tolist() == [0.0, 5.0, 5.0]
    y.backward(np.ones(3))
    assert as_numpy(x.grad).tolist() == [1.0, *([1.0, 1.0] if write is ops.index_add else [0.0, 0.0])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_writing_makes_a_copy_and_leaves_the_tensor_as_it_was(backend):
    x = as_tensor(np.zeros(3, "float32"), backend)
    ops.index_update(x, 0, 1.0), ops.index_add(x, [0, 1], 1.0)
    assert as_numpy(x).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_key_may_be_any_integer_a_list_a_tensor_or_a_mask(backend):
    x = as_tensor(np.arange(6.0).reshape(3, 2), backend)
    at = lambda values: as_tensor(np.array(values), backend)
    for key, expected in [
        (np.int64(1), [2.0, 3.0]),
        (at(1), [2.0, 3.0]),
        ([2, 0], [[4.0, 5.0], [0.0, 1.0]]),
        (at([2, 0]), [[4.0, 5.0], [0.0, 1.0]]),
        (at([2, 0]).data, [[4.0, 5.0], [0.0, 1.0]]),
        ([], []),
        ([True, False, True], [[0.0, 1.0], [4.0, 5.0]]),
        (x > 2, [3.0, 4.0, 5.0]),
        ((slice(None), [True, False]), [[0.0], [2.0], [4.0]]),
        ((..., at([False, True])), [[1.0], [3.0], [5.0]]),
        ((at([True, False, True]), None, 1), [[1.0], [5.0]]),
    ]:
        assert as_numpy(x[key]).tolist() == expected


def whole(data):
    return mg.tensor(data, dtype="int64")


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda x: x[3], errors.OutOfRangeError, r"^index\(float32\(3, 2\), key=\(3,\)\).*out of bounds"),
        (lambda x: x[0, -3], errors.OutOfRangeError, r"^index\(float32\(3, 2\), key=\(0, -3\)\)"),
        (lambda x: x[[0, 3]], errors.OutOfRangeError, r"^index\(float32\(3, 2\).*out of bounds"),
        (lambda x: x[0, 0, 0], errors.OutOfRangeError, r"^index\(float32\(3, 2\), key=\(0, 0, 0\)\).*too many"),
        (lambda x: x[1.0], errors.DtypeError, r"^index: expected integers.*got float"),
        (lambda x: x["a"], errors.DtypeError, r"^index: expected integers.*got str"),
        (lambda x: x[mg.ones(3)], errors.DtypeError, r"^index: expected integers.*got float"),
        (lambda x: x[[0.5]], errors.DtypeError, r"^index: expected integers.*got float"),
        (lambda x: x[[True, False]], errors.ShapeError, r"^index: a mask of shape \(2,\) .*\(3, 2\)"),
        (lambda x: x[:, [True, False, True]], errors.ShapeError, r"^index: a mask of shape \(3,\) .*\(3, 2\)"),
        (lambda x: x[..., [True, False, True]], errors.ShapeError, r"^index: a mask of shape \(3,\) .*\(3, 2\)"),
        (lambda x: x[None, [True, False, True, False]], errors.ShapeError, r"^index: a mask of shape \(4,\)"),
        (lambda x: ops.index_update(x, 5, 1.0), errors.OutOfRangeError, r"\(float32\(3, 2\), 1.0, key=\(5,\)\)"),
        (
            lambda x: ops.index_update(x, 0, mg.ones(3)),
            errors.ShapeError,
            r"\(float32\(3, 2\), float32\(3,\), key=\(0,\)\)",
        ),
        (lambda x: ops.index_add(x, 5, 1.0), errors.OutOfRangeError, r"\(float32\(3, 2\), float32\(\), key=\(5,\)\)"),
        (
            lambda x: ops.index_add(x, 0, mg.ones(3)),
            errors.ShapeError,
            r"\(float32\(3, 2\), float32\(3,\), key=\(0,\)\)",
        ),
        (lambda x: ops.scatter(x, 5, (4,)), errors.OutOfRangeError, r"\(float32\(3, 2\), key=\(5,\), shape=\(4,\)\)"),
        (lambda x: ops.take(x, whole([3]), axis=0), errors.OutOfRangeError, r"^take\(float32\(3, 2\), int64"),
        (
            lambda x: ops.take(x, mg.ones(1), axis=0),
            errors.DtypeError,
            r"^take\(float32\(3, 2\), float32\(1,\), axis=0\)",
        ),
        (lambda x: ops.take(x, [0], axis=0), errors.DtypeError, r"^take: expected .* got list"),
        (lambda x: ops.take(x, 0, axis=2), errors.ShapeError, r"^take\(float32\(3, 2\), 0, axis=2\)"),
        (lambda x: ops.take_along_axis(x, whole([[9]])), errors.OutOfRangeError, r"^take_along_axis\("),
        (lambda x: ops.take_along_axis(x, whole([1])), errors.ShapeError, r"^take_along_axis\("),
        (lambda x: ops.getitem([1.0], 0), errors.DtypeError, r"^index: expected .* got list"),
    ],
)
def test_a_mistake_is_answered_with_the_operation_the_shapes_and_the_key(call, kind, message):
    for requires_grad in (False, True, True):
        with pytest.raises(kind, match=message):
            call(mg.tensor(np.zeros((3, 2), "float32"), requires_grad=requires_grad))


def test_an_assignment_names_the_way_out():
    x = mg.zeros(3)
    with pytest.raises(errors.InPlaceError, match=r"mg\.index_update\(x, key, values\).*mg\.where"):
        x[0] = 1.0


def test_values_of_index_update_may_have_leading_axes_of_length_1():
    values = mg.tensor(np.ones((1, 1, 3)), requires_grad=True)
    ops.index_update(mg.zeros((2, 3), dtype="float64"), 0, values).sum().backward()
    assert values.grad.tolist() == [[[1.0, 1.0, 1.0]]]


def test_many_reads_of_one_tensor_collect_their_cotangents_in_one_list():
    first = Sum(lambda pieces, shape: sum(pieces), [1], ())
    pieces = first.pieces
    total = first + Sum(first.combine, [2], ())
    assert total is first and pieces == [1, 2]
    assert total + Sum(lambda pieces, shape: 10 * sum(pieces), [3], ()) == 33  # of another kind: not one list
    xs = mg.tensor(np.ones((50, 2)), requires_grad=True)
    made = []
    original = Sum.__add__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sum, "__add__", lambda self, other: made.append(len(self.pieces)) or original(self, other))
        mg.stack([xs[t] for t in range(50)]).sum().backward()
    assert made == list(range(1, 50))  # the long list is on the left, where it is extended, and never copied


def test_an_index_array_may_be_written_to_afterwards():
    key = np.array([0, 1])
    x, v = mg.tensor([1.0, 2.0, 3.0], requires_grad=True), mg.tensor([5.0, 7.0], requires_grad=True)
    y = x[key].sum() + ops.index_update(x, key, v).sum() + ops.index_add(x, (key,), v).sum()
    key[:] = 2
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0] and v.grad.tolist() == [2.0, 2.0]
