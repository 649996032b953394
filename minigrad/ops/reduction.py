"""Operations that reduce axes, and running sums. `axis` is an integer, a tuple of them, or None for all axes."""

from __future__ import annotations

from math import inf, prod
from typing import Any

from ..tensor import Tensor
from .elementwise import divide
from .primitive import primitive


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of axes that are not negative."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(i % ndim for i in axes)


def _restore(xp, reduced, shape, axis, keepdims):
    """A reduced value with its axes of length 1 back in place, so that it broadcasts against what it came from."""
    if keepdims:
        return reduced
    axes = _axes(axis, len(shape))
    return xp.reshape(reduced, tuple(1 if i in axes else n for i, n in enumerate(shape)))


@primitive
def sum(xp, x, /, *, axis=None, keepdims=False):
    """Sum over the axes."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


sum.vjp(lambda g, x_shape, axis, keepdims, xp: xp.broadcast_to(_restore(xp, g, x_shape, axis, keepdims), x_shape))


def mean(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over the axes; NaN over none."""
    total = sum(x, axis=axis, keepdims=keepdims)
    return divide(total, prod(x.shape[i] for i in _axes(axis, len(x.shape))))


@primitive
def max(xp, x, /, *, axis=None, keepdims=False):
    """The largest element over the axes. Equal largest elements share the gradient equally."""
    return xp.max(x, axis=axis, keepdims=keepdims)


@primitive
def min(xp, x, /, *, axis=None, keepdims=False):
    """The smallest element over the axes. Equal smallest elements share the gradient equally."""
    return xp.min(x, axis=axis, keepdims=keepdims)


def _extremum_rule(g, x, y, x_shape, x_dtype, axis, keepdims, xp):
    chosen = xp.astype(x == _restore(xp, y, x_shape, axis, keepdims), x_dtype)
    count = xp.sum(chosen, axis=axis, keepdims=True)
    return _restore(xp, g, x_shape, axis, keepdims) * (chosen / count)


max.vjp(_extremum_rule)
min.vjp(_extremum_rule)


@primitive
def argmax(xp, x, /, *, axis=None, keepdims=False):
    """The index of the (first) largest element along one axis, or in the flattened tensor. No gradient."""
    return xp.argmax(x, axis=axis, keepdims=keepdims)


argmax.vjp(None)


@primitive
def all(xp, x, /, *, axis=None, keepdims=False):
    """Whether all elements over the axes are true."""
    return xp.all(x, axis=axis, keepdims=keepdims)


all.vjp(None)


@primitive
def any(xp, x, /, *, axis=None, keepdims=False):
    """Whether some element over the axes is true."""
    return xp.any(x, axis=axis, keepdims=keepdims)


any.vjp(None)


@primitive(floating=True)
def logsumexp(xp, x, /, *, axis=None, keepdims=False):
    """log(sum(exp(x))) over the axes, without overflow; -inf where every x is -inf."""
    largest = xp.max(x, axis=axis, keepdims=True)
    largest = xp.where(xp.isfinite(largest), largest, 0.0)
    total = xp.sum(xp.exp(x - largest), axis=axis, keepdims=True)
    y = xp.where(total == 0, -inf, xp.log(xp.where(total == 0, 1.0, total)) + largest)
    if keepdims:
        return y
    axes = _axes(axis, len(x.shape))
    return xp.reshape(y, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def _logsumexp_rule(g, x, y, x_shape, axis, keepdims, xp):
    # softmax(x). The sum would be 1 but for the rounding of y, and dividing by it takes that out: y may be large.
    y = _restore(xp, y, x_shape, axis, keepdims)
    p = xp.exp(x - xp.where(xp.isfinite(y), y, 0.0))
    total = xp.sum(p, axis=axis, keepdims=True)
    return _restore(xp, g, x_shape, axis, keepdims) * (p / xp.where(total == 0, 1.0, total))


logsumexp.vjp(_logsumexp_rule)


@primitive
def cumulative_sum(xp, x, /, *, axis):
    """Running sums along one axis: y[i] = x[0] + ... + x[i]."""
    return xp.cumulative_sum(x, axis=axis)


cumulative_sum.vjp(
    lambda g, axis, xp: xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis),
)
