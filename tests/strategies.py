"""Hypothesis strategies: shapes, shapes that broadcast, and arrays in every memory layout.

The shape, the layout and a seed are what hypothesis draws and shrinks. The values come from the seed: some are those
where formulas break (zero, tiny, large, equal to each other), the others are spread over the domain of the operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad import backends
from minigrad.tensor import Tensor

LAYOUTS = ("plain", "transposed", "strided", "reversed", "repeated")
FLOATS = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Domain:
    """Where an operation is tried: between `low` and `high`, and at the `special` values.

    Points for finite differences lie in (low, high) only, and are apart from each other and from the special values.
    """

    low: float = -2.0
    high: float = 2.0
    special: tuple[float, ...] = (0.0, -0.0, 1.0, -1.0, 1e-12, -1e-6, 1e4, -3e5)

    def values(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Any of its values, often special ones."""
        ordinary = rng.uniform(self.low, self.high, shape)
        special = rng.choice(np.array(self.special or (1.0,)), shape)
        return np.where(rng.random(shape) < 0.3, special, ordinary).astype(dtype)

    def apart(self, rng: np.random.Generator, shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
        """Arrays of float64 with no two entries equal, within one array or between them."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        grid = self.low + (self.high - self.low) * (np.arange(sum(sizes)) + 0.5 + 0.2 * rng.random()) / sum(sizes)
        grid = np.array([v + 0.01 if abs(v) < 5e-3 else v for v in grid])
        parts = np.split(rng.permutation(grid), np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4) -> st.SearchStrategy:
    """Shapes: 0-d, with an axis of length 0, and ordinary ones."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable(count: int, max_dims: int = 3) -> st.SearchStrategy:
    """Tuples of shapes that broadcast together, axes of length 0 included."""
    return hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=max_dims, min_side=0, max_side=4).map(
        lambda found: found.input_shapes
    )


def axes(ndim: int) -> st.SearchStrategy:
    """None, one axis, or a tuple of different axes, some of them negative."""
    if not ndim:
        return st.none()
    one = st.integers(-ndim, ndim - 1)
    several = st.lists(one, unique_by=lambda i: i % ndim, max_size=ndim).map(tuple)
    return st.none() | one | several


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values (for "repeated": the first along the first axis, again and again) in another memory layout."""
    if array.ndim == 0 or layout == "plain":
        return array
    if layout == "transposed":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.asarray(7, array.dtype))
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    return np.broadcast_to(array[:1], array.shape) if array.shape[0] else array


@st.composite
def arrays(draw: Any, shapes: tuple[tuple[int, ...], ...], domains: tuple[Domain, ...], dtype: str) -> list[np.ndarray]:
    """Arrays of these shapes, each with values of its domain, in layouts of any kind."""
    rng = np.random.default_rng(draw(SEEDS))
    layouts = draw(st.tuples(*[st.sampled_from(LAYOUTS) for _ in shapes]))
    return [laid_out(d.values(rng, s, dtype), layout) for s, d, layout in zip(shapes, domains, layouts)]


def as_tensor(array: Any, backend: str, requires_grad: bool = False) -> Tensor:
    """A tensor of this very array, in its layout (`mg.tensor` would make a copy in another)."""
    xp = backends.get(backend)
    tensor = Tensor(xp.asarray(np.asarray(array)))
    tensor.requires_grad = requires_grad
    return tensor


def as_numpy(tensor: Any) -> np.ndarray:
    """The values of a tensor, or of an array of any backend."""
    data = tensor.data if isinstance(tensor, Tensor) else tensor
    return backends.namespace_of(data).to_numpy(data)
