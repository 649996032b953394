"""A program: a step's recording, its code, and the buffers that it runs in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor
from .divide import Pass, base, divide
from .emit import KEEPS, LENT, SAVED, Code, emit
from .record import Recording
from .siblings import merge
from .symbols import CARRIED, EARLY, FIXED, VIEWS, Instruction, Symbol
from .totals import operands
from .workspace import Lease, Pool, Workspace

CHEAP = frozenset("add multiply negative subtract tanh".split())  # to compute again
BLOCK = 1 << 19  # bytes that the steps of a block should take, so that they stay in the processor's cache


class Part:
    """The forward or the backward pass, ready to run."""

    def __init__(
        self,
        divided: Pass,
        keep: Sequence[Symbol],
        checks: Sequence[Any],
        backward_in_time: bool,
        saved: Sequence[Symbol] = (),
    ):
        self.divided = divided
        self.code: Code = emit(divided, keep, checks, backward_in_time, saved)
        self.kept, self.temporary = Pool(self.code.placement.kept), Pool(self.code.placement.temporary)
        self.states = [before for before, _ in [*divided.carried, *divided.shifted]]

    def run(
        self, steps: int, given: dict[Symbol, Any], inits: dict[Symbol, Any], saved: Lease | None = None
    ) -> tuple[Any, Any, Any, Any, Lease]:
        """Wanted values, final states by symbol, totals, saved values, and the lease that these lie in.

        given: arrays by symbol, among them what the forward pass saved; `saved` is the lease that it gave.
        """
        code, lengths = self.code, self.lengths(steps)
        kept, temporary = self.kept.lend(lengths), self.temporary.lend(lengths)
        wanted, finals, totals, values = code.run(
            steps,
            lengths["block"],
            [given[s] for s in code.inputs],
            [inits[s] if s in inits else np.zeros(s.shape, s.dtype) for s in self.states],  # or a sum begins
            self._views(KEEPS, kept.workspace, lengths),
            self._views(LENT, temporary.workspace, lengths),
            self._saved_views(saved, given, lengths),
        )
        return wanted, dict(zip(self.states, finals)), totals, values, kept

    def lengths(self, steps: int) -> dict[str, int]:
        """How often a value of each length is there."""
        block = steps
        if self.code.block_bytes * steps > 2 * BLOCK:
            block = max(1, BLOCK // self.code.block_bytes)
        return {"T": steps, "T1": steps + 1, "block": block, "1": 1}

    def _views(self, source: str, workspace: Workspace, lengths: dict[str, int]) -> Any:
        """What `run` needs of a workspace. Made once, until it is laid out anew."""
        found = workspace.cache.get(self)
        if found is None:
            arrays = [
                workspace.array(slot, shape if length == "1" else (lengths[length], *shape), dtype, within, apart)
                for slot, shape, dtype, length, within, apart in self.code.arrays[source]
            ]
            found = workspace.cache[self] = self.code.views[source](lengths["T"], lengths["block"], arrays)
        return found

    def _saved_views(self, lease: Lease | None, given: dict[Symbol, Any], lengths: dict[str, int]) -> Any:
        """What `run` needs of the values that the forward pass saved in a workspace."""
        if lease is None:
            return ()
        found = lease.workspace.cache.get((self, SAVED))
        if found is None:
            arrays = [given[s] for s in self.code.saved]
            found = self.code.views[SAVED](lengths["T"], lengths["block"], arrays)
            lease.workspace.cache[self, SAVED] = found
        return found

    @property
    def bytes(self) -> int:
        """The memory of buffers that wait for the next call."""
        return self.kept.bytes + self.temporary.bytes


class Program:
    """What a step became: its forward pass, its backward pass if there is to be one, and what each of them is given.

    forward keeps what backward reads; `light` is the forward pass that keeps nothing.
    """

    def __init__(self, recording: Recording, surroundings: Sequence[Tensor], reverse: bool):
        self.recording = r = recording
        self.reverse = reverse
        r.forward = merge(r.forward)
        # A tensor found in the surroundings is known by its place there: steps that differ in it share the program.
        places = {id(t): k for k, t in enumerate(surroundings)}
        self._places = [places.get(id(t), -1) for t, _ in r.weights]
        self._own = [t if k < 0 else None for k, (t, _) in zip(self._places, r.weights)]
        self._needs = [t.node is not None for t, _ in r.weights]
        r.weights = [(None, s) for _, s in r.weights]
        self.still = [*(s for _, s in r.weights), *(s for _, s in r.constants), *r.context]
        self.backward: Part | None = None
        self.keep: list[Symbol] = []
        back: Pass | None = None
        if r.out_cotangents or r.state_cotangents:
            back = self._divide_backward([])
            back = self._divide_backward(self._recomputed(back))
            self.keep = [s for s in [*r.state, *(s for i in r.forward for s in i.outputs)] if s in back.given]
        self.forward = self._forward(self.keep)
        if back is not None:
            saved = [s for s, source in self.forward.code.saves.items() if source == KEEPS]
            self.backward = Part(back, [], [], not reverse, saved)
        self._light: Part | None = None

    def weights(self, surroundings: Sequence[Tensor]) -> list[Tensor]:
        """The tensors that the step closes over."""
        return [surroundings[k] if own is None else own for k, own in zip(self._places, self._own)]

    def fits(self) -> bool:
        """Whether the tensors that are known by themselves still are as they were."""
        return all(
            own is None or (own.shape == s.shape and own.dtype == s.dtype and (own.node is not None) == needs)
            for own, (_, s), needs in zip(self._own, self.recording.weights, self._needs)
        )

    @property
    def light(self) -> Part:
        if self._light is None:
            self._light = self._forward([])
        return self._light

    @property
    def bytes(self) -> int:
        """The memory of buffers that wait for the next call."""
        return sum(part.bytes for part in (self.forward, self.backward, self._light) if part)

    def _forward(self, keep: Sequence[Symbol]) -> Part:
        r = self.recording
        given = dict.fromkeys(self.still, FIXED) | dict.fromkeys(r.xs, EARLY) | dict.fromkeys(r.state, CARRIED)
        looked_at = [s for s, _, _ in r.checks]
        divided = divide(r.forward, given, list(zip(r.state, r.new_state)), [*r.outs, *looked_at, *keep], [])
        divided.wanted, divided.looked_at = r.outs, looked_at
        return Part(divided, keep, r.checks, self.reverse)

    def _recomputed(self, back: Pass) -> list[Instruction]:
        """What the backward pass computes again rather than reads: one step from what is kept, as 1 - z is, or tanh(c).

        Only for use in the blocks of the loop, where it stays in the cache.
        """
        r = self.recording
        used_whole = {base(s) for s in operands(back.totals)} | {base(s) for i in back.after for s in i.symbols}
        used_whole |= {base(s) for s in back.wanted}
        stays = {*r.state, *r.new_state, *r.xs, *self.still}
        found = []
        for i in r.forward:
            (s, *_) = i.outputs
            if s not in back.given or s in stays:
                continue
            if i.name in CHEAP and s not in used_whole and stays.issuperset(i.symbols):
                found.append(i)
            else:
                stays.update(i.outputs)
        return found

    def _divide_backward(self, recomputed: Sequence[Instruction]) -> Pass:
        r = self.recording
        again = [i for i in r.forward if i.name in VIEWS or i.outputs[0].level == FIXED or i in recomputed]
        made = [s for i in r.forward if i not in again for s in i.outputs]
        given = dict.fromkeys(self.still, FIXED) | dict.fromkeys([*r.xs, *r.state, *made], EARLY)
        given.update((g, EARLY) for g in r.out_cotangents if g is not None)
        pairs = [(g, d) for g, d in zip(r.state_cotangents, r.state_gradients) if g is not None and d is not None]
        given.update((g, CARRIED) for g, _ in pairs)
        wanted = [g for g in r.x_gradients if g is not None]
        totals = [g for g in [*r.context_gradients, *r.weight_gradients] if g is not None]
        return divide([*again, *r.backward], given, pairs, wanted, totals)
