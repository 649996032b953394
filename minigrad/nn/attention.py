"""Attention: how much of each part of a memory a query looks at; and what is built from it."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

from .. import backends, functional, ops, tree
from ..errors import ArgumentError, DtypeError, ShapeError
from ..scan import scan
from ..tensor import Tensor, tensor
from . import init
from .cells import Cell, Modifier
from .module import Module, Parameter
from .sequences import valid_steps


class Memory(NamedTuple):
    """What is attended to, for a network's argument `memory`: values (S, B, M), time first as an encoder gives them.

    lengths: how many of the S count in each row, integers (B,); all if None.
    """

    values: Tensor
    lengths: Any = None


class Keys(NamedTuple):
    """A memory made ready, once for all queries: keys (B, S, A), values (B, S, M), and a mask (B, S) or None."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class Attention(Module):
    """How much a query (B, Q) looks at each of S vectors (B, S, M): `attention(query, memory, mask) -> (c, a)`.

        e_s = score(q, m_s)
        a = softmax(e)              the weights (B, S): not negative, and of sum 1
        c = sum_s a_s m_s           the context (B, M)

    A mask of booleans (B, S) says what may be looked at; the weights elsewhere are 0, and a row that may look at
    nothing has weights and a context of 0. What stands where the mask is false, even NaN, has no effect and a gradient
    of 0. A subclass defines `score`, and `project` if part of it depends on the memory alone.

    Called many times, as from a decoder, the memory is made ready once: `ready = attention.prepare(memory, mask)`,
    `attention.attend(query, ready)`. Queries may also come all at once, (B, T, Q): then c is (B, T, M), a (B, T, S).
    """

    def forward(self, query: Tensor, memory: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
        return self.attend(query, self.prepare(memory, mask))

    def prepare(self, memory: Tensor, mask: Any = None) -> Keys:
        """The memory (B, S, M) ready for any number of queries."""
        name = type(self).__name__
        if memory.ndim != 3:
            raise ShapeError(f"{name}: expected a memory (B, S, M), got {memory.shape}")
        if mask is not None:
            mask = mask if isinstance(mask, Tensor) else tensor(mask, backend=memory.backend)
            if mask.size and backends.kind_of(mask.data) != "boolean":
                raise DtypeError(
                    f"{name}: a mask is of booleans (B, S), got {mask.dtype}; (lengths go with a nn.Memory, to a cell)"
                )
            if mask.shape != memory.shape[:2]:
                raise ShapeError(
                    f"{name}: expected a mask {memory.shape[:2]} for a memory {memory.shape}, got {mask.shape}"
                )
            memory = ops.where(ops.expand_dims(mask, axis=-1), memory, 0.0)
        return Keys(self.project(memory), memory, mask)

    def attend(self, query: Tensor, ready: Keys) -> tuple[Tensor, Tensor]:
        """The context and the weights of a query (B, Q), or of queries (B, T, Q)."""
        if query.ndim not in (2, 3) or query.shape[0] != ready.values.shape[0]:
            raise ShapeError(
                f"{type(self).__name__}: expected a query (B, Q) or (B, T, Q) with as many rows as the memory "
                f"{ready.values.shape}, got {query.shape}"
            )
        if query.ndim == 2:
            c, a = self.attend(ops.expand_dims(query, axis=1), ready)
            return ops.squeeze(c, 1), ops.squeeze(a, 1)
        e = self.score(query, ready.keys)
        a = _weights(e, None if ready.mask is None else ops.expand_dims(ready.mask, axis=1))
        return a @ ready.values, a

    def project(self, memory: Tensor) -> Tensor:
        """The part of the score that depends on the memory alone: keys (B, S, A). By default the memory itself."""
        return memory

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """How well queries (B, T, Q) and keys (B, S, A) fit: (B, T, S)."""
        raise ArgumentError(f"{type(self).__name__} defines no score(query, keys)")


class DotAttention(Attention):
    """e_s = q . m_s (Luong et al. 2015), for queries as long as the vectors of the memory; without weights.

    scaled: divided by sqrt(M), so that long vectors do not saturate the softmax (Vaswani et al. 2017).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> c, a = nn.DotAttention()(mg.tensor([[9.0, 0.0]]), mg.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    >>> a
    tensor([[9.9987662e-01, 1.2339458e-04]])
    """

    def __init__(self, *, scaled: bool = False):
        self.scaled = scaled

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        if query.shape[-1] != keys.shape[-1]:
            raise ShapeError(
                f"{type(self).__name__}: a query of {query.shape[-1]} numbers and a memory of {keys.shape[-1]}; "
                "GeneralAttention and AdditiveAttention have weights between them"
            )
        e = query @ ops.matrix_transpose(keys)
        return e / keys.shape[-1] ** 0.5 if self.scaled else e


class GeneralAttention(DotAttention):
    """e_s = q . (W m_s) (Luong et al. 2015, "general"). W = `weight` (Q, M) begins uniform in +-1 / sqrt(M)."""

    def __init__(self, query_size: int, memory_size: int):
        _check_sizes(self, query_size, memory_size)
        super().__init__()
        self.weight = Parameter(init.uniform((query_size, memory_size), memory_size**-0.5))

    def project(self, memory: Tensor) -> Tensor:
        _check_size(self, "memory", memory, self.weight)
        return ops.linear(memory, self.weight)


class AdditiveAttention(Attention):
    """e_s = v . tanh(W q + U m_s + b) (Bahdanau et al. 2015), with A units between.

    W is `weight_q` (A, Q), U `weight_m` (A, M), b `bias` (A,), v `weight_v` (A,); they begin uniform in +-1 / sqrt(A),
    b at 0.
    """

    def __init__(self, query_size: int, memory_size: int, attention_size: int):
        _check_sizes(self, query_size, memory_size, attention_size)
        bound = attention_size**-0.5
        self.weight_q = Parameter(init.uniform((attention_size, query_size), bound))
        self.weight_m = Parameter(init.uniform((attention_size, memory_size), bound))
        self.bias = Parameter(init.zeros((attention_size,)))
        self.weight_v = Parameter(init.uniform((attention_size,), bound))

    def project(self, memory: Tensor) -> Tensor:
        _check_size(self, "memory", memory, self.weight_m)
        return ops.linear(memory, self.weight_m, self.bias)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        _check_size(self, "query", query, self.weight_q)
        query = ops.expand_dims(ops.linear(query, self.weight_q), axis=2)  # (B, T, 1, A)
        return ops.tanh(query + ops.expand_dims(keys, axis=1)) @ self.weight_v


class AttentionPooling(Module):
    """A sequence as one vector: `pool(xs, lengths=None) -> (c, a)`, xs (T, B, M), c (B, M), weights a (B, T).

        e_t = v . tanh(W x_t + b),   a = softmax(e),   c = sum_t a_t x_t            (Yang et al. 2016, eq. 5-7)

    Additive attention without a query, for many to one: what is worth reading counts, wherever it stands. A row of
    length 0 gives zeros. W is `weight` (A, M), b `bias` (A,), v `weight_v` (A,), as in `AdditiveAttention`.
    """

    def __init__(self, size: int, attention_size: int):
        _check_sizes(self, size, attention_size)
        bound = attention_size**-0.5
        self.weight = Parameter(init.uniform((attention_size, size), bound))
        self.bias = Parameter(init.zeros((attention_size,)))
        self.weight_v = Parameter(init.uniform((attention_size,), bound))

    def forward(self, xs: Tensor, lengths: Any = None) -> tuple[Tensor, Tensor]:
        values, mask = batch_first(Memory(xs, lengths))
        _check_size(self, "sequence", values, self.weight)
        if mask is not None:
            values = ops.where(ops.expand_dims(mask, axis=-1), values, 0.0)
        a = _weights(ops.tanh(ops.linear(values, self.weight, self.bias)) @ self.weight_v, mask)
        return ops.squeeze(ops.expand_dims(a, axis=1) @ values, 1), a


class AttentionCell(Modifier):
    """A decoder that attends: `cell` reads each input beside the context that its state so far calls for.

        c_t, a_t = attention(q_{t-1}, memory)           q: the first part of the state, h of an LSTM
        out_t, state_t = cell([x_t, c_t], state_{t-1})                          (Bahdanau et al. 2015)

    The output is [out_t, c_t]; the state is that of `cell`, which must be made for inputs [x_t, c_t]. The memory comes
    with the sequence: `net(xs, state, memory=Memory(outs, lengths))`, or the outputs (S, B, M) alone.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> cell = nn.AttentionCell(nn.GRUCell(3 + 6, 5), nn.AdditiveAttention(5, 6, 4), 6)
    >>> outs, h = nn.Recurrent(cell)(mg.zeros((7, 2, 3)), memory=nn.Memory(mg.ones((9, 2, 6)), [9, 4]))
    >>> outs.shape, cell.alignment(mg.zeros((7, 2, 3)), mg.ones((9, 2, 6))).shape
    ((7, 2, 11), (7, 2, 9))
    """

    def __init__(self, cell: Cell, attention: Attention, memory_size: int):
        super().__init__(cell)
        if cell.input_size < memory_size:
            raise ArgumentError(
                f"AttentionCell: the cell reads [x, context], but takes {cell.input_size} inputs, fewer than the "
                f"{memory_size} of the context: build it with input_size + {memory_size}"
            )
        if not isinstance(attention, Attention):
            raise ArgumentError(f"AttentionCell: expected an attention, such as nn.DotAttention(), got {attention!r}")
        self.attention, self.memory_size = attention, memory_size
        self.input_size = cell.input_size - memory_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size + self.memory_size

    @property
    def takes_memory(self) -> bool:
        return True

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        if memory is None:
            raise ArgumentError(
                "AttentionCell: there is nothing to attend to; net(xs, memory=nn.Memory(outs, lengths))"
            )
        if not isinstance(xs, Tensor) or xs.ndim != 3:
            got = xs.shape if isinstance(xs, Tensor) else f"a {type(xs).__name__}"
            raise ShapeError(
                f"AttentionCell: expected xs (T, B, {self.input_size}), got {got}; tokens become vectors by an "
                "embedding before the network"
            )
        values, mask = batch_first(memory)
        if values.shape[0] != xs.shape[1] or values.shape[2] != self.memory_size:
            raise ShapeError(
                f"AttentionCell: expected a memory (S, {xs.shape[1]}, {self.memory_size}), "
                f"got {tuple(values.shape[i] for i in (1, 0, 2))}"
            )
        parts, context = self.cell.prepare(xs)
        if parts is not xs or context:
            raise ArgumentError(
                f"AttentionCell: {type(self.cell).__name__} prepares its inputs, which then are not [x, context]; "
                "put it around: Zoneout(AttentionCell(...), 0.1)"
            )
        return xs, (self.attention.prepare(values, mask),)

    def forward(self, x: Tensor, state: Any, ready: Keys) -> tuple[Tensor, Any]:  # type: ignore[override]
        c, _ = self.attention.attend(self._query(state), ready)
        out, state = self.cell(ops.concat([x, c], axis=-1), state)
        return ops.concat([out, c], axis=-1), state

    def _query(self, state: Any) -> Tensor:
        for s in tree.leaves(state):
            if isinstance(s, Tensor) and s.ndim == 2 and backends.is_floating(s.data):
                return s
        raise ArgumentError(f"AttentionCell: {type(self.cell).__name__} has no state (B, Q) of floats to be the query")

    def alignment(self, xs: Tensor, memory: Any, state: Any = None) -> Tensor:
        """What each step looks at: the weights a (T, B, S) of a run over xs (T, B, I)."""
        parts, (ready,) = self.prepare(xs, memory)

        def step(x: Tensor, state: Any, ready: Keys) -> tuple[Tensor, Any]:
            _, a = self.attention.attend(self._query(state), ready)
            return a, self(x, state, ready)[1]

        return scan(step, parts, self.initial_state(xs.shape[1]) if state is None else state, (ready,))[0]


def batch_first(memory: Any) -> tuple[Tensor, Tensor | None]:
    """A memory (S, B, M), or a `Memory`, as values (B, S, M) and a mask (B, S), None if all of it counts."""
    values, lengths = memory if isinstance(memory, Memory) else (memory, None)
    values = tensor(values) if backends.is_array(values) else values
    if not isinstance(values, Tensor) or values.ndim != 3:
        got = values.shape if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise ShapeError(f"attention: expected a memory (S, B, M), time first, got {got}")
    valid = None if lengths is None else valid_steps(lengths, values.shape[0], values.shape[1], values, "Memory")
    values = ops.permute_dims(values, (1, 0, 2))
    return values, None if valid is None else ops.matrix_transpose(ops.squeeze(valid, 2))


def _weights(e: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(e) over the last axis, among what the mask admits: 0 elsewhere, and where it admits nothing."""
    if not e.shape[-1]:
        return e  # there is nothing to look at, and no weight to be
    if mask is None:
        return functional.softmax(e)
    largest = ops.max(ops.where(mask, e.detach(), -inf), axis=-1, keepdims=True)
    a = ops.exp(ops.where(mask, e - largest, -inf))
    total = ops.sum(a, axis=-1, keepdims=True)
    return a / ops.where(total > 0, total, 1.0)


def _check_sizes(owner: Module, *sizes: int) -> None:
    for size in sizes:
        if not isinstance(size, int) or size < 1:
            raise ArgumentError(f"{type(owner).__name__}: sizes are integers from 1, got {size!r}")


def _check_size(owner: Module, name: str, given: Tensor, weight: Tensor) -> None:
    """Raise unless the vectors given are as long as the rows of the weight that reads them."""
    if given.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"{type(owner).__name__}: made for a {name} of {weight.shape[1]} numbers, got {given.shape[-1]} "
            f"in the shape {given.shape}"
        )
