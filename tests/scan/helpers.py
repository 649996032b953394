"""What the proof of the compiled loop stands on: the loop as its definition, and what it means to be equal to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import tree
from tests.strategies import as_numpy

EPS = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}


def loop(step: Callable[..., Any], xs: Any, init: Any, context: Any = (), reverse: bool = False, **_: Any) -> Any:
    """What `mg.scan` means, by plain unstacking, calling and stacking. At least one step."""
    parts = [mg.unstack(x) for x in tree.leaves(xs)]
    steps = len(parts[0])
    state: Any = init
    outs: list[Any] = [None] * steps
    for t in sorted(range(steps), reverse=reverse):
        now = iter([part[t] for part in parts])
        outs[t], state = step(tree.map(lambda _, now=now: next(now), xs), state, *context)
    return tree.map(lambda *ys: mg.stack(ys), outs[0], *outs[1:]), state


def structure(value: Any) -> Any:
    """The tree without its leaves: of each node its type and keys."""
    if isinstance(value, dict):
        return dict, {key: structure(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value), [structure(part) for part in value]
    return type(value)


def forget(leaves: Iterable[mg.Tensor]) -> None:
    """Take the gradients off the leaves."""
    for x in leaves:
        if x.requires_grad:
            x.grad = None


@contextmanager
def calls_of(step: Any) -> Iterator[list[int]]:
    """How often Python enters this function meanwhile, in this thread."""
    count, before = [0], sys.getprofile()

    def watch(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is step.__code__:
            count[0] += 1

    sys.setprofile(watch)
    try:
        yield count
    finally:
        sys.setprofile(before)


def gradients(leaves: Mapping[str, mg.Tensor]) -> dict[str, np.ndarray]:
    """What a backward pass left on the leaves. None and zeros are the same answer."""
    return {
        name: np.zeros(x.shape, as_numpy(x).dtype) if x.grad is None else np.array(as_numpy(x.grad))
        for name, x in leaves.items()
        if x.requires_grad
    }


def weighted(values: Any, seed: int = 0) -> mg.Tensor:
    """The sum of everything that is a float, each element times a fixed random number."""
    rng = np.random.default_rng(seed)
    total: Any = 0.0
    for y in tree.leaves(values):
        if isinstance(y, mg.Tensor) and np.issubdtype(as_numpy(y).dtype, np.floating):
            w = rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape)
            total = total + (y * mg.tensor(w.astype(as_numpy(y).dtype), backend=y.backend)).sum()
    return total


def ran(
    scan: Callable[..., Any],
    step: Callable[..., Any],
    xs: Any,
    init: Any,
    context: Any = (),
    leaves: Mapping[str, mg.Tensor] | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs and final states, and the gradients of `leaves` from all of them with fixed random cotangents."""
    leaves = leaves or {}
    forget(leaves.values())
    outs, state = scan(step, xs, init, context, **options)
    values = named(outs, state)
    loss = weighted((outs, state), seed)
    if isinstance(loss, mg.Tensor) and loss.requires_grad:
        loss.backward()
    found = gradients(leaves)
    forget(leaves.values())
    return values, found


def named(outs: Any, state: Any) -> dict[str, np.ndarray]:
    """Copies of all values, by where they stand."""
    return {
        f"{name}, leaf {i}": np.array(as_numpy(y if isinstance(y, mg.Tensor) else mg.tensor(y)))
        for name, values in (("outs", outs), ("state", state))
        for i, y in enumerate(tree.leaves(values))
    }


def furthest(
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], floor: float = 0.0
) -> tuple[float, str]:
    """Where they differ most, as (difference in units of the scale, name). Integers that differ are infinitely apart.

    The scale is the largest entry of all: a gradient that vanishes by cancellation is zero to the rounding of what
    cancelled, which is no smaller than that; or it is `floor`. Raises where names, shapes or dtypes differ.
    """
    assert actual.keys() == expected.keys()
    scale = max([floor, *(float(np.abs(e).max(initial=0.0)) for e in expected.values() if e.dtype.kind == "f")]) or 1.0
    worst = (0.0, "")
    for name, e in expected.items():
        a = actual[name]
        assert (a.shape, a.dtype) == (e.shape, e.dtype), f"{name}: {a.dtype}{a.shape}, expected {e.dtype}{e.shape}"
        if np.array_equal(a, e, equal_nan=e.dtype.kind == "f"):
            continue
        off = float(np.abs(a - e).max()) / scale if e.dtype.kind == "f" else np.inf
        worst = max(worst, (np.inf if np.isnan(off) else off, name))
    return worst


def equal(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], roundings: int = 1000) -> None:
    """Equal to so many roundings of the largest entry.

    A thousand: fewer than that are added up for any element in these tests, whose sizes are below ten, and the tanh
    or softmax in between shrink what came before.
    """
    dtypes = [EPS[e.dtype.name] for e in expected.values() if e.dtype.kind == "f"]
    off, name = furthest(actual, expected)
    assert off <= roundings * max(dtypes, default=0.0), f"{name} is off by {off:.1e} of the largest entry"


def agrees(
    step: Callable[..., Any],
    xs: Any,
    init: Any,
    context: Any = (),
    leaves: Mapping[str, mg.Tensor] | None = None,
    **options: Any,
) -> None:
    """`mg.scan` gives what the loop gives: values, and the gradient of every leaf."""
    expected = ran(loop, step, xs, init, context, leaves, **options)
    actual = ran(mg.scan, step, xs, init, context, leaves, **options)
    for a, e in zip(actual, expected):
        equal(a, e)


def leaf(*shape: int, seed: int = 0, dtype: str = "float64", scale: float = 0.7) -> mg.Tensor:
    """A leaf of random numbers that needs a gradient."""
    values = np.random.default_rng((seed, *shape)).normal(scale=scale, size=shape)
    return mg.tensor(values.astype(dtype), requires_grad=True)


def fixed(*shape: int, seed: int = 0, dtype: str = "float64") -> mg.Tensor:
    """A tensor of random numbers that needs no gradient."""
    return leaf(*shape, seed=seed, dtype=dtype).detach()


def simple(inputs: int = 2, size: int = 3, dtype: str = "float64") -> Any:
    """A step of a simple recurrent network that closes over its weights; and these."""
    weights = {"W": leaf(inputs, size, dtype=dtype), "U": leaf(size, size, dtype=dtype), "b": leaf(size, dtype=dtype)}
    W, U, b = weights.values()

    def step(x, h):
        h = mg.tanh(x @ W + h @ U + b)
        return h, h

    return step, weights


def data(T: int = 4, B: int = 2, inputs: int = 2, size: int = 3, dtype: str = "float64", seed: int = 0) -> Any:
    """Inputs and an initial state that need gradients, as (xs, init, both by name)."""
    xs, h = leaf(T, B, inputs, seed=seed, dtype=dtype), leaf(B, size, seed=seed, dtype=dtype)
    return xs, h, {"xs": xs, "h": h}
