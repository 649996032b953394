"""Reductions and running sums: the table, and what the table cannot say."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors, ops
from tests import strategies
from tests.conftest import BACKENDS
from tests.ops.harness import REAL, Row, proofs
from tests.oracles import ops as oracles
from tests.strategies import Domain, as_numpy, as_tensor

TIES = Domain(-2, 2, (0.0, 1.0, -1.0, 2.0))
TRUTHS = Domain(0, 1, (0.0, 1.0))
SMALL = Domain(-3, 3, (0.0, 1.0, -5.0))


def reducing(axes=strategies.axes, min_side=0, min_dims=0):
    """A shape, and over which of its axes to reduce."""
    return strategies.shapes(min_dims=min_dims, min_side=min_side).flatmap(
        lambda shape: st.tuples(
            st.just((shape,)), st.fixed_dictionaries({"axis": axes(len(shape)), "keepdims": st.booleans()})
        )
    )


def one_axis(ndim):
    return st.none() | st.integers(-ndim, ndim - 1) if ndim else st.none()


POINTS = [
    (((2, 3),), {"axis": 0}),
    (((2, 2),), {"axis": (-1, 0), "keepdims": True}),
    (((2, 3),), {"axis": -1, "keepdims": True}),
    (((3,),), {"axis": None}),
]


TIED = [([np.array([[2.0, 0.0, 2.0], [1.0, 1.0, 1.0]])], {"axis": axis}) for axis in (0, 1, None)]


def reduction(name, numpy, oracle, domain=REAL, axes=strategies.axes, min_side=0, **more):
    return Row(name, getattr(ops, name), numpy, oracle, reducing(axes, min_side), POINTS, (domain,), **more)


def numpy_logsumexp(x, axis=None, keepdims=False):
    return np.logaddexp.reduce(x, axis=axis, keepdims=keepdims)


ROWS = [
    reduction("sum", np.sum, oracles.sum, precise="sum"),
    reduction("mean", np.mean, oracles.mean, min_side=1, precise="sum", floating=True),
    reduction("max", np.max, oracles.max, TIES, min_side=1, extremes=TIED),
    reduction("min", np.min, oracles.min, TIES, min_side=1, extremes=TIED),
    reduction("argmax", np.argmax, None, TIES, one_axis, min_side=1),
    reduction("all", np.all, None, TRUTHS, dtypes=("bool",)),
    reduction("any", np.any, None, TRUTHS, dtypes=("bool",)),
    reduction(
        "logsumexp",
        numpy_logsumexp,
        oracles.logsumexp,
        SMALL,
        min_side=1,
        precise="sum",
        floating=True,
        extremes=[([np.array([1000.0, 1001.0, -1000.0])], {})],
    ),
    Row(
        "cumulative_sum",
        ops.cumulative_sum,
        lambda x, axis: np.cumulative_sum(x, axis=axis),
        oracles.cumulative_sum,
        strategies.shapes(min_dims=1).flatmap(
            lambda shape: st.tuples(
                st.just((shape,)), st.fixed_dictionaries({"axis": st.integers(-len(shape), len(shape) - 1)})
            )
        ),
        [(((2, 3),), {"axis": -1}), (((3, 2),), {"axis": 0})],
        precise="sum",
    ),
]

test_values_are_numpys_and_gradients_the_oracles, test_finite_differences_agree_twice_over = proofs(ROWS)


def gradient_at(f, x, backend="numpy"):
    x = as_tensor(np.array(x, "float32"), backend, requires_grad=True)
    y = f(x)
    y.backward(np.ones(y.shape))
    return as_numpy(x.grad).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("f, extreme", [(ops.max, 3.0), (ops.min, -3.0)])
def test_the_gradient_of_an_extremum_is_shared_among_ties(backend, f, extreme):
    e = extreme
    assert gradient_at(f, [e, 0.0, e, e, e], backend) == [0.25, 0.0, 0.25, 0.25, 0.25]
    rows = gradient_at(lambda x: f(x, axis=1), [[e, e, 0.0], [0.0, e, 0.0]], backend)
    assert rows == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]
    assert gradient_at(f, [e * np.inf, 0.0], backend) == [1.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_largest_elements_argmax_names_the_first(backend):
    y = ops.argmax(as_tensor(np.array([1.0, 3.0, 3.0]), backend))
    assert y.item() == 1 and y.shape == () and not y.requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_logsumexp_of_large_numbers_is_finite_and_of_impossible_ones_minus_infinity(backend):
    inf = np.inf
    x = np.array([[1000.0, 1000.0], [-1000.0, -1000.0], [-inf, 2.0], [3e38, 3e38]], "float32")
    y = as_numpy(ops.logsumexp(as_tensor(x, backend), axis=-1))
    expected = np.logaddexp(x[:, 0].astype("float64"), x[:, 1])
    assert np.all(np.abs(y - expected) <= 4 * np.finfo("float32").eps * np.abs(expected))
    assert gradient_at(lambda x: ops.logsumexp(x, axis=-1), x, backend) == [
        [0.5, 0.5],
        [0.5, 0.5],
        [0.0, 1.0],
        [0.5, 0.5],
    ]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("backend", BACKENDS)
def test_logsumexp_of_nothing_but_minus_infinity_is_minus_infinity_with_a_gradient_of_zero(backend):
    x = np.full((2, 3), -np.inf)
    assert as_numpy(ops.logsumexp(as_tensor(x, backend), axis=0)).tolist() == [-np.inf] * 3
    assert gradient_at(lambda x: ops.logsumexp(x, axis=0), x, backend) == [[0.0] * 3] * 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_over_no_elements_the_sum_is_zero_the_mean_nan_and_the_maximum_refused(backend):
    empty = as_tensor(np.zeros((2, 0), "float32"), backend)
    assert as_numpy(ops.sum(empty, axis=1)).tolist() == [0.0, 0.0]
    assert np.isnan(as_numpy(ops.mean(empty, axis=1))).tolist() == [True, True]
    assert as_numpy(ops.mean(empty, axis=0)).shape == (0,)
    with pytest.raises(errors.ShapeError, match=r"^max\(float32\(2, 0\), axis=1"):
        ops.max(empty, axis=1)


@pytest.mark.parametrize("f", [ops.sum, ops.mean, ops.max, ops.min, ops.argmax, ops.logsumexp, ops.cumulative_sum])
def test_an_axis_that_is_not_there_is_refused_with_the_shape(f):
    for axis in (2, -3):
        with pytest.raises(errors.ShapeError, match=rf"^(?!mean)\w+\(float32\(2, 3\).*axis={axis}.*out of bounds"):
            f(mg.zeros((2, 3)), axis=axis)


def test_a_list_is_no_tensor():
    for f in (ops.sum, ops.mean, ops.max, ops.logsumexp):
        with pytest.raises(errors.DtypeError, match=r"got list; mg.tensor makes one"):
            f([1.0, 2.0])


def test_a_sum_saves_no_array_and_a_maximum_its_input_and_output():
    x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    assert sorted(map(str, ops.sum(x, axis=0).node.saved)) == ["(1, 2)", "0", "False"]
    y = ops.max(x, axis=1)
    assert [value is a for value, a in zip(y.node.saved, (x.data, y.data))] == [True, True]


def test_an_axis_may_be_an_integer_of_numpy():
    assert gradient_at(lambda x: ops.sum(x, axis=np.int64(0)), [[1.0, 2.0]]) == [[1.0, 1.0]]
    assert gradient_at(lambda x: ops.mean(x, axis=(np.int64(-1), 0)), [[1.0, 2.0]]) == [[0.5, 0.5]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_logsumexp_of_nothing_but_minus_infinity_is_minus_infinity_without_a_warning(backend):
    x = as_tensor(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]), backend, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = ops.logsumexp(x, axis=1)
        y.backward(np.ones(2))
    assert as_numpy(y).tolist() == [-np.inf, 0.0] and as_numpy(x.grad).tolist() == [[0.0, 0.0], [1.0, 0.0]]
