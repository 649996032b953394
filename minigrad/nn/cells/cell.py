"""What a recurrent cell is: one step, as a pure function of an input and a state."""

from __future__ import annotations

from itertools import chain
from typing import Any

from ... import backends, ops
from ...errors import ArgumentError, MissingAttributeError
from ...tensor import Tensor
from ..module import Module, Parameter


class Cell(Module):
    """One step of a recurrent network: `cell(x, state) -> (out, state)`.

    x (B, input_size), out (B, output_size); the state is a tensor or nested tuples of tensors, by default one of
    zeros (B, hidden_size). Nothing is kept on the cell between steps. A subclass defines `forward`, and where they
    differ `initial_state` and `output_size`; `Recurrent` then runs it over sequences.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class Leaky(nn.Cell):
    ...     def forward(self, x, h):
    ...         h = 0.5 * h + 0.5 * x
    ...         return h, h
    >>> out, state = nn.Recurrent(Leaky(2, 2))(mg.ones((3, 1, 2)))
    >>> out[:, 0, 0]
    tensor([0.5  , 0.75 , 0.875])
    """

    def __init__(self, input_size: int, hidden_size: int):
        kind = type(self).__name__
        self.input_size = backends.as_count(kind, "input_size", input_size, 0)
        self.hidden_size = backends.as_count(kind, "hidden_size", hidden_size)

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        if name in ("input_size", "hidden_size"):
            raise MissingAttributeError(
                f"{kind} has no {name}: call super().__init__(input_size, hidden_size) first in its __init__"
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    @property
    def output_size(self) -> int:
        """The size of `out`."""
        return self.hidden_size

    @property
    def takes_memory(self) -> bool:
        """Whether `prepare` may look at a memory: whether there is one that is not the default."""
        return type(self).prepare is not Cell.prepare

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step, zeros in the dtype and backend of the weights."""
        return self.zeros(batch_size, self.hidden_size)

    def zeros(self, *shape: int) -> Any:
        """Zeros in the dtype and backend of the weights."""
        near = chain(vars(self).values(), (value for _, value in self._walk()))  # its own are found at once
        first: Tensor | None = next((value for value in near if isinstance(value, Parameter)), None)
        if first is None:  # one whose weights are not learned
            fixed = (value for _, value in self._walk() if isinstance(value, Tensor))
            first = next((value for value in fixed if backends.is_floating(value.data)), None)
        if first is None:
            return ops.zeros(shape)
        return ops.zeros(shape, dtype=first.dtype, backend=first.backend)

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        """What the steps need, made once for the whole sequence: `(xs, context)`. By default `xs`, and no context.

        Step t is then called with part t of xs and with all of the context: `cell(x, state, *context)`. Noise and the
        like belong here, since a step itself is to be a pure function. What differs from step to step goes into xs,
        which may be nested tuples, lists or dicts of tensors with time first; what is the same at every step, such as
        a memory (B, S, ...) to attend to, into the context.

        memory: what `Recurrent` was given as memory, if it was; a cell that looks at none may leave the parameter out.
        """
        return xs, ()


def function_of_tensor(cell: Cell, name: str, given: Any) -> Any:
    """An argument that is to be a function of a tensor. Raises ArgumentError for a name or None."""
    if not callable(given):
        raise ArgumentError(
            f"{type(cell).__name__}: {name} must be a function of a tensor, such as mg.relu; got {given!r}"
        )
    return given
