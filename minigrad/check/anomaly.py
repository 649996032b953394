"""Where a NaN was born: the first operation that makes one, and the line of the user's code that called it."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from contextvars import Token
from typing import Any

import numpy as np

from .. import backends
from ..errors import AnomalyError
from ..graph import Node, Sum, Watcher, watcher
from ..tensor import Tensor


class detect_anomaly(Watcher):
    """Inside `with detect_anomaly():` the first NaN or infinity raises AnomalyError.

    The message names the operation that made it out of finite numbers, and the line of your code that called it; in
    a backward pass, the operation whose backward formula made it and the line of its forward call. Slow: every
    result is looked at.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 0.0], requires_grad=True)
    >>> with mg.detect_anomaly():
    ...     y = mg.log(x)
    Traceback (most recent call last):
    minigrad.errors.AnomalyError: log made -inf from finite numbers...
    """

    def __init__(self) -> None:
        self._origins: dict[Node, str] = {}
        self._tokens: list[Token[Watcher | None]] = []

    def __enter__(self) -> detect_anomaly:
        self._tokens.append(watcher.set(self))
        return self

    def __exit__(self, *exc: object) -> None:
        watcher.reset(self._tokens.pop())
        self._origins.clear()

    def made(self, name: str, node: Node | None, inputs: Sequence[Any], output: Any) -> None:
        origin = _users_line()
        if node is not None:
            self._origins[node] = origin
        bad = _anomaly(output if isinstance(output, list) else [output])
        if bad is not None and _anomaly(inputs) is None:
            raise AnomalyError(f"{name} made {bad} from finite numbers, at {origin}")

    def pulled(self, node: Node, cotangent: Any, made: Any) -> None:
        bad = _anomaly([made.total() if isinstance(made, Sum) else made])
        given = list(cotangent.values()) if isinstance(cotangent, dict) else [cotangent]
        if bad is not None and _anomaly(given) is None:
            origin = self._origins.get(node, "a place outside this detect_anomaly()")
            raise AnomalyError(f"the backward formula of {node.name} made {bad}; the forward call was at {origin}")


def _anomaly(arrays: Sequence[Any]) -> str | None:
    """The first value that is not finite and where it stands, in words."""
    for a in arrays:
        a = a.data if isinstance(a, Tensor) else a
        if backends.is_array(a) and backends.is_floating(a):
            values = backends.namespace_of(a).to_numpy(a)
            if not np.isfinite(values).all():
                index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                return f"{values[index]} (at index {index} of shape {values.shape})"
    return None


_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep


def _users_line() -> str:
    """The innermost line of the call stack that is not minigrad's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line).strip()
    return f"{file}:{line}" + (f": {text}" if text else "")
