"""Gradients against finite differences, for anyone's own ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from .. import backends, ops, transforms, tree
from ..errors import ArgumentError, GradcheckError
from ..tensor import Tensor

_STEP = 2.0**-17  # about the cube root of the rounding of float64, where both errors of a central difference are least
_TOLERANCE = 1e-6  # of the largest entry; both errors are below 1e-9 for functions of moderate curvature


@dataclass
class Mismatch:
    """One element of a gradient, as the backward pass and as finite differences have it."""

    order: int
    name: str
    index: tuple[int, ...]
    backward: float
    difference: float


@dataclass
class GradcheckReport:
    """What `gradcheck` compared. True if everything agreed; printed, it says where it did not."""

    compared: int
    worst: float
    mismatches: list[Mismatch]

    def __bool__(self) -> bool:
        return not self.mismatches

    def __str__(self) -> str:
        if self:
            return f"gradcheck: {self.compared} elements agree, to {self.worst:.1e} of the largest entry"
        lines = [
            f"gradcheck: {len(self.mismatches)} of {self.compared} elements differ from finite differences",
            f"  {'order':5}  {'element':24} {'backward':>14} {'difference':>14} {'ratio':>9}",
        ]
        for m in self.mismatches[:12]:
            ratio = m.backward / m.difference if m.difference else float("nan")
            where = f"{m.name}[{', '.join(map(str, m.index))}]"
            lines.append(f"  {m.order:5}  {where:24} {m.backward:14.6g} {m.difference:14.6g} {ratio:9.4f}")
        if len(self.mismatches) > 12:
            lines.append(f"  ... and {len(self.mismatches) - 12} more")
        ratios = [m.backward / m.difference for m in self.mismatches if abs(m.difference) > 1e-12]
        if ratios and max(ratios) - min(ratios) < 1e-4 * abs(ratios[0]) + 1e-9:
            lines.append(f"  The ratio is {ratios[0]:.4g} everywhere: {_advice(ratios[0])}")
        return "\n".join(lines)


def _advice(ratio: float) -> str:
    if abs(ratio) < 1e-9:
        return "the rule answers 0, as if this input were cut from the graph."
    if abs(ratio + 1) < 1e-4:
        return "a sign is wrong."
    if abs(ratio - 1) < 1e-4:
        return "the function bends too sharply here for finite differences; check at another point."
    return "a constant factor is wrong."


def gradcheck(
    f: Callable[..., Any], inputs: Sequence[Any], order: int = 1, *, names: Sequence[str] | None = None
) -> GradcheckReport:
    """Compare every element of the gradient of `f(*inputs)` with central differences, in float64.

    f: a function of tensors that returns a tensor, or nested tuples, lists or dicts of them. If it has several
        elements, their sum weighted with fixed random numbers is differentiated, which misses no element of the
        Jacobian.
    inputs: tensors, arrays or numbers. Floats are differentiated, as float64; integers are passed on as they are.
    order: 2 checks the gradient's own gradient as well, by the inputs and by the cotangent.
    names: of the inputs, for the report.

    Returns a report; raises GradcheckError, whose message is the report, if an element differs by more than 1e-6 of
    the largest. At a kink (of relu, abs, maximum) finite differences mean nothing: keep inputs away from it.

    >>> import minigrad as mg
    >>> print(mg.gradcheck(mg.tanh, [[0.5, -1.0]], order=2))
    gradcheck: 6 elements agree, to ... of the largest entry
    """
    if order not in (1, 2):
        raise ArgumentError(f"gradcheck: order is 1 or 2, not {order}")
    fixed = [x if isinstance(x, Tensor) else Tensor(backends.as_array(x)) for x in inputs]
    fixed = [ops.astype(x.detach(), "float64") if backends.is_floating(x.data) else x for x in fixed]
    names = list(names) if names else [f"input {i}" for i in range(len(fixed))]
    free = [i for i, x in enumerate(fixed) if backends.is_floating(x.data)]
    if not free:
        raise ArgumentError("gradcheck: no input is a float, so there is nothing to differentiate by")
    rng = np.random.default_rng(0)

    def of_free(*values: Tensor) -> Any:
        arguments = list(fixed)
        for i, value in zip(free, values):
            arguments[i] = value
        return tree.leaves(f(*arguments))

    points = [fixed[i] for i in free]
    point_names = [names[i] for i in free]
    weights = [_weights(rng, y) for y in of_free(*points)]
    report = GradcheckReport(0, 0.0, [])
    _compare(1, of_free, points, weights, point_names, report)
    if order == 2:
        n = len(points)

        def gradient(*values: Tensor) -> Any:
            _, pull = transforms.vjp(of_free, *values[:n])
            return list(pull(list(values[n:])))

        second_points = [*points, *weights]
        second_names = [*point_names, *(f"cotangent {i}" for i in range(len(weights)))]
        second_weights = [_weights(rng, x) for x in points]
        _compare(2, gradient, second_points, second_weights, second_names, report)
    if not report:
        raise GradcheckError(str(report))
    return report


def _weights(rng: np.random.Generator, y: Tensor) -> Tensor:
    """Random numbers of magnitude 0.5 to 1.5 in the shape of y, none so small that it would hide an element."""
    values = rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape)
    return Tensor(backends.as_array(values, namespace=backends.namespace_of(y.data)))


def _compare(
    order: int,
    f: Callable[..., list[Tensor]],
    points: Sequence[Tensor],
    weights: Sequence[Tensor],
    names: Sequence[str],
    report: GradcheckReport,
    places: Sequence[Sequence[tuple[int, ...]] | None] | None = None,
) -> None:
    """Add to the report the comparison for sum(weights * f(points)), by every element of every point.

    places: for each point the indices of the elements to compare by instead, or None for all of them.
    """

    def scalar(*values: Tensor) -> Tensor:
        total: Any = 0.0
        for w, y in zip(weights, f(*values)):
            total = total + (ops.astype(y, "float64") * w).sum()
        return total

    gradients = transforms.grad(scalar, argnums=range(len(points)))(*points)
    arrays = [np.array(x.numpy()) for x in points]
    pairs: list[tuple[str, tuple[int, ...], float, float]] = []
    for k, (name, g) in enumerate(zip(names, gradients)):
        xp = backends.namespace_of(points[k].data)
        backward = g.numpy()
        chosen = places[k] if places is not None else None
        for index in np.ndindex(*arrays[k].shape) if chosen is None else chosen:
            centre = float(arrays[k][index])
            step = _STEP * max(1.0, abs(centre))
            values = []
            for sign in (1, -1):
                arrays[k][index] = centre + sign * step
                moved = [*points[:k], Tensor(xp.from_numpy(arrays[k])), *points[k + 1 :]]
                values.append(scalar(*moved).item())
            arrays[k][index] = centre
            pairs.append((name, index, float(backward[index]), (values[0] - values[1]) / (2 * step)))
    scale = max([1e-3, *(abs(d) for *_, d in pairs if isfinite(d))])
    for name, index, b, d in pairs:
        off = abs(b - d) / scale
        report.compared += 1
        if not off <= _TOLERANCE:
            report.mismatches.append(Mismatch(order, name, index, b, d))
        else:
            report.worst = max(report.worst, off)
