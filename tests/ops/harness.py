"""One row for each operation, and the three proofs that every row goes through, on every backend.

The value and its dtype are NumPy's, the gradient is the oracle's, and finite differences agree, twice over.
Tolerances follow from the dtype: an entry is a sum of k terms, each made by at most 8 operations that round by up to
two units in the last place, so it may be off by (k + 16) eps times the sum of the terms' sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends
from minigrad.tensor import Tensor
from tests import strategies
from tests.conftest import BACKENDS
from tests.strategies import Domain, as_numpy, as_tensor

Shapes = tuple[tuple[int, ...], ...]
Static = dict[str, Any]
REAL = Domain()
FLOATS, INTEGERS = ("float32", "float64"), ("int32", "int64")


@dataclass(frozen=True)
class Row:
    """One operation, and all that the proofs need to know of it.

    f, numpy: the operation on tensors, and on arrays, called with the same static arguments.
    oracle: from tests/oracles/ops.py; None for an operation that passes no gradient.
    shapes: a strategy for the inputs' shapes and the static arguments, where integer arrays may stand for tensors.
    points: the same, fixed, for finite differences and for the mutants.
    precise: "exactly" NumPy's value; to a few units in the "last place"; or a "sum", as precise as one.
    floating: integers are made float32 first.
    extremes: arrays where the oracle must agree, though finite differences could not: at kinks, ties, large numbers.
    lands: the backend of the result, if it is not that of the inputs.
    """

    name: str
    f: Callable[..., Any]
    numpy: Callable[..., Any]
    oracle: Callable[..., Any] | None
    shapes: st.SearchStrategy
    points: Sequence[tuple[Shapes, Static]]
    domains: tuple[Domain, ...] = (REAL,)
    precise: str = "exactly"
    floating: bool = False
    dtypes: tuple[str, ...] = FLOATS + INTEGERS
    extremes: Sequence[tuple[list[np.ndarray], Static]] = ()
    lands: str | None = None

    def domains_of(self, count: int) -> tuple[Domain, ...]:
        return self.domains if len(self.domains) == count else self.domains[:1] * count

    @property
    def cases(self) -> st.SearchStrategy:
        """Arrays and static arguments."""

        @st.composite
        def case(draw: Any) -> tuple[list[np.ndarray], Static]:
            shapes, static = draw(self.shapes)
            dtype = draw(
                st.sampled_from(tuple(d for d in self.dtypes if d in FLOATS) + self.dtypes)
            )  # floats more often
            return draw(strategies.arrays(shapes, self.domains_of(len(shapes)), dtype)), static

        return case()

    def at_points(self) -> list[tuple[list[np.ndarray], Static]]:
        """Arrays of float64 whose entries are apart from each other and from kinks, and static arguments."""
        rng = np.random.default_rng(len(self.name))
        found = []
        for shapes, static in self.points:
            domains = self.domains_of(len(shapes))
            if len(set(domains)) == 1:
                arrays = domains[0].apart(rng, shapes)
            else:
                arrays = [domain.apart(rng, (shape,))[0] for domain, shape in zip(domains, shapes)]
            found.append((arrays, static))
        return found


def on(backend: str, static: Static) -> Static:
    """The static arguments, with the arrays among them as tensors."""

    def move(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(move(v) for v in value)
        return as_tensor(value, backend) if isinstance(value, np.ndarray) else value

    return {name: move(value) for name, value in static.items()}


def several(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def check_value(row: Row, arrays: list[np.ndarray], static: Static, backend: str) -> None:
    """The shape, the dtype, the type of array and the values are what they should be."""
    tensors = [as_tensor(a, backend) for a in arrays]
    got = several(row.f(*tensors, **on(backend, static)))
    made_floats = row.floating and arrays[0].dtype.name not in FLOATS
    with np.errstate(all="ignore"):
        like = several(row.numpy(*arrays, **static))
        exact = [np.asarray(a, "float64") for a in arrays] if row.precise != "exactly" else arrays
        expected = several(row.numpy(*exact, **static))
        sizes = several(row.numpy(*map(np.abs, exact), **static)) if row.precise == "sum" else expected
    assert len(got) == len(expected)
    for y, same, value, size in zip(got, like, expected, sizes):
        assert type(y) is Tensor and type(y.data) is backends.get(row.lands or backend).array_type
        assert not y.requires_grad
        assert y.shape == np.shape(value)
        dtype = "float32" if made_floats else str(same.dtype)
        assert backends.dtype_name(y.dtype) == dtype
        value = np.asarray(value).astype(dtype)
        if row.precise == "exactly" or dtype not in FLOATS:
            np.testing.assert_array_equal(as_numpy(y), value)
        else:
            roundings = 4 + (sum(a.size for a in arrays) if row.precise == "sum" else 0)
            limits = np.finfo(dtype)
            allowed = roundings * limits.eps * np.abs(size) + limits.smallest_normal
            off = np.abs(as_numpy(y).astype("float64") - value)
            assert np.all((off <= allowed) | (as_numpy(y) == value) | (np.isnan(as_numpy(y)) & np.isnan(value)))


def check_gradient(row: Row, arrays: list[np.ndarray], static: Static, backend: str, seed: int = 0) -> None:
    """The gradients are the oracle's, in the dtype and on the backend of their inputs."""
    rng = np.random.default_rng(seed)
    tensors = [as_tensor(a, backend, requires_grad=True) for a in arrays]
    y = row.f(*tensors, **on(backend, static))
    g = [rng.uniform(-2, 2, part.shape) * (rng.random(part.shape) < 0.9) for part in several(y)]
    g = [part.astype(backends.dtype_name(output.dtype)) for part, output in zip(g, several(y))]
    if isinstance(y, list):
        _, pull = mg.vjp(lambda *xs: row.f(*xs, **on(backend, static)), *tensors)
        got = several(pull([as_tensor(part, backend) for part in g]))
        expected = row.oracle([part.astype("float64") for part in g], *_precise(arrays), **static)  # type: ignore[misc]
    else:
        y.backward(as_tensor(g[0], y.backend))
        got = [x.grad for x in tensors]
        expected = row.oracle(g[0].astype("float64"), *_precise(arrays), **static)  # type: ignore[misc]
    for x, gradient, terms in zip(tensors, got, expected, strict=True):
        assert type(gradient.data) is type(x.data)
        assert gradient.shape == x.shape
        assert gradient.dtype == x.dtype
        check_close(as_numpy(gradient), terms)


