"""Cells over sequences: layers, both directions in time, rows of unequal length, and the cut between windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backends, functional, ops, tree
from ..errors import ArgumentError, DtypeError, ShapeError
from ..scan import explain_scan, scan
from ..tensor import Tensor, tensor
from .cells import Cell
from .network import HINT, Network, words
from .sequences import as_tensor, by_row, last_step, unbroken_steps, valid_steps, within


class Recurrent(Network):
    """A cell over a sequence: `net(xs, state=None, lengths=None, reset=None, memory=None) -> (outs, state)`.

    xs: (T, B, input_size), time first; (T, B) for a cell that takes integers. With batch_first, (B, T, ...).
    state: the state to begin with; by default `cell.initial_state(B)`. That of one layer in one direction is the
        cell's own; otherwise a tuple over layers of a tuple over directions, forward first.
    lengths: how many steps of each row count: integers (B,) from 0 to T in any order. Outputs after a row's end are
        0, its final state is that after its last step, and what stands in `xs` there, even NaN, has no effect and a
        gradient of exactly 0.
    reset: where a row starts anew, from `cell.initial_state(B)`: booleans (T, B), or (B, T) with batch_first, as for
        sequences laid one after another in a row, with a mark at the first step of each. The reverse direction starts
        anew at the last step of each: before step t if the mark stands at t + 1. A part of the state that has no rows
        (a number) goes on.
    memory: what the cells attend to besides, handed to `prepare` of each.
    reverse: (by name) from the last step to the first; a net of both directions then has them the other way round.
    outs: (T, B, output_size), like xs. `net.final(...)`, called alike, gives the last of each row (B, output_size).

    Made of a built cell, which is one layer in one direction, or of a cell class (or another function of the two
    sizes) and its sizes: `Recurrent(LSTMCell, 27, 128)`. That is called once for each layer and direction, and gives
    the cells in `net.cells[layer][direction]`; a layer reads the outputs of the one below it.

    bidirectional: each layer runs in both directions, and their outputs stand side by side on the last axis. The
        reverse direction begins at each row's own last step; its final state is that at the first.
    dropout: the probability with which an output of every layer but the last is 0, in training.
    remat, unroll: how each loop is run, see `mg.scan`: remat="sqrt" takes less memory, unroll="eager" records the
        steps one by one.

    Raises ArgumentError for arguments that contradict each other, ShapeError for inputs that do not fit.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Recurrent(nn.LSTMCell, 3, 5)
    >>> outs, (h, c) = net(mg.zeros((7, 2, 3)), lengths=[7, 4])
    >>> outs.shape, h.shape
    ((7, 2, 5), (2, 5))
    >>> deep = nn.Recurrent(nn.GRUCell, 3, 5, num_layers=2, bidirectional=True, dropout=0.2)
    >>> outs, ((_, _), (forward, backward)) = deep(mg.zeros((7, 2, 3)))
    >>> outs.shape, backward.shape
    ((7, 2, 10), (2, 5))
    """

    def __init__(
        self,
        cell: Cell | Callable[[int, int], Cell],
        input_size: int | None = None,
        hidden_size: int | None = None,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
        remat: str | int | None = None,
        unroll: str = "compiled",
    ):
        num_layers = backends.as_count("Recurrent", "num_layers", num_layers)
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"Recurrent: dropout is a probability, got {dropout}")
        if dropout and num_layers == 1:
            raise ArgumentError(
                f"Recurrent: dropout={dropout} acts between layers, and there is one; nn.Dropout acts on its outputs"
            )
        if remat is not None and remat != "sqrt" and (type(remat) is not int or remat < 1):
            raise ArgumentError(f"Recurrent: remat must be None, 'sqrt' or an integer from 1, got {remat!r}")
        if unroll not in ("compiled", "eager"):
            raise ArgumentError(f"Recurrent: unroll must be 'compiled' or 'eager', got {unroll!r}")
        self.cells: tuple[tuple[Cell, ...], ...]
        if isinstance(cell, Cell):
            if input_size is not None or hidden_size is not None:
                raise ArgumentError("Recurrent: the sizes belong to a cell class; a built cell has its own")
            if num_layers > 1 or bidirectional:
                raise ArgumentError(
                    "Recurrent: a built cell is one layer in one direction; for more give a cell class, or a function "
                    f"of the two sizes: Recurrent({type(cell).__name__}, {cell.input_size}, {cell.hidden_size}, ...)"
                )
            self.cells = ((cell,),)
        elif input_size is None or hidden_size is None:
            raise ArgumentError("Recurrent: give a built cell, or a cell class with its input and hidden size")
        else:
            self.cells = _stack(cell, input_size, hidden_size, num_layers, 2 if bidirectional else 1)
        self.dropout, self.batch_first, self.remat, self.unroll = dropout, batch_first, remat, unroll

    @property
    def cell(self) -> Cell:
        """The first cell, which is the only one of one layer in one direction."""
        return self.cells[0][0]

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """The size of an input."""
        return self.cell.input_size

    @property
    def output_size(self) -> int:  # type: ignore[override]
        """The size of an output: of both directions, where there are two."""
        return sum(cell.output_size for cell in self.cells[-1])

    @property
    def _goes_both_ways(self) -> bool:
        return len(self.cells[0]) == 2

    def _unrolled(
        self, xs: Any, state: Any, lengths: Any, reset: Any, memory: Any, reverse: bool
    ) -> tuple[Tensor, Callable[[], Tensor], Any]:
        outs, state = self._over(scan, xs, state, lengths, reset, memory, reverse)

        def last() -> Tensor:
            return _joined([last_step(out, lengths, (d == 1) != reverse) for d, out in enumerate(outs)])

        return self._batch_first(_joined(outs)), last, state

    def explain(self, xs: Any, state: Any = None, lengths: Any = None, reset: Any = None, memory: Any = None) -> None:
        """Print the compiled loops of a call with these arguments, one for each layer and direction.

        What is computed before the loop, in it and after it, forward and backward, where each value lives, and bytes.
        """
        pages: list[str] = []
        if self.unroll == "eager":
            pages.append("unroll='eager': these loops are not what runs, the steps are called one by one.")
        names = (self.cell if self._is_plain else self).named_tensors()

        def explained(step: Any, parts: Any, init: Any, context: Any, *, reverse: bool, **options: Any) -> Any:
            pages.append(explain_scan(step, parts, init, context, reverse, names))
            return scan(step, parts, init, context, reverse=reverse, **options)

        self._check(memory, False)
        self._over(explained, xs, state, lengths, reset, memory, False)
        print("\n\n".join(pages))

    def _over(
        self, scan: Callable[..., Any], xs: Any, state: Any, lengths: Any, reset: Any, memory: Any, reverse: bool
    ) -> tuple[list[Tensor], Any]:
        """All layers and directions, each by `scan`. Gives the outputs (T, B, ...) of the last layer's directions."""
        xs = self._time_first(xs)
        steps, batch = xs.shape[:2]
        valid = None if lengths is None else valid_steps(lengths, steps, batch, xs)
        unbroken: list[Tensor | None] = [None, None]  # forward, and in reverse
        if reset is not None:
            unbroken = [
                unbroken_steps(reset, valid, steps, batch, xs, batch_first=self.batch_first, reverse=backwards)
                for backwards in (reverse, not reverse)[: len(self.cells[0])]
            ]
        outs: list[Tensor] = []
        finals = []
        for i, (cells, starts) in enumerate(zip(self.cells, self._by_cell(state))):
            if i:
                xs = functional.dropout(_joined(outs), self.dropout, training=self.training)
            inputs = xs if valid is None else within(xs, valid)
            found = [
                self._run(
                    scan, cell, inputs, start, valid, unbroken[direction], memory, reverse=(direction == 1) != reverse
                )
                for direction, (cell, start) in enumerate(zip(cells, starts))
            ]
            outs = [out for out, _ in found]
            finals.append(tuple(final for _, final in found))
        return outs, finals[0][0] if self._is_plain else tuple(finals)

    def _batch_first(self, outs: Tensor) -> Tensor:
        return ops.permute_dims(outs, (1, 0, *range(2, outs.ndim))) if self.batch_first else outs

    @property
    def _is_plain(self) -> bool:
        """Whether this is one layer in one direction, whose state is the cell's own."""
        return len(self.cells) == len(self.cells[0]) == 1

    def _time_first(self, xs: Any) -> Tensor:
        """xs as a tensor (T, B, ...). Raises ShapeError or DtypeError if it is no batch of sequences."""
        xs = xs if isinstance(xs, Tensor) else tensor(xs)
        first, size = "B, T" if self.batch_first else "T, B", self.cell.input_size
        if xs.ndim < 2:
            raise ShapeError(f"Recurrent: expected xs of shape ({first}, ...), got {xs.shape}")
        if xs.ndim == 3 and xs.shape[2] != size:
            raise ShapeError(f"Recurrent: expected xs of shape ({first}, {size}), got {xs.shape}")
        if xs.ndim == 2 and backends.is_floating(xs.data):
            raise DtypeError(
                f"Recurrent: expected xs of shape ({first}, {size}), got floats {xs.shape}; one "
                "sequence is xs[:, None, :], and tokens are integers: mg.tensor(xs, dtype=mg.int64)"
            )
        return self._batch_first(xs)

    def _by_cell(self, state: Any) -> Any:
        """The states that the cells begin with, over layers and directions; None for `cell.initial_state`."""
        layers, directions = len(self.cells), len(self.cells[0])
        if state is None:
            return ((None,) * directions,) * layers
        if self._is_plain:
            return ((state,),)

        def is_over(parts: Any, count: int) -> bool:
            return isinstance(parts, (tuple, list)) and len(parts) == count

        if not is_over(state, layers) or not all(is_over(layer, directions) for layer in state):
            raise ArgumentError(
                f"Recurrent: state must be a tuple of {layers} (layers), each a tuple of {directions} (directions) of "
                "states of a cell, as an earlier call returned it" + HINT
            )
        return state

    def _run(
        self,
        scan: Callable[..., Any],
        cell: Cell,
        xs: Tensor,
        state: Any,
        valid: Tensor | None,
        unbroken: Tensor | None,
        memory: Any,
        *,
        reverse: bool,
    ) -> tuple[Tensor, Any]:
        """One cell over the sequence, in one direction."""
        steps, batch = xs.shape[:2]

        def as_tensors(state: Any) -> Any:
            return tree.map(lambda leaf: as_tensor(leaf, xs), state)

        fresh = cell.initial_state(batch)
        if state is None:
            state = fresh
        else:
            _check_state(cell, state, fresh)
        fresh, state = as_tensors(fresh), as_tensors(state)
        prepared = cell.prepare(xs) if memory is None else cell.prepare(xs, memory)
        if not (isinstance(prepared, tuple) and len(prepared) == 2 and isinstance(prepared[1], (tuple, list))):
            raise ArgumentError(
                f"Recurrent: {type(cell).__name__}.prepare returns (xs, context), context a tuple of what every step "
                f"is given besides; it returned {words(prepared)}"
            )
        parts, context = prepared
        if not steps:
            return cell.zeros(0, batch, cell.output_size), state
        return scan(
            _step(cell, batch),
            (parts, valid, unbroken),
            state,
            (fresh if unbroken is not None else None, context),
            reverse=reverse,
            remat=self.remat,
            unroll=self.unroll,
        )


