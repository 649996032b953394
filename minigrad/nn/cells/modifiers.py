"""Cells around cells: each wraps any cell, also another of these, and changes what goes in or comes out of a step."""

from __future__ import annotations

from typing import Any, NamedTuple

from ... import backends, functional, ops, random, tree
from ...errors import ArgumentError, DtypeError, ShapeError
from ...tensor import Tensor
from ..sequences import as_tensor
from .cell import Cell


class Modifier(Cell):
    """A cell around `cell`, of the same sizes and with the same state: by itself it changes nothing.

    A subclass defines `forward`, which calls `self.cell(x, state, *context)`. Noise is drawn in `prepare`, once for
    the whole sequence, and comes to the step with x or with the context. By hand, rather than by `Recurrent`:

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> cell = nn.Zoneout(nn.GRUCell(2, 3), 0.5)
    >>> parts, context = cell.prepare(mg.ones((7, 1, 2)))
    >>> state = cell.initial_state(1)
    >>> for t in range(7):
    ...     out, state = cell(mg.tree.map(lambda part: part[t], parts), state, *context)
    """

    def __init__(self, cell: Cell):
        if not isinstance(cell, Cell):
            got = f"the class {cell.__name__}" if isinstance(cell, type) else f"a {type(cell).__name__}"
            raise ArgumentError(
                f"{type(self).__name__}: expected a built cell, got {got}; in a network of several cells, a "
                f"function makes them: lambda i, h: nn.{type(self).__name__}(nn.LSTMCell(i, h), ...)"
            )
        super().__init__(cell.input_size, cell.hidden_size)
        self.cell = cell

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    @property
    def takes_memory(self) -> bool:
        return self.cell.takes_memory

    def initial_state(self, batch_size: int) -> Any:
        return self.cell.initial_state(batch_size)

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        return self.cell.prepare(xs) if memory is None else self.cell.prepare(xs, memory)

    def forward(self, x: Any, state: Any, *context: Any) -> tuple[Any, Any]:
        return self.cell(x, state, *context)

    def _probability(self, name: str, p: Any) -> float:
        if not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: {name} must be a probability, got {p!r}")
        return p

    def _unprepared(self) -> ArgumentError:
        return ArgumentError(
            f"{type(self).__name__}: in training a step takes its noise with what `prepare` makes of the sequence; "
            "nn.Recurrent sees to that, and by hand `xs, context = cell.prepare(xs)` does, or cell.eval()"
        )


class Zoneout(Modifier):
    """Zoneout (Krueger et al. 2016): each element of the state keeps its old value with probability p, in training.

        s_t = d * s_{t-1} + (1 - d) * s~_t,   d = 1 with probability p, else 0, at every step anew
        s_t = p * s_{t-1} + (1 - p) * s~_t    out of training: the expectation

    s~_t is the state that the cell gives. It holds for every part of the state that is of floats. Where the output is
    a part of the state, as h is, so it is of the new one: what is shown is what is kept.

    p: one number for all parts of the state, or one for each, in their order (that of a part without floats is not
        used): `Zoneout(LSTMCell(8, 16), (0.05, 0.5))` has 0.05 for h and 0.5 for c, as the paper.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Recurrent(lambda i, h: nn.Zoneout(nn.LSTMCell(i, h), 0.1), 8, 16, num_layers=2)
    >>> outs, state = net(mg.zeros((5, 1, 8)))
    """

    def __init__(self, cell: Cell, p: Any):
        super().__init__(cell)
        count = len(tree.leaves(cell.initial_state(1)))
        given = [p] * count if isinstance(p, (int, float)) else tree.leaves(p)
        if len(given) != count:
            raise ArgumentError(
                f"Zoneout: p must be one number, or one for each of {count} parts of the state, got {p}"
            )
        self.p = tuple(self._probability("p", value) for value in given)

    @property
    def _is_noisy(self) -> bool:
        return self.training and any(self.p)

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        parts, context = super().prepare(xs, memory)
        if not self._is_noisy:
            return parts, context
        first, ps = tree.leaves(xs)[0], iter(self.p)

        def keeps(leaf: Any) -> Tensor | None:
            """Where the old value stays, at each step; None if it nowhere does."""
            p, leaf = next(ps), as_tensor(leaf, first)
            if not p or not backends.is_floating(leaf.data):
                return None
            return random.bernoulli(ops.broadcast_to(leaf, (first.shape[0], *leaf.shape)), p)

        return (parts, tree.map(keeps, self.initial_state(first.shape[1]))), context

    def forward(self, x: Any, state: Any, *context: Any) -> tuple[Any, Any]:
        if not self._is_noisy:
            out, new_state = self.cell(x, state, *context)
            ps = iter(self.p)
            mixed = tree.map(lambda new, old: _mean(next(ps), old, new), new_state, state)
        else:
            if not isinstance(x, tuple):
                raise self._unprepared()
            x, keep = x
            out, new_state = self.cell(x, state, *context)
            mixed = tree.map(lambda new, old, d: new if d is None else ops.where(d, old, new), new_state, state, keep)
        for new, kept in zip(tree.leaves(new_state), tree.leaves(mixed)):
            if new is out:
                return kept, mixed
        return out, mixed


