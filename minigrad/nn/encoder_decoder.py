"""A sequence to one of another length: an encoder, and a decoder that begins where it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backends, ops
from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor, tensor
from .attention import AttentionCell, Memory
from .module import Module
from .network import Network
from .recurrent import Recurrent
from .topologies import network, require_apart


class EncoderDecoder(Module):
    """A sequence to one of another length, by two networks with weights of their own (Cho et al. 2014).

        _, s = encoder(source);   y_t from decoder(y_{t-1}) beginning with s

    `net(source, targets, source_lengths, target_lengths)` gives the outputs (T, B, ...) under teacher forcing: the
    decoder reads the targets one step late, so that its step t, which predicts y_t, has read y_1 ... y_{t-1}. Its
    first input is the zero vector, or the token `start` (an `<SOS>`).

    source (S, B, I) or tokens (S, B); targets (T, B, O), or tokens (T, B).
    encoder, decoder: networks (`Recurrent`, `Stacked`, ...); the decoder begins with the encoder's final state.
    bridge: a function of that state, where the decoder needs another; for both directions of an encoder, say.
    attend: the decoder's cells are given the encoder's outputs as memory, for `AttentionCell`.
    source_embedding, target_embedding: of tokens to vectors; output: of the decoder's outputs to logits.

    Without targets, token by token, with the functions that decode:

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> V, H = 12, 8
    >>> net = nn.EncoderDecoder(
    ...     nn.Recurrent(nn.GRUCell, 6, H), nn.Recurrent(nn.GRUCell, 6, H), source_embedding=nn.Embedding(V, 6),
    ...     target_embedding=nn.Embedding(V, 6), output=nn.Linear(H, V))
    >>> source = mg.zeros((9, 2), dtype=mg.int64)
    >>> net(source, mg.zeros((7, 2), dtype=mg.int64), [9, 4]).shape
    (7, 2, 12)
    >>> best = nn.greedy(net.step, net.begin(source, [9, 4]), net.first(2), 20, stop=1)
    """

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        *,
        start: int | None = None,
        attend: bool = False,
        bridge: Callable[[Any], Any] | None = None,
        source_embedding: Callable[[Any], Tensor] | None = None,
        target_embedding: Callable[[Any], Tensor] | None = None,
        output: Callable[[Tensor], Tensor] | None = None,
    ):
        self.encoder, self.decoder = network("EncoderDecoder", encoder), network("EncoderDecoder", decoder)
        require_apart("EncoderDecoder", self.encoder, self.decoder, "each side")
        if start is not None and (type(start) is not int or start < 0):
            raise ArgumentError(f"EncoderDecoder: start is None or a token, an integer from 0, got {start!r}")
        if attend and not self.decoder.takes_memory:
            raise ArgumentError(
                "EncoderDecoder: attend=True, but no cell of the decoder attends; nn.AttentionCell does"
            )
        self.start, self.attend, self.bridge = start, attend, bridge
        self.source_embedding, self.target_embedding, self.output = source_embedding, target_embedding, output

    def forward(self, source: Any, targets: Any, source_lengths: Any = None, target_lengths: Any = None) -> Tensor:
        memory, state = self.encode(source, source_lengths)
        outs, _ = self._decode(self._read(self._late(targets)), state, target_lengths, memory)
        return outs if self.output is None else self.output(outs)

    def alignment(self, source: Any, targets: Any, source_lengths: Any = None) -> Tensor:
        """What each step of the decoder looks at, under teacher forcing: the weights (T, B, S) of its `AttentionCell`.

        Raises ArgumentError unless the decoder is one layer, of such a cell.
        """
        memory, state = self.encode(source, source_lengths)
        cell = self.decoder.cell if isinstance(self.decoder, Recurrent) and len(self.decoder.cells) == 1 else None
        if memory is None or not isinstance(cell, AttentionCell):
            raise ArgumentError("EncoderDecoder: alignment needs attend=True and a decoder of one nn.AttentionCell")
        return cell.alignment(self._read(self._late(targets)), memory, state)

    def _decode(self, xs: Tensor, state: Any, lengths: Any, memory: Memory | None) -> tuple[Tensor, Any]:
        try:
            return self.decoder(xs, state, lengths, memory=memory)
        except (ArgumentError, ShapeError) as error:
            if self.bridge is None and "state" in str(error):
                raise type(error)(
                    f"EncoderDecoder: the decoder begins with the encoder's final state, and cannot: {error}. "
                    "bridge=..., a function of that state, makes the decoder's"
                ) from None
            raise

    def encode(self, source: Any, lengths: Any = None) -> tuple[Memory | None, Any]:
        """What the decoder is given of a source: a memory, if it attends, and the state it begins with."""
        xs = source if self.source_embedding is None else self.source_embedding(source)
        outs, state = self.encoder(xs, lengths=lengths)
        return Memory(outs, lengths) if self.attend else None, state if self.bridge is None else self.bridge(state)

    def first(self, batch_size: int) -> Tensor:
        """The tokens that decoding begins with: `start`, or -1 for the zero vector."""
        return ops.full((batch_size,), -1 if self.start is None else self.start, dtype="int64", backend=self._backend)

    @property
    def _backend(self) -> str | None:
        """That of the weights, or the default where there are none."""
        return next((p.backend for p in self.parameters()), None)

    def begin(self, source: Any, lengths: Any = None) -> Any:
        """The state that decoding begins with; its rows are those of the source, and may be taken or repeated."""
        memory, state = self.encode(source, lengths)
        if memory is None:
            return (state,)
        steps, batch = memory.values.shape[:2]
        given = [steps] * batch if lengths is None else lengths
        counts = tensor(given, dtype="int64", backend=memory.values.backend)
        return state, ops.permute_dims(memory.values, (1, 0, 2)), counts

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step of decoding: after the tokens (B,), the logits (B, V) of the next, and the state."""
        if not isinstance(state, tuple) or len(state) != (3 if self.attend else 1):
            raise ArgumentError("EncoderDecoder: step takes the state that net.begin(source, lengths) gives")
        inner, *rest = state
        memory = Memory(ops.permute_dims(rest[0], (1, 0, 2)), rest[1]) if rest else None
        outs, inner = self._decode(self._read(ops.expand_dims(tokens, axis=0)), inner, None, memory)
        logits = outs if self.output is None else self.output(outs)
        return logits[0], (inner, *rest)

    def _late(self, targets: Any) -> Tensor:
        """The targets one step later: after the first input, all but the last."""
        if not isinstance(targets, Tensor):
            are_tokens = not backends.is_array(targets) and self.target_embedding is not None
            targets = tensor(targets, dtype="int64" if are_tokens else None, backend=self._backend)
        if targets.ndim < 2:
            raise ShapeError(f"EncoderDecoder: expected targets (T, B, O), or tokens (T, B), got {targets.shape}")
        if backends.is_floating(targets.data):
            if self.start is not None:
                raise DtypeError(f"EncoderDecoder: start={self.start} is a token, but the targets are floats")
            first = ops.zeros((1, *targets.shape[1:]), dtype=targets.dtype, backend=targets.backend)
        else:
            first = ops.expand_dims(self.first(targets.shape[1]), axis=0)
            targets = ops.astype(targets, "int64")
        return ops.concat([first, targets])[: targets.shape[0]]

    def _read(self, targets: Tensor) -> Tensor:
        """What the decoder reads at each step: floats as they are, tokens embedded, -1 as the zero vector."""
        if backends.is_floating(targets.data):
            return targets
        if self.target_embedding is None:
            raise ArgumentError("EncoderDecoder: targets that are tokens need a target_embedding")
        vectors = self.target_embedding(ops.maximum(targets, 0))
        return ops.where(ops.expand_dims(targets, axis=-1) >= 0, vectors, 0.0)
