"""The loop as its definition: one step after another, each recorded in the graph. The compiled loop must equal it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops, tree
from ..errors import ArgumentError
from ..graph import watcher


def loop(step: Callable[..., Any], xs: Any, init: Any, context: Any, reverse: bool) -> tuple[Any, Any]:
    """`scan` by an ordinary Python loop. At least one step."""
    slices = [ops.unstack(x) for x in tree.leaves(xs)]
    order = range(len(slices[0]))
    state, outs = init, []
    watch = watcher.get()
    try:
        for t in reversed(order) if reverse else order:
            if watch is not None:
                watch.step(slices, t)
            parts = iter([x[t] for x in slices])
            out, new_state = pair(step(tree.map(lambda _, parts=parts: next(parts), xs), state, *context))
            check_structure(state, new_state)
            state = new_state
            outs.append(out)
    finally:
        if watch is not None:
            watch.step(slices, None)
    if reverse:
        outs.reverse()
    return tree.map(lambda *steps: ops.stack(steps), outs[0], *outs[1:]), state


def pair(result: Any) -> Any:
    """What a step returns, if it is (out, state)."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentError(f"scan: a step returns (out, state), this one returned one {type(result).__name__}")
    return result


def check_structure(old: Any, new: Any) -> None:
    """Raise ArgumentError unless the state after a step has the structure of that before it."""

    def leaf(_: Any, new: Any) -> None:
        if new is None or isinstance(new, (tuple, list, dict)):
            raise ArgumentError(f"expected a tensor, got a {type(new).__name__}")

    try:
        tree.map(leaf, old, new)
    except ArgumentError as error:
        raise ArgumentError(
            f"scan: the state after the step must have the structure of that before it: {error}"
        ) from None
