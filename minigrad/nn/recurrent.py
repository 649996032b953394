"""Cells over sequences: one direction in time, rows of unequal length, and the cut between windows."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

from .. import backends, ops, tree
from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor, tensor
from .cells import Cell
from .module import Module


class Recurrent(Module):
    """A cell over a sequence: `net(xs, state=None, lengths=None) -> (outs, state)`.

    xs: (T, B, input_size), time first; (T, B) for a cell that takes integers. With batch_first, (B, T, ...).
    state: the state to begin with; by default `cell.initial_state(B)`.
    lengths: how many steps of each row count: integers (B,) from 0 to T in any order. Outputs after a row's end are
        0, its final state is that after its last step, and what stands in `xs` there, even NaN, has no effect and a
        gradient of exactly 0.
    outs: (T, B, output_size), like xs.

    Made of a built cell, or of a cell class (or another function of the two sizes) and its sizes:
    `Recurrent(LSTMCell, 27, 128)`. The steps are recorded one by one, so that backpropagation through time is the
    ordinary backward pass. Raises ShapeError for inputs that do not fit.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Recurrent(nn.LSTMCell, 3, 5)
    >>> outs, (h, c) = net(mg.zeros((7, 2, 3)), lengths=[7, 4])
    >>> outs.shape, h.shape
    ((7, 2, 5), (2, 5))
    """

    def __init__(
        self,
        cell: Cell | Callable[[int, int], Cell],
        input_size: int | None = None,
        hidden_size: int | None = None,
        *,
        batch_first: bool = False,
    ):
        if not isinstance(cell, Cell):
            if input_size is None or hidden_size is None:
                raise ArgumentError("Recurrent: give a built cell, or a cell class with its input and hidden size")
            cell = cell(input_size, hidden_size)
            if not isinstance(cell, Cell):
                raise ArgumentError(f"Recurrent: expected a cell, got a {type(cell).__name__}; a cell is a nn.Cell")
        elif input_size is not None or hidden_size is not None:
            raise ArgumentError("Recurrent: the sizes belong to a cell class; a built cell has its own")
        self.cell, self.batch_first = cell, batch_first

    def forward(self, xs: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        xs = xs if isinstance(xs, Tensor) else tensor(xs)
        first = "B, T" if self.batch_first else "T, B"
        if xs.ndim < 2:
            raise ShapeError(f"Recurrent: expected xs of shape ({first}, ...), got {xs.shape}")
        if xs.ndim == 3 and xs.shape[2] != self.cell.input_size:
            raise ShapeError(f"Recurrent: expected xs of shape ({first}, {self.cell.input_size}), got {xs.shape}")
        if xs.ndim == 2 and backends.is_floating(xs.data):
            raise DtypeError(
                f"Recurrent: expected xs of shape ({first}, {self.cell.input_size}), got floats {xs.shape}; one "
                "sequence is xs[:, None, :], and tokens are integers: mg.tensor(xs, dtype=mg.int64)"
            )
        if self.batch_first:
            xs = ops.permute_dims(xs, (1, 0, *range(2, xs.ndim)))
        steps, batch = xs.shape[:2]
        state = self.cell.initial_state(batch) if state is None else state
        valid = None if lengths is None else _valid(lengths, steps, batch, xs)
        if valid is not None:
            xs = _within(xs, valid)
        xs, context = self.cell.prepare(xs)
        masks = [None] * steps if valid is None else ops.unstack(valid)
        outs: list[Tensor] = []
        for x, mask in zip(ops.unstack(xs), masks):
            result = self.cell(x, state, *context)
            if not outs:
                _check_step(self.cell, result, state, batch)
            out, new_state = result
            if mask is not None:
                out = _choose(mask, out, 0.0)
                new_state = tree.map(lambda new, old, mask=mask: _choose(mask, new, old), new_state, state)
            state = new_state
            outs.append(out)
        ys = ops.stack(outs) if outs else self.cell.zeros(0, batch, self.cell.output_size)
        return ops.permute_dims(ys, (1, 0, *range(2, ys.ndim))) if self.batch_first else ys, state


def _check_step(cell: Cell, result: Any, state: Any, batch: int) -> None:
    """Raise where the first step shows that a cell, or the state it was given, does not fit."""
    name = type(cell).__name__
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentError(f"Recurrent: a cell returns (out, state), {name} returned one {type(result).__name__}")
    out, new_state = result
    tree.map(lambda new, old: new, new_state, state)  # of one structure
    if out.shape[:1] != (batch,):
        raise ShapeError(
            f"Recurrent: {name} gave an output of shape {out.shape}, expected ({batch}, ...); does the state it began "
            "with have the shapes of cell.initial_state(batch_size)?"
        )


def _valid(lengths: Any, steps: int, batch: int, like: Tensor) -> Tensor | None:
    """Booleans (T, B): whether step t of row b counts. None if all do."""
    given = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    try:
        values = [index(n) for n in given]
    except TypeError:  # not integers, or not several
        values = None
    if values is None or len(values) != batch or not all(0 <= n <= steps for n in values):
        raise ArgumentError(f"Recurrent: lengths must be {batch} integers from 0 to {steps}, got {given}")
    if all(n == steps for n in values):
        return None
    ends = tensor(values, dtype="int64", backend=like.backend)
    return ops.expand_dims(ops.arange(steps, backend=like.backend), axis=1) < ends


def _within(xs: Tensor, valid: Tensor) -> Tensor:
    """xs with each row's last valid input in place of what follows it, and 0 in rows that have none.

    Steps past the end then run on numbers that the cell is made for, whatever the padding holds.
    """
    count = ops.sum(ops.astype(valid, "int64"), axis=0)
    time = ops.expand_dims(ops.arange(xs.shape[0], backend=xs.backend), axis=1)
    last = ops.maximum(ops.minimum(time, count - 1), 0)
    rows = ops.arange(xs.shape[1], backend=xs.backend)
    return _choose(count > 0, xs[last, ops.broadcast_to(rows, last.shape)], 0, axis=1)


def _choose(mask: Tensor, a: Any, b: Any, axis: int = 0) -> Tensor:
    """a where the row's mask holds, else b; the rows lie along `axis`. A state without rows is taken from a."""
    if not isinstance(a, Tensor) or a.ndim <= axis:
        return a
    return ops.where(ops.reshape(mask, (*(1,) * axis, -1, *(1,) * (a.ndim - axis - 1))), a, b)


def detach(state: Any) -> Any:
    """A state, in its structure, cut from the graph: where one window of truncated backpropagation ends.

    The next window continues from the same numbers, and no gradient flows back across the cut.
    """
    return tree.map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, state)
