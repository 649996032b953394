"""Initialisers: bounds, variances, shapes, and the same numbers on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import ShapeError
from minigrad.nn import init

from ..conftest import STRICT
from ..strategies import SEEDS

OUT, IN = 80, 200
# Name: the function, its variance, and its bound (None: normal)
RANDOM = {
    "uniform": (lambda s: init.uniform(s, 0.3), 0.3**2 / 3, 0.3),
    "normal": (lambda s: init.normal(s, 0.5), 0.25, None),
    "glorot_uniform": (lambda s: init.glorot_uniform(s, gain=2.0), 4 * 2 / (OUT + IN), 2 * (6 / (OUT + IN)) ** 0.5),
    "glorot_normal": (lambda s: init.glorot_normal(s, gain=0.5), 0.25 * 2 / (OUT + IN), None),
    "he_uniform": (init.he_uniform, 2 / IN, (6 / IN) ** 0.5),
    "he_normal": (init.he_normal, 2 / IN, None),
}
ALL = {
    **{name: f for name, (f, *_) in RANDOM.items()},
    "zeros": init.zeros,
    "ones": init.ones,
    "orthogonal": init.orthogonal,
    "identity": init.identity,
}


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("seed", [0, 1])
def test_random_weights_have_the_mean_variance_and_bounds_of_their_definition(name, seed):
    f, variance, bound = RANDOM[name]
    with mg.seed(seed):
        w = f((OUT, IN)).numpy().astype("float64")
    # The mean has standard deviation sqrt(variance / n), and that of w^2 is variance * sqrt((kurtosis - 1) / n): with
    # kurtosis 3 for normal and 9/5 for uniform numbers. 6 of them are exceeded once in 10^9.
    kurtosis = 3 if bound is None else 9 / 5
    assert abs(w.mean()) < 6 * (variance / w.size) ** 0.5
    assert abs((w**2).mean() - variance) < 6 * variance * ((kurtosis - 1) / w.size) ** 0.5
    if bound is None:
        assert np.abs(w).max() > 3 * variance**0.5  # of 16,000 normal numbers 43 are expected there
    else:
        assert 0.99 * bound < np.abs(w).max() <= bound * (1 + 1e-7)


@given(rows=st.integers(0, 8), columns=st.integers(0, 8), gain=st.sampled_from([1.0, 0.1, 3.0]), seed=SEEDS)
def test_an_orthogonal_matrix_has_orthonormal_rows_or_columns_whichever_are_fewer(rows, columns, gain, seed):
    with mg.seed(seed):
        w = init.orthogonal((rows, columns), gain).numpy().astype("float64")
    assert w.shape == (rows, columns)
    few = w if rows <= columns else w.T
    # Each of 8 products of numbers below 1 is rounded to float32's 6e-8, twice with the gain.
    np.testing.assert_allclose(few @ few.T, gain**2 * np.eye(min(rows, columns)), rtol=0, atol=gain**2 * 16 * 6e-8)


def test_orthogonal_matrices_prefer_no_direction():
    """Over many, each entry has mean 0 and variance 1/n, which the signs of a plain QR would break."""
    n, count = 3, 2000
    w = np.stack([init.orthogonal((n, n)).numpy() for _ in range(count)]).astype("float64")
    assert np.abs(w.mean(0)).max() < 6 * (1 / n / count) ** 0.5
    assert np.abs((w**2).mean(0) - 1 / n).max() < 6 * (1 / count) ** 0.5  # an entry squared is at most 1


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (0, 2)])
def test_the_identity_is_ones_on_the_diagonal_times_the_gain(shape, backend):
    with mg.use(backend):
        w = init.identity(shape, 0.5)
    assert w.backend == backend
    assert (w.numpy() == 0.5 * np.eye(*shape)).all()


@pytest.mark.parametrize("name", ALL)
def test_every_backend_starts_from_the_same_numbers_in_float32(name):
    drawn = []
    for backend in ("numpy", STRICT.name):
        with mg.use(backend), mg.seed(7):
            w = ALL[name]((4, 3))
        assert w.backend == backend
        assert w.shape == (4, 3)
        assert w.numpy().dtype == "float32"
        drawn.append(w.numpy())
    assert (drawn[0] == drawn[1]).all()


@pytest.mark.parametrize("name", [*RANDOM, "orthogonal"])
def test_a_seed_repeats_the_numbers_and_the_next_draw_has_others(name):
    with mg.seed(3):
        first, second = ALL[name]((4, 3)).numpy(), ALL[name]((4, 3)).numpy()
    with mg.seed(3):
        again = ALL[name]((4, 3)).numpy()
    assert (first == again).all()
    assert (first != second).any()


def test_constants_are_constant():
    assert (init.zeros((2, 3)).numpy() == 0).all()
    assert (init.ones([2, 3]).numpy() == 1).all()


@pytest.mark.parametrize("f", [init.glorot_uniform, init.glorot_normal, init.he_uniform, init.he_normal,
                               init.orthogonal, init.identity])  # fmt: skip
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_what_is_made_for_matrices_refuses_other_shapes(f, shape):
    with pytest.raises(ShapeError):
        f(shape)


@pytest.mark.parametrize("name", ["uniform", "normal", "glorot_uniform", "glorot_normal", "orthogonal", "identity"])
def test_by_default_the_bound_the_deviation_and_the_gain_are_one(name):
    f = getattr(init, name)
    with mg.seed(1):
        default = f((4, 3)).numpy()
    with mg.seed(1):
        assert (f((4, 3), 1.0).numpy() == default).all()
