"""Gradients by forward mode: every value carries its dense Jacobian by every leaf. Plain NumPy, and exact on integers.

It shares no idea with a backward pass: no order of nodes, no cotangents, no accumulation. It also keeps, for each
value, the names of the recorded operations below it, from which follows which graphs one backward pass uses up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import numpy as np

_names = count()


@dataclass
class Value:
    """An array, its Jacobian of shape (*array.shape, leaf size) by each leaf, and the operations that made it."""

    array: np.ndarray
    jacobian: dict[int, np.ndarray] = field(default_factory=dict)
    operations: frozenset[int] = frozenset()

    @property
    def tracked(self) -> bool:
        """Whether it depends on a leaf by recorded operations."""
        return bool(self.jacobian)

    @property
    def magnitude(self) -> float:
        """The largest number in the array and the Jacobians."""
        return max((float(np.abs(a).max(initial=0.0)) for a in (self.array, *self.jacobian.values())), default=0.0)

    def column(self, leaf: int, k: int) -> np.ndarray:
        """How the array moves as element k of a leaf does."""
        return self.jacobian[leaf][..., k] if leaf in self.jacobian else np.zeros_like(self.array)


def leaf(array: np.ndarray) -> tuple[int, Value]:
    """A value to differentiate by, and its name."""
    name = next(_names)
    return name, Value(array, {name: np.eye(array.size).reshape(*array.shape, array.size)})


def cut(value: Value) -> Value:
    """The same values, without a past."""
    return Value(value.array)


def linear(f: Callable[..., np.ndarray], *values: Value) -> Value:
    """A linear function of the values: it moves as `f` of how they move, column by column."""
    return _made(f(*(v.array for v in values)), values, f)


def bilinear(f: Callable[[np.ndarray, np.ndarray], np.ndarray], a: Value, b: Value) -> Value:
    """A function linear in each of its two values: the product rule."""
    return _made(f(a.array, b.array), (a, b), lambda da, db: f(da, b.array) + f(a.array, db))


def pointwise(f: Callable[[np.ndarray], np.ndarray], derivative: Callable[[np.ndarray], np.ndarray], a: Value) -> Value:
    """A function of each element alone: the chain rule."""
    return _made(f(a.array), (a,), lambda da: derivative(a.array) * da)


def siblings(values: list[Value]) -> list[Value]:
    """The outputs of one operation: using up one uses up all."""
    shared = frozenset([next(_names)])
    return [Value(v.array, v.jacobian, v.operations | shared) if v.tracked else v for v in values]


def gradients(value: Value, cotangent: np.ndarray) -> dict[int, np.ndarray]:
    """The gradient of sum(cotangent * value) by every leaf, flat."""
    return {name: np.tensordot(cotangent, j, axes=cotangent.ndim) for name, j in value.jacobian.items()}


def _made(array: np.ndarray, parents: tuple[Value, ...], moved: Callable[..., np.ndarray]) -> Value:
    sizes = {name: j.shape[-1] for v in parents for name, j in v.jacobian.items()}
    jacobian = {name: np.zeros((*np.shape(array), size)) for name, size in sizes.items()}
    for name, size in sizes.items():
        for k in range(size):
            jacobian[name][..., k] = moved(*(v.column(name, k) for v in parents))
    operations = frozenset().union(*(v.operations for v in parents), [next(_names)]) if jacobian else frozenset()
    return Value(np.asarray(array), jacobian, operations)
