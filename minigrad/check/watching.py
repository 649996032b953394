"""Looking on while a cell runs: noise in its steps, floats of another dtype, attributes that change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backends, nn
from ..graph import Node, Watcher
from ..scan import eager
from ..tensor import Tensor
from .anomaly import _users_line
from .trial import prepared


class Noise(Watcher):
    """Sees random numbers drawn, in a run by its `over`.

    where: the line that draws the first in a step, if any does. in_prepare: whether `prepare` draws some.
    """

    def __init__(self) -> None:
        self.where, self.inside, self.in_prepare = "", "", False

    def drawn(self) -> None:
        if self.inside == "prepare":
            self.in_prepare = True
        elif self.inside == "step" and not self.where:
            self.where = _users_line()

    def over(self, cell: nn.Cell, xs: Tensor, state: Any, memory: Any) -> Any:
        """By the eager loop."""

        def step(x: Any, state: Any, *context: Any) -> Any:
            self.inside = "step"
            try:
                return cell(x, state, *context)
            finally:
                self.inside = ""

        self.inside = "prepare"
        try:
            parts, context = prepared(cell, xs, memory)
        finally:
            self.inside = ""
        return eager.loop(step, parts, state, context, False)


class Other(Watcher):
    """Sees where the first floats of another dtype than the wanted are made out of floats of that."""

    def __init__(self, dtype: str):
        self.dtype, self.found = dtype, ""

    def made(self, name: str, node: Node | None, inputs: Sequence[Any], output: Any) -> None:
        if self.found:
            return
        got = _floats(output if isinstance(output, list) else [output])
        given = _floats([i.data if isinstance(i, Tensor) else i for i in inputs])
        if self.dtype in given and got - {self.dtype}:
            self.found = f"The first {', '.join(got - {self.dtype})} is made at {_users_line()}."


def _floats(arrays: Sequence[Any]) -> set[str]:
    return {str(a.dtype).rpartition(".")[2] for a in arrays if backends.is_array(a) and backends.kind_of(a) == "float"}


_PLAIN = (int, float, str, bool, bytes, complex, type(None))


def attributes(cell: nn.Cell) -> dict[str, Any]:
    """What a cell and everything that belongs to it holds, by name; of arrays the values too."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("self", cell)]
    while stack:
        name, value = stack.pop()
        dot = f"{name}."
        found[name] = value
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found[f"{dot}data"] = value.data
            value = value.data
        if backends.is_array(value):
            found[f"{dot}values"] = np.array(backends.namespace_of(value).to_numpy(value))
        elif isinstance(value, dict):
            stack += reversed([(f"{dot}{key}", part) for key, part in value.items()])
        elif isinstance(value, (list, tuple)):
            stack += reversed([(f"{dot}{i}", part) for i, part in enumerate(value)])
        elif isinstance(value, (set, frozenset)):
            found[f"{dot}values"] = frozenset(map(id, value))
        elif isinstance(value, nn.Module) or (hasattr(value, "__dict__") and not callable(value)):
            stack += reversed([(f"{dot}{key}", part) for key, part in vars(value).items()])
            for base in type(value).__mro__:
                if not base.__module__.startswith("minigrad"):
                    shared = {key: part for key, part in vars(base).items() if isinstance(part, (*_PLAIN, list, dict))}
                    stack += [(f"{base.__name__}.{key}", v) for key, v in shared.items() if not key.startswith("__")]
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The first attribute that is another one, in words."""
    for name in after | before:
        if name not in after:
            return f"`{name}` is gone"
        new = after[name]
        if name not in before:
            return f"`{name}` is new, a {type(new).__name__}"
        old = before[name]
        if old is new or (type(old) is type(new) and isinstance(old, (*_PLAIN, frozenset)) and old == new):
            continue
        if name.endswith("values") and isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            if old.shape == new.shape and np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
                continue
            return f"the values of `{name.removesuffix('.values').removesuffix('.data')}` are others"
        if isinstance(new, _PLAIN):
            return f"`{name}` was {old!r:.30}, and is {new!r:.30}"
        return f"`{name.removesuffix('.data')}` is another {type(new).__name__} than before"
    return ""