def _precise(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [a.astype("float64") for a in arrays]


def check_close(gradient: np.ndarray, terms: np.ndarray) -> None:
    """A gradient is the sum of the terms, up to rounding in its dtype."""
    limits = np.finfo(gradient.dtype)
    scale = np.abs(terms).sum(0).max(initial=0.0)
    off = np.abs(gradient - terms.sum(0)).max(initial=0.0)
    allowed = (len(terms) + 16) * limits.eps * scale + limits.smallest_normal
    assert off <= allowed, f"off by {off}, allowed {allowed}:\n{gradient}\nexpected\n{terms.sum(0)}"


def check_differences(row: Row, arrays: list[np.ndarray], static: Static, backend: str) -> None:
    """Finite differences agree with the gradient, and with the gradient of the gradient."""
    tensors = [as_tensor(a, backend) for a in arrays]
    assert mg.gradcheck(lambda *xs: row.f(*xs, **on(backend, static)), tensors, order=2).compared > 0


def proofs(rows: Sequence[Row]) -> tuple[Callable[..., None], Callable[..., None]]:
    """The two tests of a table of operations. Half as many examples as elsewhere, as every backend has its own."""
    everywhere = pytest.mark.parametrize("backend", BACKENDS)
    differentiable = [row for row in rows if row.oracle is not None]

    @everywhere
    @pytest.mark.parametrize("row", rows, ids=lambda row: row.name)
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of division by zero and overflow, NumPy's as much as ours
    @settings(max_examples=settings.default.max_examples // 2)  # type: ignore[union-attr]
    @given(data=st.data())
    def agree(backend: str, row: Row, data: Any) -> None:
        """The result is NumPy's in value, dtype and shape, and the gradient of every input is the oracle's."""
        arrays, static = data.draw(row.cases)
        check_value(row, arrays, static, backend)
        if row.oracle is not None and arrays[0].dtype.name in FLOATS:
            check_gradient(row, arrays, static, backend, data.draw(strategies.SEEDS))

    @everywhere
    @pytest.mark.parametrize("row", differentiable, ids=lambda row: row.name)
    def differences(backend: str, row: Row) -> None:
        """Finite differences agree with the gradient, and with the gradient's gradient; the oracle at extremes too."""
        for arrays, static in row.at_points():
            check_differences(row, arrays, static, backend)
        for arrays, static in row.extremes:
            check_value(row, arrays, static, backend)
            check_gradient(row, arrays, static, backend)

    return agree, differences
