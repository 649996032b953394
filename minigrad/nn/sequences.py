"""Which steps of which rows count: lengths, marks where a row starts anew, and padding. Masks are (T, B, 1)."""

from __future__ import annotations

from operator import index
from typing import Any

from .. import backends, ops
from ..errors import ArgumentError, DtypeError, MinigradError, ShapeError
from ..tensor import Tensor, tensor


def valid_steps(lengths: Any, steps: int, batch: int, like: Tensor, op: str = "Recurrent") -> Tensor | None:
    """Whether step t of row b counts, which has so many steps. None if all do."""
    given = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    try:
        values = None if any(isinstance(n, bool) for n in given) else [index(n) for n in given]
    except TypeError:  # not integers, or not several
        values = None
    if values is None or len(values) != batch or not all(0 <= n <= steps for n in values):
        raise ArgumentError(f"{op}: lengths must be {batch} integers from 0 to {steps}, got {given}")
    if all(n == steps for n in values):
        return None
    ends = tensor(values, dtype="int64", backend=like.backend)
    return ops.expand_dims(ops.expand_dims(ops.arange(steps, backend=like.backend), axis=1) < ends, axis=2)


def unbroken_steps(
    reset: Any, valid: Tensor | None, steps: int, batch: int, like: Tensor, *, batch_first: bool, reverse: bool
) -> Tensor:
    """Whether row b goes on at step t from the state that the step before it has left, and does not start anew.

    A mark stands at the first step of a part. In reverse a part begins with its last step, which is the one before
    the mark of the next; the first step to be taken goes on from the state given. Marks in the padding do not count.
    """
    shape = (batch, steps) if batch_first else (steps, batch)
    words = f"Recurrent: reset must be booleans ({'B, T' if batch_first else 'T, B'}) = {shape}"
    try:
        marks = reset if isinstance(reset, Tensor) else tensor(reset, backend=like.backend)
    except MinigradError as error:
        raise ArgumentError(f"{words}; {error}") from None
    if marks.shape != shape:
        raise ShapeError(f"{words}, got the shape {marks.shape}")
    if marks.size and backends.kind_of(marks.data) != "boolean":
        raise DtypeError(f"{words}, got {marks.dtype}; mg.tensor(reset, dtype=mg.bool_) makes them so")
    marks = ops.expand_dims(ops.matrix_transpose(marks) if batch_first else marks, axis=2)
    if valid is not None:
        marks = marks & valid
    if reverse:
        marks = ops.concat([marks[1:], ops.zeros((1, batch, 1), dtype="bool", backend=like.backend)])
    return ~marks


def within(xs: Tensor, valid: Tensor) -> Tensor:
    """xs with each row's last valid input in place of what follows it, and 0 in rows that have none.

    Steps past the end then run on numbers that the cell is made for, whatever the padding holds.
    """
    count = ops.sum(ops.astype(valid, "int64"), axis=0)
    last = ops.reshape(ops.maximum(count - 1, 0), (-1,))
    filler = by_row(count > 0, xs[last, ops.arange(xs.shape[1], backend=xs.backend)], 0)
    return by_row(valid, xs, filler)


def last_step(outs: Tensor, lengths: Any, reverse: bool) -> Tensor:
    """Of outs (T, B, ...), which are 0 after a row's end, what each row computed last; 0 for a row of no steps."""
    steps, batch = outs.shape[:2]
    if not steps:
        return ops.zeros(outs.shape[1:], dtype=outs.dtype, backend=outs.backend)
    if lengths is None or reverse:
        return outs[0] if reverse else outs[-1]
    ends = tensor(lengths, dtype="int64", backend=outs.backend)
    return outs[ops.maximum(ends - 1, 0), ops.arange(batch, backend=outs.backend)]


def by_row(mask: Tensor, a: Any, b: Any) -> Any:
    """a where the mask (..., B, 1) holds for the row, else b. What has no rows is a's: it belongs to all of them."""
    rows = mask.shape[:-1]
    if not isinstance(a, Tensor) or a.ndim < len(rows):
        return a
    shape = (*rows, *(1,) * (a.ndim - len(rows)))
    return ops.where(mask if shape == mask.shape else ops.reshape(mask, shape), a, b)


def as_tensor(value: Any, like: Tensor) -> Tensor:
    """A number (or an array) that is part of a state, as a tensor beside `like`; integers stay integers."""
    if isinstance(value, Tensor):
        return value
    value = backends.as_number(value)
    dtype = None
    if isinstance(value, int):
        dtype = "bool" if isinstance(value, bool) else "int64"
    elif isinstance(value, float) and backends.is_floating(like.data):
        dtype = like.dtype
    return tensor(value, dtype=dtype, backend=like.backend)
