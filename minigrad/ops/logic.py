"""Comparisons and logic, element by element, with broadcasting. They answer with booleans, and no gradient flows."""

from __future__ import annotations

from .primitive import primitive


@primitive
def equal(xp, x1, x2, /):
    """x1 == x2, as booleans."""
    return x1 == x2


equal.vjp(None, None)


@primitive
def not_equal(xp, x1, x2, /):
    """x1 != x2, as booleans."""
    return x1 != x2


not_equal.vjp(None, None)


@primitive
def less(xp, x1, x2, /):
    """x1 < x2, as booleans."""
    return x1 < x2


less.vjp(None, None)


@primitive
def less_equal(xp, x1, x2, /):
    """x1 <= x2, as booleans."""
    return x1 <= x2


less_equal.vjp(None, None)


@primitive
def greater(xp, x1, x2, /):
    """x1 > x2, as booleans."""
    return x1 > x2


greater.vjp(None, None)


@primitive
def greater_equal(xp, x1, x2, /):
    """x1 >= x2, as booleans."""
    return x1 >= x2


greater_equal.vjp(None, None)


@primitive
def logical_and(xp, x1, x2, /):
    """Whether both booleans hold."""
    return xp.logical_and(x1, x2)


logical_and.vjp(None, None)


@primitive
def logical_or(xp, x1, x2, /):
    """Whether one of the booleans holds."""
    return xp.logical_or(x1, x2)


logical_or.vjp(None, None)


@primitive
def logical_not(xp, x, /):
    """The opposite of booleans."""
    return xp.logical_not(x)


logical_not.vjp(None)


@primitive
def isfinite(xp, x, /):
    """Whether x is neither NaN nor infinite."""
    return xp.isfinite(x)


isfinite.vjp(None)
