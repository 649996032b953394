"""What runs over sequences, whatever it is made of: how it is called, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..tensor import Tensor
from .cells import Cell, Teacher
from .module import Module

HINT = "; (lengths go by name: net(xs, lengths=...))"  # for whoever gave them in the place of a state


class Network(Module):
    """What runs over sequences: `Recurrent` by itself, and `Stacked` and `Bidirectional` made of such."""

    input_size: int
    output_size: int

    def forward(
        self,
        xs: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        memory: Any = None,
        *,
        reverse: bool = False,
    ) -> tuple[Tensor, Any]:
        self._check(memory, reverse)
        outs, _, state = self._unrolled(xs, state, lengths, reset, memory, reverse)
        return outs, state

    def final(
        self,
        xs: Any,
        state: Any = None,
        lengths: Any = None,
        reset: Any = None,
        memory: Any = None,
        *,
        reverse: bool = False,
    ) -> tuple[Tensor, Any]:
        """The last output of each row (B, output_size), as many to one has it, and the state; called as the net is.

        Last is what each direction computes last: forward, at a row's last step; in reverse, at its first. (In the
        outputs these stand at different times.) It is 0 for a row of length 0.
        """
        self._check(memory, reverse)
        _, last, state = self._unrolled(xs, state, lengths, reset, memory, reverse)
        return last(), state

    @property
    def takes_memory(self) -> bool:
        """Whether some cell of it may look at a memory."""
        return any(cell.takes_memory for cell in self.modules() if isinstance(cell, Cell))

    def _check(self, memory: Any, reverse: bool) -> None:
        """Raise for a memory that nobody would look at, or a teacher that would tell what is yet to come."""
        if memory is None:
            return
        if not self.takes_memory:
            raise ArgumentError(
                f"{type(self).__name__}: memory was given, but no cell of it looks at one: nn.AttentionCell does, and "
                "cells that define prepare(xs, memory)"
            )
        if isinstance(memory, Teacher) and (reverse or self._goes_both_ways):
            raise ArgumentError(
                f"{type(self).__name__}: a Teacher feeds each step the target before it, so time must run forwards; in "
                "reverse that would be the answer itself"
            )

    @property
    def _goes_both_ways(self) -> bool:
        """Whether something in it runs in reverse."""
        return any(part._goes_both_ways for part in self.modules() if isinstance(part, Network) and part is not self)

    def _unrolled(
        self, xs: Any, state: Any, lengths: Any, reset: Any, memory: Any, reverse: bool
    ) -> tuple[Tensor, Callable[[], Tensor], Any]:
        """The outputs, a function that finds the last ones, and the state."""
        raise ArgumentError(f"{type(self).__name__} defines no _unrolled")


def words(value: Any) -> str:
    """What was given, for an error to say."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"one {type(value).__name__}"