def _step(cell: Cell, batch: int) -> Callable[..., tuple[Tensor, Any]]:
    """The cell's step, in rows that have not ended, from a fresh state where a row starts anew."""

    def step(x: Any, state: Any, fresh: Any, context: Any) -> tuple[Tensor, Any]:
        x, valid, unbroken = x
        if unbroken is not None:
            state = tree.map(lambda old, new: by_row(unbroken, old, new), state, fresh)
        out, new_state = _checked(cell, cell(x, state, *context), state, batch)
        if valid is not None:
            out = by_row(valid, out, 0.0)
            new_state = tree.map(lambda new, old: by_row(valid, new, old), new_state, state)
        return out, new_state

    return step


def _checked(cell: Cell, result: Any, state: Any, batch: int) -> tuple[Tensor, Any]:
    """What a step returned. Raises where it shows that a cell, or the state it was given, does not fit."""
    name = type(cell).__name__
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentError(f"Recurrent: a cell returns (out, state), {name} returned {words(result)}")
    out, new_state = result
    if not isinstance(out, Tensor):
        raise ArgumentError(
            f"Recurrent: the output of a cell is one tensor (B, ...), {name} gave {words(out)}; several go by mg.scan"
        )
    if out.shape[:1] != (batch,):
        raise ShapeError(
            f"Recurrent: {name} gave an output of shape {out.shape}, expected ({batch}, ...); does the state it began "
            "with have the shapes of cell.initial_state(batch_size)?"
        )
    return out, new_state


