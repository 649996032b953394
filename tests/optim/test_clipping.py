"""Clipping of gradients: exact, and where nothing can be done, nothing done."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from minigrad.errors import AnomalyError, ArgumentError

from ..conftest import BACKENDS
from ..strategies import FLOATS, SEEDS, as_numpy, as_tensor

SHAPES = st.lists(st.sampled_from([(), (1,), (3,), (2, 4), (0,)]), min_size=1, max_size=4)
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def parameters(gradients, backend="numpy"):
    """Parameters that have these gradients; None for one without."""
    found = []
    for g in gradients:
        array = np.zeros(3, "float32") if g is None else g
        p = as_tensor(np.zeros_like(array), backend, requires_grad=True)
        p.grad = None if g is None else as_tensor(array, backend)
        found.append(p)
    return found


def grads(ps):
    return [None if p.grad is None else as_numpy(p.grad) for p in ps]


def norm_of(gradients) -> float:
    """The norm as a sum of exact squares of the floats there are."""
    return math.sqrt(math.fsum(float(v) ** 2 for g in gradients if g is not None for v in g.ravel()))


@given(shapes=SHAPES, dtype=FLOATS, power=st.integers(-15, 15), ratio=st.floats(0.01, 0.999),
       backend=st.sampled_from(BACKENDS), seed=SEEDS)  # fmt: skip
def test_a_norm_too_large_becomes_the_largest_allowed_to_rounding_in_the_same_direction(
    shapes, dtype, power, ratio, backend, seed
):
    rng = np.random.default_rng(seed)
    gradients = [(10.0**power * rng.normal(size=s)).astype(dtype) for s in shapes]
    before = norm_of(gradients)
    limit = ratio * before
    ps = parameters(gradients, backend)
    returned = optim.clip_by_norm(ps, limit)
    assert returned.item() == pytest.approx(before, rel=1e-14)
    if not before:
        return
    # The scale is rounded to the dtype once and every product once more.
    assert norm_of(grads(ps)) == pytest.approx(limit, rel=2 * EPS[dtype])
    for g, clipped in zip(gradients, grads(ps)):
        assert clipped.dtype == g.dtype
        np.testing.assert_allclose(clipped, g * (limit / before), rtol=3 * EPS[dtype])


@given(shapes=SHAPES, dtype=FLOATS, above=st.sampled_from([1.0, 1.5, 1e9, math.inf]),
       backend=st.sampled_from(BACKENDS), seed=SEEDS)  # fmt: skip
def test_a_norm_that_is_small_enough_changes_no_bit(shapes, dtype, above, backend, seed):
    rng = np.random.default_rng(seed)
    gradients = [rng.choice(np.array([-0.0, 0.0, 1.0, 1e-40, math.pi, -1e-9]), s).astype(dtype) for s in shapes]
    ps = parameters(gradients, backend)
    optim.clip_by_norm(ps, above * max(norm_of(gradients), 1e-300) * (1 + 1e-15))
    for g, same in zip(gradients, grads(ps)):
        assert same.tobytes() == g.tobytes()


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), limit=st.floats(1e-3, 1e4))
def test_clipping_is_both_formulas_of_notes_004(values, limit):
    g = np.array(values)
    size = math.sqrt(math.fsum(v * v for v in values))
    by_cases = g if size <= limit else limit * g / size
    by_minimum = min(limit, size) * g / size if size else g
    ps = parameters([g])
    optim.clip_by_norm(ps, limit)
    for expected in (by_cases, by_minimum):
        np.testing.assert_allclose(ps[0].grad.numpy(), expected, rtol=1e-13, atol=1e-300)  # subnormals have few digits


def test_three_and_four_make_five(backend):
    ps = parameters([np.array([3.0], "float32"), None, np.array(4.0)], backend)
    norm = optim.clip_by_norm(ps, 1.0)
    assert (norm.shape, norm.item(), norm.backend) == ((), 5.0, backend)
    assert not norm.requires_grad
    np.testing.assert_allclose([ps[0].grad.item(), ps[2].grad.item()], [0.6, 0.8], rtol=1e-7)
    assert [g.dtype.name for g in grads(ps) if g is not None] == ["float32", "float64"]
    assert ps[1].grad is None


@pytest.mark.parametrize("limit", [0.0, 1e-3, 1.0, math.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_zero_stay_zero_without_a_warning(limit, dtype, backend):
    ps = parameters([np.zeros(3, dtype), np.zeros((), dtype), np.zeros(0, dtype)], backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optim.clip_by_norm(ps, limit).item() == 0
    assert all((g == 0).all() for g in grads(ps))


def test_a_largest_norm_of_zero_makes_everything_zero(backend):
    ps = parameters([np.array([3.0, -4.0])], backend)
    assert optim.clip_by_norm(ps, 0.0).item() == 5
    assert (grads(ps)[0] == 0).all()


@pytest.mark.parametrize(
    "dtype, value", [("float32", 1e30), ("float32", 3e38), ("float32", 1e-30), ("float64", 1e100), ("float64", 1e-100)]
)
def test_the_norm_is_right_where_squares_in_the_gradients_own_dtype_would_not_be(dtype, value, backend):
    g = np.array([3, -4], dtype) * np.array(value / 5, dtype)
    ps = parameters([g], backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optim.clip_by_norm(ps, value / 2).item() == pytest.approx(norm_of([g]), rel=1e-14)
    np.testing.assert_allclose(grads(ps)[0], np.array([0.3, -0.4]) * value, rtol=4 * EPS[dtype])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", [0.0, 1.0, math.inf])
def test_gradients_that_are_not_finite_are_left_alone_and_the_norm_says_so(bad, limit, backend):
    g = np.array([1.0, bad, -2.0])
    ps = parameters([g, np.array(3.0)], backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norm = optim.clip_by_norm(ps, limit).item()
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    np.testing.assert_array_equal(grads(ps)[0], g)
    assert grads(ps)[1] == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_not_finite_raise_where_that_is_asked_for(bad, backend):
    ps = parameters([np.array([1.0, bad])], backend)
    with pytest.raises(AnomalyError, match=f"{bad}.*detect_anomaly"):
        optim.clip_by_norm(ps, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(grads(ps)[0], [1.0, bad])
    assert optim.clip_by_norm(parameters([np.array([3.0])]), 1.0, error_if_nonfinite=True).item() == 3


def test_without_any_gradient_the_norm_is_zero(backend):
    with mg.use(backend):
        assert optim.clip_by_norm(parameters([None], backend), 1.0).item() == 0
        assert optim.clip_by_norm(iter([]), 1.0).item() == 0


def test_parameters_may_come_from_a_generator():
    ps = parameters([np.array([3.0]), np.array([4.0])])
    optim.clip_by_norm((p for p in ps), 0.5)
    np.testing.assert_allclose(grads(ps), [[0.3], [0.4]], rtol=1e-15)
    optim.clip_by_value((p for p in ps), 0.35)
    np.testing.assert_allclose(grads(ps), [[0.3], [0.35]], rtol=1e-15)


@given(shapes=SHAPES, dtype=FLOATS, limit=st.sampled_from([0.0, 0.5, 2.0, math.inf]),
       backend=st.sampled_from(BACKENDS), seed=SEEDS)  # fmt: skip
def test_clipping_by_value_limits_every_element_on_its_own(shapes, dtype, limit, backend, seed):
    rng = np.random.default_rng(seed)
    gradients = [rng.choice([0.1, -0.4, 0.5, 3.0, -7.0, math.inf, math.nan], s).astype(dtype) for s in shapes]
    ps = parameters([*gradients, None], backend)
    optim.clip_by_value(ps, limit)
    for g, clipped in zip(gradients, grads(ps)):
        expected = np.array([v if math.isnan(v) else math.copysign(min(abs(v), limit), v) for v in g.ravel()])
        np.testing.assert_array_equal(clipped, expected.reshape(g.shape).astype(dtype))
        assert clipped.dtype == g.dtype
    assert ps[-1].grad is None


@pytest.mark.parametrize("clip", [optim.clip_by_norm, optim.clip_by_value])
@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_limit_that_is_negative_or_no_number_is_refused(clip, limit):
    with pytest.raises(ArgumentError, match="must not be negative"):
        clip([], limit)


@pytest.mark.parametrize("clip", [optim.clip_by_norm, optim.clip_by_value])
def test_clipping_writes_into_no_array(clip, backend):
    g = as_tensor(np.array([3.0, 4.0]), backend)
    p = as_tensor(np.zeros(2), backend, requires_grad=True)
    p.grad = g
    clip([p], 1.0)
    assert g.tolist() == [3.0, 4.0]
    assert p.grad.tolist() != [3.0, 4.0]
    assert not p.grad.requires_grad
