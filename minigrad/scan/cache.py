"""The programs that are kept for the next call, and how much memory their buffers hold."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from .program import Program

_MOST = 64


class Cache:
    """Programs by key, those used last; None for a step whose first call is unlike the others. For several threads."""

    def __init__(self) -> None:
        self._programs: OrderedDict[Any, Program | None] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Any) -> tuple[bool, Program | None]:
        """Whether there is an entry that holds still, and the entry."""
        with self._lock:
            if key not in self._programs:
                return False, None
            self._programs.move_to_end(key)
            program = self._programs[key]
            return program is None or program.fits(), program

    def keep(self, key: Any, program: Program | None) -> None:
        """Keep a program, and forget the one that was not used for longest if there are too many."""
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > _MOST:
                self._programs.popitem(last=False)

    def all(self) -> list[Program]:
        """The programs, from the one that was not used for longest to the last."""
        with self._lock:
            return [program for program in self._programs.values() if program is not None]

    def clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


programs = Cache()


@dataclass
class CacheInfo:
    """programs: how many are kept. bytes: the memory of buffers that wait for the next call."""

    programs: int
    bytes: int


def cache_info() -> CacheInfo:
    """How many programs are kept, and the memory of their buffers that wait for the next call."""
    kept = programs.all()
    return CacheInfo(len(kept), sum(program.bytes for program in kept))


def clear_cache() -> None:
    """Forget all programs and their buffers."""
    programs.clear()
