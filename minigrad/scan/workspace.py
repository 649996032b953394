"""Buffers: planned once for a program, laid out for a number of steps, and lent for the time of a call.

A `Plan` says how many bytes each value takes per step and which may share memory. A `Workspace` is one block of memory
with the arrays of a plan in it. A `Pool` lends workspaces; one that nobody holds any more comes back by itself.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from itertools import count
from math import prod
from typing import Any, ClassVar

import numpy as np

_ALIGNMENT = 64
_MOST_FREE = 2  # workspaces of one pool
_ALWAYS_KEPT = 8
_MOST_BYTES = 1 << 27


class Plan:
    """The slots of a pass: how many bytes one value takes, and how often it is there, by the name of a length."""

    def __init__(self) -> None:
        self.slots: list[tuple[int, str]] = []

    def slot(self, s: Any, length: str) -> int:
        """A new slot, for values of the shape and dtype of s."""
        self.slots.append((prod(s.shape) * s.dtype.itemsize, length))
        return len(self.slots) - 1

    def offsets(self, lengths: dict[str, int]) -> list[int]:
        """Where each slot begins, and at the end how many bytes there are in all."""
        offsets = [0]
        for size, length in self.slots:
            offsets.append(offsets[-1] + -(-size * lengths[length] // _ALIGNMENT) * _ALIGNMENT)
        return offsets


class Workspace:
    """A block of memory, laid out for some lengths. `cache` holds what is made of it once, until the lengths change."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)
        self.cache: dict[Any, Any] = {}
        self.turn = 0  # when it came back last
        self._lengths: dict[str, int] | None = None
        self._offsets: list[int] = []

    def lay_out(self, plan: Plan, lengths: dict[str, int]) -> None:
        """Make room for a plan's slots."""
        if lengths != self._lengths:
            offsets = plan.offsets(lengths)
            if offsets[-1] + _ALIGNMENT > self.memory.size:
                self.memory = np.empty(offsets[-1] + _ALIGNMENT, np.uint8)
            start = -self.memory.ctypes.data % _ALIGNMENT
            self._offsets = [start + offset for offset in offsets]
            self._lengths, self.cache = dict(lengths), {}

    def array(self, slot: int, shape: tuple[int, ...], dtype: Any, within: int, apart: int) -> np.ndarray:
        """A slot as an array. within: bytes from the start of the slot; apart: from one value to the next, or 0."""
        start = self._offsets[slot] + within
        if not apart:
            return np.ndarray(shape, dtype, self.memory.data, start)
        inner = np.ndarray(shape[1:], dtype, self.memory.data, start)
        return np.ndarray(shape, dtype, self.memory.data, start, (apart, *inner.strides))


class Lease:
    """A workspace on loan. When the last reference to the lease is gone, the pool has it back."""

    __slots__ = ("_pool", "workspace")

    def __init__(self, pool: Pool, workspace: Workspace):
        self._pool, self.workspace = pool, workspace

    def __del__(self) -> None:
        self._pool.take_back(self.workspace)


class Pool:
    """The workspaces of one plan that wait for another call.

    Of all pools together only those that came back last are kept: eight, and as many more as fit into 128 MB.
    """

    _all: ClassVar[weakref.WeakSet[Pool]] = weakref.WeakSet()
    _lock: ClassVar[threading.RLock] = threading.RLock()  # a lease may end, by garbage collection, while it is held
    _turns: ClassVar[Iterator[int]] = count()
    _held: ClassVar[int] = 0  # bytes in all pools, or more

    def __init__(self, plan: Plan):
        self.plan = plan
        self.free: list[Workspace] = []
        with Pool._lock:
            Pool._all.add(self)

    @property
    def bytes(self) -> int:
        """The memory that waits for another call."""
        return sum(w.memory.size for w in self.free)

    def lend(self, lengths: dict[str, int]) -> Lease:
        """A workspace with room for these lengths."""
        try:
            workspace = self.free.pop()
            Pool._held -= workspace.memory.size
        except IndexError:
            workspace = Workspace()
        workspace.lay_out(self.plan, lengths)
        return Lease(self, workspace)

    def take_back(self, workspace: Workspace) -> None:
        """Keep a workspace for another call."""
        if len(self.free) < _MOST_FREE:
            workspace.turn = next(Pool._turns)
            self.free.append(workspace)
            Pool._held += workspace.memory.size
            if Pool._held > _MOST_BYTES:
                self._let_go()

    @staticmethod
    def _let_go() -> None:
        """Forget the workspaces that have waited longest, if there is too much."""
        with Pool._lock:
            waiting = [(w.turn, pool, w) for pool in Pool._all for w in tuple(pool.free) if w.memory.size]
            waiting.sort(key=lambda entry: -entry[0])
            held = 0
            for k, (_, pool, w) in enumerate(waiting):
                if k < _ALWAYS_KEPT or held + w.memory.size <= _MOST_BYTES:
                    held += w.memory.size
                elif w in pool.free:
                    pool.free.remove(w)
            Pool._held = held
