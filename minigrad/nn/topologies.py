"""Networks made of networks: stacks of unlike cells, both directions, a vector to a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backends, functional, ops, tree
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, tensor
from .cells import Cell
from .layers import Linear
from .module import Module
from .network import HINT, Network
from .recurrent import Recurrent


def network(owner: str, layer: Any) -> Network:
    """A cell as the network of this one cell; a network as it is."""
    if isinstance(layer, Cell):
        return Recurrent(layer)
    if not isinstance(layer, Network):
        got = f"the class {layer.__name__}" if isinstance(layer, type) else f"a {type(layer).__name__}"
        raise ArgumentError(
            f"{owner}: expected a built cell, or a network of cells, got {got}; (nn.RNN, nn.LSTM and nn.GRU have "
            "PyTorch's layouts: nn.Recurrent(nn.LSTMCell, ...) is the network here)"
        )
    if getattr(layer, "batch_first", False):
        raise ArgumentError(f"{owner}: its parts are time first, (T, B, ...); leave batch_first out of them")
    return layer


def require_apart(owner: str, a: Module, b: Module, message: str) -> None:
    """Raise if two networks that are to have weights of their own have some in common."""
    if {id(p) for p in a.parameters()} & {id(p) for p in b.parameters()}:
        raise ArgumentError(f"{owner}: {message} has weights of its own; build two networks")


class Stacked(Network):
    """Unlike layers one upon another: `Stacked(cell, net, ...)`, called as `Recurrent` is; each reads the one below.

    The layers are built cells or networks (`Recurrent`, `Bidirectional`, ...); the state is a tuple of theirs. The
    arguments lengths, reset, memory and reverse go to each.

    skip: every layer also reads the input, `[below, x]`, and the output is that of all layers side by side, as in
        Graves (2013), "Generating sequences with recurrent neural networks". The layers above the first must be made
        for such inputs. (A connection around one layer that is added is `Residual`.)
    dropout: the probability with which an output of every layer but the last is 0 for the next, in training.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Stacked(nn.ElmanCell(3, 8), nn.LSTMCell(8 + 3, 5), skip=True)
    >>> outs, (h, (_, c)) = net(mg.zeros((7, 2, 3)))
    >>> outs.shape, c.shape
    ((7, 2, 13), (2, 5))
    """

    def __init__(self, *layers: Cell | Network, skip: bool = False, dropout: float = 0.0):
        if not layers:
            raise ArgumentError("Stacked: expected at least one layer")
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"Stacked: dropout is a probability, got {dropout}")
        if dropout and len(layers) == 1:
            raise ArgumentError(
                f"Stacked: dropout={dropout} acts between layers, and there is one; nn.Dropout acts on its outputs"
            )
        self.layers = [network("Stacked", layer) for layer in layers]
        self.skip, self.dropout = skip, dropout
        self.input_size = self.layers[0].input_size
        self.output_size = sum(layer.output_size for layer in self.layers) if skip else self.layers[-1].output_size
        for i, (below, layer) in enumerate(zip(self.layers, self.layers[1:])):
            size = below.output_size + (self.input_size if skip else 0)
            if layer.input_size != size:
                raise ArgumentError(
                    f"Stacked: layer {i + 1} takes {layer.input_size} inputs, but is given {size}: "
                    f"{below.output_size} outputs of layer {i}" + (f", and the input of {self.input_size}" * skip)
                )

    def _unrolled(
        self, xs: Any, state: Any, lengths: Any, reset: Any, memory: Any, reverse: bool
    ) -> tuple[Tensor, Callable[[], Tensor], Any]:
        starts = _parts("Stacked", state, len(self.layers), "layers")
        below = xs = xs if isinstance(xs, Tensor) else tensor(xs)
        runs: list[tuple[Tensor, Callable[[], Tensor], Any]] = []
        for i, (layer, start) in enumerate(zip(self.layers, starts)):
            if i:
                below = functional.dropout(runs[-1][0], self.dropout, training=self.training)
                below = ops.concat([below, xs], axis=-1) if self.skip else below
            looked_at = memory if layer.takes_memory else None
            runs.append(layer._unrolled(below, start, lengths, reset, looked_at, reverse))
        finals = tuple(final for *_, final in runs)
        if not self.skip:
            return runs[-1][0], runs[-1][1], finals
        outs = ops.concat([outs for outs, *_ in runs], axis=-1)
        return outs, lambda: ops.concat([last() for _, last, _ in runs], axis=-1), finals


class Bidirectional(Network):
    """Two networks over the same sequence, the second from its end: `Bidirectional(forward, backward)`.

    Both are built cells or networks with weights of their own; called as `Recurrent` is. The state is (forward's,
    backward's). Two deep networks here are two stacks that meet at the top; several of these in a `Stacked`, or
    `Recurrent(..., num_layers=n, bidirectional=True)`, are layers each fed by both directions of the one below. With
    lengths, the backward network begins at each row's own last step.

    merge: how the outputs at each step become one: "concat", side by side, "sum", "mean" or "product".

    `net.final(xs, ...)` merges what each direction computes last: the forward output at a row's last step and the
    backward output at its first, which in `outs` stand at different times.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Bidirectional(nn.GRUCell(3, 5), nn.GRUCell(3, 5), merge="mean")
    >>> last, (forward, backward) = net.final(mg.zeros((7, 2, 3)), lengths=[7, 4])
    >>> last.shape
    (2, 5)
    """

    MERGES = ("concat", "sum", "mean", "product")

    def __init__(self, forward: Cell | Network, backward: Cell | Network, *, merge: str = "concat"):
        self.ahead, self.back = network("Bidirectional", forward), network("Bidirectional", backward)
        require_apart("Bidirectional", self.ahead, self.back, "each direction")
        if merge not in self.MERGES:
            raise ArgumentError(f"Bidirectional: merge is one of {', '.join(self.MERGES)}, not {merge!r}")
        a, b = self.ahead, self.back
        if a.input_size != b.input_size or (merge != "concat" and a.output_size != b.output_size):
            raise ArgumentError(
                f"Bidirectional: the directions have {a.input_size} and {b.input_size} inputs, which must agree, and "
                f"{a.output_size} and {b.output_size} outputs, which must unless merge='concat'"
            )
        self.merge, self.input_size = merge, a.input_size
        self.output_size = a.output_size + b.output_size if merge == "concat" else a.output_size

    def _unrolled(
        self, xs: Any, state: Any, lengths: Any, reset: Any, memory: Any, reverse: bool
    ) -> tuple[Tensor, Callable[[], Tensor], Any]:
        starts = _parts("Bidirectional", state, 2, "directions")
        a, last_a, final_a = self.ahead._unrolled(xs, starts[0], lengths, reset, memory, reverse)
        b, last_b, final_b = self.back._unrolled(xs, starts[1], lengths, reset, memory, not reverse)
        return self._merged(a, b), lambda: self._merged(last_a(), last_b()), (final_a, final_b)

    @property
    def _goes_both_ways(self) -> bool:
        return True

    def _merged(self, a: Tensor, b: Tensor) -> Tensor:
        if self.merge == "concat":
            return ops.concat([a, b], axis=-1)
        if self.merge == "product":
            return a * b
        return a + b if self.merge == "sum" else (a + b) / 2


def _parts(owner: str, state: Any, count: int, what: str) -> Any:
    """The states of the parts; None for each that begins with its own."""
    if state is None:
        return (None,) * count
    if not isinstance(state, (tuple, list)) or len(state) != count:
        raise ArgumentError(f"{owner}: state must be a tuple of {count} ({what}), as an earlier call returned it{HINT}")
    return state


class OneToMany(Module):
    """A vector to a sequence: `net(vector, xs=None, *, steps=None, lengths=None) -> (outs, state)`.

    vector v (B, D) conditions the network in one of three ways, or rather two and both (Goodfellow et al. 2016, section
    10.2.4): `into="input"`, as an extra input at every step, x_t -> [x_t, v]: its weights make v a bias of its own for
    each row; `into="state"`, as the initial state, h_0 = R v + r for each part of the state that is of floats; or
    `into="both"`.

    xs: inputs (T, B, input_size) beside the vector, such as the words so far; or, without any (input_size 0), the
        number of steps.

    Made of a cell class (or another function of the two sizes), the size D of the vector, the input and hidden sizes,
    and what `Recurrent` takes besides. One step at a time, as for decoding, it is run by `begin` and `step`:

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.OneToMany(nn.LSTMCell, 10, 0, 16, into="both")
    >>> outs, state = net(mg.zeros((2, 10)), steps=7)
    >>> outs.shape
    (7, 2, 16)
    >>> writer, embed, logits = nn.OneToMany(nn.GRUCell, 10, 8, 16), nn.Embedding(5, 8), nn.Linear(16, 5)
    >>> def step(tokens, state):
    ...     out, state = writer.step(state, embed(tokens))
    ...     return logits(out), state
    >>> written = nn.greedy(step, writer.begin(mg.zeros((2, 10))), [0, 0], 20, stop=1)
    """

    def __init__(
        self,
        cell: Callable[[int, int], Cell],
        vector_size: int,
        input_size: int,
        hidden_size: int,
        *,
        into: str = "input",
        **options: Any,
    ):
        if into not in ("input", "state", "both"):
            raise ArgumentError(f'OneToMany: into is "input", "state" or "both", not {into!r}')
        if options.get("batch_first"):
            raise ArgumentError("OneToMany: sequences are time first, (T, B, ...); leave batch_first out")
        vector_size = backends.as_count("OneToMany", "vector_size", vector_size)
        input_size = backends.as_count("OneToMany", "input_size", input_size, 0)
        self.vector_size, self.input_size, self.into = vector_size, input_size, into
        self.net = Recurrent(cell, input_size + (vector_size if into != "state" else 0), hidden_size, **options)
        self.starts: list[Linear] = []
        if into != "input":
            floats = [leaf for cell in self._cells() for leaf in tree.leaves(cell.initial_state(1)) if _is_float(leaf)]
            self.starts = [Linear(vector_size, leaf.size) for leaf in floats]

    def _cells(self) -> list[Cell]:
        return [cell for layer in self.net.cells for cell in layer]

    def begin(self, vector: Any) -> Any:
        """The state before the first step, for `step`: that which the vector makes, and the vector."""
        vector = self._vector(vector)
        return self._state(vector, vector.shape[0]), vector

    def step(self, state: Any, x: Any = None) -> tuple[Tensor, Any]:
        """One step, from a state of `begin` or an earlier step and an input x (B, input_size), to (out, state)."""
        inner, vector = state
        outs, inner = self._run(vector, None if x is None else ops.expand_dims(x, axis=0), 1, None, inner)
        return outs[0], (inner, vector)

    def forward(
        self, vector: Any, xs: Any = None, *, steps: int | None = None, lengths: Any = None
    ) -> tuple[Tensor, Any]:
        vector = self._vector(vector)
        if (xs is None) == (steps is None):
            raise ArgumentError("OneToMany: give the inputs xs, or without inputs the number of steps, and not both")
        return self._run(vector, xs, steps, lengths, self._state(vector, vector.shape[0]))

    def _vector(self, vector: Any) -> Tensor:
        vector = vector if isinstance(vector, Tensor) else tensor(vector)
        if vector.ndim != 2 or vector.shape[1] != self.vector_size:
            raise ShapeError(f"OneToMany: expected a vector (B, {self.vector_size}), got {vector.shape}")
        return vector

    def _run(self, vector: Tensor, xs: Any, steps: int | None, lengths: Any, state: Any) -> tuple[Tensor, Any]:
        batch = vector.shape[0]
        if xs is None:
            if self.input_size:
                raise ArgumentError(f"OneToMany: it reads inputs of size {self.input_size} beside the vector: give xs")
            steps = backends.as_count("OneToMany", "steps", steps, 0)
            xs = ops.zeros((steps, batch, self.input_size), dtype=vector.dtype, backend=vector.backend)
        xs = xs if isinstance(xs, Tensor) else tensor(xs)
        is_read = xs.ndim == 3 or (xs.ndim == 2 and self.into == "state")  # a cell may read tokens (T, B)
        if not is_read or xs.shape[1] != batch:
            raise ShapeError(
                f"OneToMany: expected xs (T, {batch}, {self.input_size}) for vectors {vector.shape}, got {xs.shape}"
            )
        if self.into != "state":
            xs = ops.concat([xs, ops.broadcast_to(vector, (xs.shape[0], *vector.shape))], axis=-1)
        return self.net(xs, state, lengths)

    def _state(self, vector: Tensor, batch: int) -> Any:
        """The state that the vector makes; the cells' own where it is an input only."""
        starts = iter(self.starts)

        def started(leaf: Any) -> Any:
            return ops.reshape(next(starts)(vector), leaf.shape) if self.starts and _is_float(leaf) else leaf

        layers = tuple(tuple(tree.map(started, c.initial_state(batch)) for c in layer) for layer in self.net.cells)
        return layers[0][0] if len(self._cells()) == 1 else layers


def _is_float(leaf: Any) -> bool:
    """Whether a part of a state has rows of floats."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and backends.is_floating(leaf.data)
