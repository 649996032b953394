"""Seeds and random numbers. One stream for each thread (or asyncio task), so threads do not disturb each other.

Initial weights and the order of the data are drawn on the CPU and moved, so every backend starts from identical
numbers. Noise (`bernoulli`, for dropout) is drawn where the arrays live: each draw takes one key from the CPU's
stream, and with the key the backend draws its own numbers, which differ between backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import backends
from .errors import ArgumentError, ShapeError
from .graph import watcher
from .tensor import Tensor

_stream: ContextVar[np.random.Generator | None] = ContextVar("random_stream", default=None)


class seed:
    """Start the stream of random numbers anew, from here on or inside a `with` block.

    >>> import minigrad as mg
    >>> with mg.seed(0):
    ...     a = mg.random.normal((2,))
    >>> with mg.seed(0):
    ...     bool(mg.all(a == mg.random.normal((2,))))
    True
    """

    def __init__(self, value: int):
        self._value, self._token = value, _stream.set(np.random.default_rng(value))

    def __repr__(self) -> str:
        return f"seed({self._value})"

    def __enter__(self) -> seed:
        return self

    def __exit__(self, *exc: object) -> None:
        _stream.reset(self._token)


def generator() -> np.random.Generator:
    """The stream of the current thread: NumPy's generator, to draw from. Unpredictable until `seed` is called."""
    watch = watcher.get()
    if watch is not None:
        watch.drawn()
    return _generator()


def _generator() -> np.random.Generator:
    stream = _stream.get()
    if stream is None:
        stream = np.random.default_rng()
        _stream.set(stream)
    return stream


def get_state() -> dict[str, Any]:
    """Where the stream stands, to come back to with `set_state`; plain data that JSON can hold."""
    return dict(_generator().bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Continue the stream from where `get_state` found it."""
    stream = np.random.default_rng()
    stream.bit_generator.state = state
    _stream.set(stream)


def uniform(
    shape: Sequence[int], low: float = 0.0, high: float = 1.0, *, dtype: Any = backends.float32, backend: Any = None
) -> Tensor:
    """A tensor of numbers uniform in [low, high), drawn on the CPU."""
    return _moved(generator().uniform(low, high, tuple(shape)), dtype, backend)


def normal(
    shape: Sequence[int], mean: float = 0.0, std: float = 1.0, *, dtype: Any = backends.float32, backend: Any = None
) -> Tensor:
    """A tensor of normally distributed numbers, drawn on the CPU."""
    return _moved(generator().normal(mean, std, tuple(shape)), dtype, backend)


def bernoulli(like: Tensor, probability: float) -> Tensor:
    """A tensor of booleans in the shape of `like`, drawn where it lives; each is true with this probability."""
    key = int(generator().integers(2**63))
    xp = backends.namespace_of(like.data)
    return Tensor(xp.random(key, like.shape) < probability)


def _moved(array: np.ndarray, dtype: Any, backend: str | None) -> Tensor:
    return Tensor(backends.as_array(array, dtype, backends.get(backend) if backend else backends.current()))


def orthogonal(shape: Sequence[int], *, dtype: Any = backends.float32, backend: str | None = None) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer, uniform among all such; drawn on the CPU."""
    if len(shape) != 2:
        raise ShapeError(f"orthogonal: expected two sizes, got {tuple(shape)}")
    rows, columns = shape
    q, r = np.linalg.qr(generator().normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diagonal(r))  # without this the signs would depend on the algorithm of qr
    return _moved(q if rows >= columns else q.T, dtype, backend)


def reservoir(
    size: int, *, spectral_radius: float, density: float, dtype: Any = backends.float32, backend: str | None = None
) -> Tensor:
    """A matrix (size, size), 0 but for a share `density` of its entries, scaled to a spectral radius; for a reservoir.

    Drawn on the CPU, normal where not 0. Raises ArgumentError for a density not in (0, 1] or a negative radius, and if
    all eigenvalues are 0, as they are where a small matrix has too few entries.
    """
    size = backends.as_count("reservoir", "size", size)
    if not 0 < density <= 1 or not 0 <= spectral_radius < np.inf:
        raise ArgumentError(
            "reservoir: density must be above 0 and at most 1, and spectral_radius finite and not negative, got "
            f"{density!r} and {spectral_radius!r}"
        )
    stream = generator()
    weights = stream.normal(size=(size, size)) * (stream.random((size, size)) < density)
    radius = np.abs(np.linalg.eigvals(weights)).max()
    if not radius > 1e-6:  # a matrix without cycles, whose eigenvalues are all 0 but for rounding
        raise ArgumentError(
            f"reservoir: a matrix ({size}, {size}) of density {density} has no cycle that a signal could echo in; "
            "more units or a larger density have"
        )
    return _moved(weights * (spectral_radius / radius), dtype, backend)
