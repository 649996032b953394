"""Initialisers: functions from a shape to a tensor. Drawn on the CPU from `mg.random`, so alike on every backend.

The shape of a weight is (fan_out, fan_in), as that of `Linear`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import ops, random
from ..errors import ShapeError
from ..tensor import Tensor

Shape = Sequence[int]


def zeros(shape: Shape) -> Tensor:
    """All 0."""
    return ops.zeros(tuple(shape))


def ones(shape: Shape) -> Tensor:
    """All 1."""
    return ops.ones(tuple(shape))


def uniform(shape: Shape, bound: float = 1.0) -> Tensor:
    """Uniform in [-bound, bound)."""
    return random.uniform(shape, -bound, bound)


def normal(shape: Shape, std: float = 1.0) -> Tensor:
    """Normal, of mean 0."""
    return random.normal(shape, 0.0, std)


def glorot_uniform(shape: Shape, gain: float = 1.0) -> Tensor:
    """Uniform, of variance gain**2 * 2 / (fan_in + fan_out); for tanh and sigmoid. Glorot and Bengio 2010, eq. 16."""
    fan_out, fan_in = _fans(shape)
    return uniform(shape, gain * (6 / (fan_in + fan_out)) ** 0.5)


def glorot_normal(shape: Shape, gain: float = 1.0) -> Tensor:
    """Normal, of variance gain**2 * 2 / (fan_in + fan_out). Glorot and Bengio 2010."""
    fan_out, fan_in = _fans(shape)
    return normal(shape, gain * (2 / (fan_in + fan_out)) ** 0.5)


def he_uniform(shape: Shape) -> Tensor:
    """Uniform, of variance 2 / fan_in; for ReLU. He et al. 2015, eq. 10."""
    return uniform(shape, (6 / _fans(shape)[1]) ** 0.5)


def he_normal(shape: Shape) -> Tensor:
    """Normal, of variance 2 / fan_in; for ReLU. He et al. 2015, eq. 10."""
    return normal(shape, (2 / _fans(shape)[1]) ** 0.5)


def orthogonal(shape: Shape, gain: float = 1.0) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times gain. Saxe et al. 2014."""
    return random.orthogonal(shape) * gain


def identity(shape: Shape, gain: float = 1.0) -> Tensor:
    """The identity matrix times gain, as for the recurrent weights of an IRNN. Le et al. 2015."""
    return ops.eye(*_fans(shape)) * gain


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2:
        raise ShapeError(f"a weight matrix has a shape (fan_out, fan_in), not {tuple(shape)}")
    return shape[0], shape[1]
