"""Rates that change: functions from the number of steps done to the rate, for an optimiser's `lr` or a probability."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, exp, pi

from ..errors import ArgumentError

Schedule = Callable[[int], float]


def cosine(start: float, steps: int, *, end: float = 0.0) -> Schedule:
    """From start to end along half a cosine, over so many steps, and then end. Loshchilov and Hutter 2017.

    >>> rate = cosine(1.0, 10)
    >>> [round(rate(step), 2) for step in (0, 5, 10, 20)]
    [1.0, 0.5, 0.0, 0.0]
    """
    _positive("cosine", steps)
    return lambda step: end + (start - end) * 0.5 * (1 + cos(pi * min(step / steps, 1.0)))


def exponential(start: float, factor: float, *, every: int = 1) -> Schedule:
    """start, times `factor` each time so many steps are done: at once, not gradually.

    >>> rate = exponential(1.0, 0.5, every=10)
    >>> [rate(step) for step in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    _positive("exponential", every)
    return lambda step: start * factor ** (step // every)


def linear(start: float, steps: int, *, end: float = 0.0) -> Schedule:
    """From start to end in a straight line, over so many steps, and then end.

    >>> rate = linear(1.0, 10)
    >>> [round(rate(step), 2) for step in (0, 5, 10, 20)]
    [1.0, 0.5, 0.0, 0.0]
    """
    _positive("linear", steps)
    return lambda step: start + (end - start) * min(step / steps, 1.0)


def inverse_sigmoid(scale: float) -> Schedule:
    """k / (k + exp(step / k)), k = scale from 1: near 1, then ever faster down, 1/2 at k log k, and out towards 0.

    For the probability of a `nn.Teacher`: scheduled sampling, Bengio et al. 2015.

    >>> probability = inverse_sigmoid(100)
    >>> [round(probability(step), 2) for step in (0, 461, 1000)]
    [0.99, 0.5, 0.0]
    """
    if not scale >= 1:
        raise ArgumentError(f"inverse_sigmoid: scale must be at least 1, got {scale}")
    return lambda step: scale / (scale + exp(min(step / scale, 700.0)))


def warmup(steps: int, then: float | Schedule) -> Schedule:
    """Up from 0 in a straight line over so many steps, then `then`, a rate or a schedule that starts counting there.

    >>> rate = warmup(4, 1.0)
    >>> [rate(step) for step in (0, 1, 3, 4)]
    [0.25, 0.5, 1.0, 1.0]
    """
    _positive("warmup", steps)

    def rate(step: int) -> float:
        later = max(step - steps, 0)
        return (then(later) if callable(then) else then) * min((step + 1) / steps, 1.0)

    return rate


def _positive(name: str, steps: int) -> None:
    if steps < 1:
        raise ArgumentError(f"{name}: the number of steps must be positive, got {steps}")
