"""Clipping: gradients kept from exploding."""

from __future__ import annotations

from collections.abc import Iterable

from .. import ops
from ..errors import AnomalyError, ArgumentError
from ..graph import no_grad
from ..tensor import Tensor
from .optimizer import parameter_list


@no_grad()
def clip_by_norm(parameters: Iterable[Tensor], max_norm: float, *, error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients together so that their norm is at most `max_norm`; returns the norm that they had.

    The norm is that of one vector of all gradients g. Two formulas are in use for this and are the same function:
    min(max_norm, |g|) g / |g|, and g if |g| <= max_norm, else max_norm g / |g|. Here nothing is added to |g|, so the
    norm comes out exact, and gradients of 0 stay 0. Pascanu et al. 2013, algorithm 1.

    If the norm is NaN or infinite no scale can help: the gradients stay as they are, or AnomalyError is raised if
    `error_if_nonfinite`. The norm stays on the gradients' backend, a 0-d tensor of float64, until it is looked at.
    """
    if not max_norm >= 0:
        raise ArgumentError(f"clip_by_norm: max_norm must not be negative, got {max_norm}")
    clipped = [p for p in parameter_list("clip_by_norm", parameters) if p.grad is not None]
    if not clipped:
        return ops.zeros((), dtype="float64")
    squares = [ops.sum(ops.astype(p.grad, "float64") ** 2) for p in clipped]  # float32 would overflow at 1e19
    norm = ops.sqrt(ops.sum(ops.stack(squares)))
    if error_if_nonfinite and not ops.isfinite(norm):
        raise AnomalyError(
            f"clip_by_norm: the norm of the gradients is {norm.item()}; detect_anomaly() finds its cause"
        )
    large = ops.logical_and(norm > max_norm, ops.isfinite(norm))
    scale = ops.where(large, max_norm / ops.where(large, norm, 1.0), 1.0)
    for p in clipped:
        p.grad = p.grad * ops.astype(scale, p.dtype)  # type: ignore[operator]
    return norm


@no_grad()
def clip_by_value(parameters: Iterable[Tensor], limit: float) -> None:
    """Limit every element of every gradient to [-limit, limit]. This changes the direction of the whole."""
    if not limit >= 0:
        raise ArgumentError(f"clip_by_value: limit must not be negative, got {limit}")
    for p in parameter_list("clip_by_value", parameters):
        if p.grad is not None:
            p.grad = ops.clip(p.grad, -limit, limit)