def _stack(
    make: Callable[[int, int], Cell], input_size: int, hidden_size: int, num_layers: int, directions: int
) -> tuple[tuple[Cell, ...], ...]:
    """The cells of all layers and directions, each layer as wide as the one below it has outputs."""
    layers: list[tuple[Cell, ...]] = []
    for i in range(num_layers):
        layer = tuple(make(input_size, hidden_size) for _ in range(directions))
        for cell in layer:
            if not isinstance(cell, Cell):
                raise ArgumentError(f"Recurrent: expected a cell, got a {type(cell).__name__}; a cell is a nn.Cell")
            if i and cell.input_size != input_size:
                raise ArgumentError(
                    f"Recurrent: the layer below has {input_size} outputs, {type(cell).__name__} takes "
                    f"{cell.input_size}; the function that makes the cells is given both sizes, and must use them"
                )
        layers.append(layer)
        input_size = sum(cell.output_size for cell in layer)
    return tuple(layers)


def _joined(outs: list[Tensor]) -> Tensor:
    """The outputs of all directions side by side."""
    return outs[0] if len(outs) == 1 else ops.concat(outs, axis=-1)


def _check_state(cell: Cell, given: Any, fresh: Any) -> None:
    """Raise unless a state that was given has the structure and the shapes of the cell's own."""

    def leaf(own: Any, value: Any) -> None:
        shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
        if isinstance(value, (tuple, list, dict)) or value is None:
            raise ArgumentError(f"expected a tensor, got {words(value)}")
        if isinstance(own, Tensor) and shape != own.shape and not (own.ndim == 0 and isinstance(value, (int, float))):
            raise ShapeError(f"expected {own.shape}, got {shape}")

    try:
        tree.map(leaf, fresh, given)
    except (ArgumentError, ShapeError) as error:
        raise type(error)(
            f"Recurrent: the state must be as {type(cell).__name__}.initial_state(batch_size) makes it: {error}{HINT}"
        ) from None


def detach(state: Any) -> Any:
    """A state, in its structure, cut from the graph: where one window of truncated backpropagation ends.

    The next window continues from the same numbers, and no gradient flows back across the cut.
    """
    return tree.map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, state)