def _mean(p: float, old: Any, new: Any) -> Any:
    """p * old + (1 - p) * new; the new value where they are no floats."""
    is_float = backends.is_floating(new.data) if isinstance(new, Tensor) else isinstance(new, float)
    return p * old + (1 - p) * new if p and is_float else new


class VariationalDropout(Modifier):
    """Dropout with one mask for a whole sequence (Gal and Ghahramani 2016), in training.

        out_t, s_t = cell(z_x * x_t, (z_h * h_{t-1}, ...)),   z = 0 with probability p, else 1 / (1 - p)

    z_x (B, input_size) and z_h (B, H) are drawn once for a call, and are the same at every step of it; each window of
    truncated backpropagation is a call. Of the state, the first part that is of floats and has rows is masked, where it
    is read: h, of h and c. What the cell leaves in the state, and its output, are whole.

    input_p, state_p: the probability for elements of x, and of h.

    Made for cells that read h through weights alone, as those of Elman and the LSTM do. A GRU also carries h itself to
    the next step, and with it z_h: what is dropped is forgotten, and what is not grows by up to 1 / (1 - p) at each
    step. There Zoneout serves better.
    """

    def __init__(self, cell: Cell, input_p: float = 0.0, state_p: float = 0.0):
        super().__init__(cell)
        self.input_p, self.state_p = self._probability("input_p", input_p), self._probability("state_p", state_p)
        shown = [isinstance(leaf, Tensor) and leaf.ndim >= 2 and backends.is_floating(leaf.data)
                 for leaf in tree.leaves(cell.initial_state(1))]  # fmt: skip
        if state_p and not any(shown):
            raise ArgumentError(
                f"VariationalDropout: state_p={state_p}, but no part of the state of {type(cell).__name__} is a tensor "
                "(B, ...) of floats"
            )
        self.place = shown.index(True) if any(shown) else 0  # of h among the parts of the state

    @property
    def _is_noisy(self) -> bool:
        return self.training and self.state_p > 0

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        batch = tree.leaves(xs)[0].shape[1]
        if self.training and self.input_p:
            if not isinstance(xs, Tensor) or not backends.is_floating(xs.data):
                raise DtypeError(
                    "VariationalDropout: input_p needs one tensor of floats as xs; tokens become that by an embedding "
                    "before the network"
                )
            xs = xs * _mask(xs.shape[1:], self.input_p, xs)
        parts, context = super().prepare(xs, memory)
        if not self._is_noisy:
            return parts, context
        h = tree.leaves(self.initial_state(batch))[self.place]
        return parts, (_mask(h.shape, self.state_p, h), *context)

    def forward(self, x: Any, state: Any, *context: Any) -> tuple[Any, Any]:
        if self._is_noisy:
            if not context:
                raise self._unprepared()
            mask, *context = context  # type: ignore[assignment]
            places = iter(range(len(tree.leaves(state))))
            state = tree.map(lambda leaf: leaf * mask if next(places) == self.place else leaf, state)
        return self.cell(x, state, *context)


def _mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """0 with probability p, else 1 / (1 - p), in the dtype and backend of `like`."""
    return functional.dropout(ops.ones(shape, dtype=like.dtype, backend=like.backend), p)


class Residual(Modifier):
    """A connection around a cell: its output is x + out (He et al. 2016; Wu et al. 2016 between recurrent layers).

    Raises ArgumentError unless the cell's outputs have the size of its inputs.

    >>> from minigrad import nn
    >>> cell = nn.Residual(nn.Zoneout(nn.LSTMCell(16, 16), 0.1))
    """

    class Parts(NamedTuple):
        """What is added, and what `prepare` of the cell within has made of it; they differ for some cells."""

        x: Any
        inner: Any

    def __init__(self, cell: Cell):
        super().__init__(cell)
        if cell.input_size != cell.output_size:
            raise ArgumentError(
                f"Residual: x + out needs outputs of the size of the inputs, {type(cell).__name__} has "
                f"{cell.input_size} inputs and {cell.output_size} outputs"
            )

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        parts, context = super().prepare(xs, memory)
        return (xs if parts is xs else Residual.Parts(xs, parts)), context

    def forward(self, x: Any, state: Any, *context: Any) -> tuple[Any, Any]:
        x, inner = x if isinstance(x, Residual.Parts) else (x, x)
        out, state = self.cell(inner, state, *context)
        if out.shape != x.shape:
            raise ShapeError(f"Residual: an output of shape {out.shape} cannot be added to an input of {x.shape}")
        return x + out, state
