"""Placement: where each value of a divided pass lives.

A value goes where it is wanted: an array with a slot for every step, if something outside the loop asks for it; the
state after the step, where the next step reads it; a slice of the array that it is concatenated into; or else a
buffer, which is used again once the value is dead. What the caller is given is memory of its own, never a buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from .divide import Pass, base, only_for_loop
from .numpy_code import REDUCTIONS, UFUNCS
from .symbols import ELEMENTWISE, VIEWS, Instruction, Symbol
from .totals import operands
from .workspace import Plan

CALLER, KEPT, TEMPORARY = "caller", "kept", "temporary"


@dataclass(eq=False)
class Home:
    """The place of a value. span: "all" steps, "block", "one" step; "all and first" has one more, the state before all.

    owner: CALLER, for memory that is given away; KEPT, until the backward pass; TEMPORARY, until the pass is over.
    inside: the symbol of which this is a slice, and where in it it begins. slot: in the plan of its owner. within and
    apart: bytes from the start of the slot, and from one value to the next, where it shares the slot with others.
    """

    owner: str
    span: str
    inside: tuple[Symbol, int] | None = None
    slot: int | None = None
    within: int = 0
    apart: int = 0


class Arena:
    """Slots of one length for values that live for a while: a slot is used again when its value is dead."""

    def __init__(self, plan: Plan, length: str):
        self.plan, self.length = plan, length
        self._busy: list[tuple[int, int, int]] = []  # last use, slot, bytes

    def take(self, s: Symbol, birth: int, death: int, over: Collection[int | None] = ()) -> int:
        """A slot for s from `birth` to `death`. over: slots whose values die as s is born, and may be written over."""
        size = prod(s.shape) * s.dtype.itemsize
        fitting = [e for e in self._busy if e[2] == size and (e[0] < birth or (e[0] == birth and e[1] in over))]
        found = min(fitting, key=lambda e: e[1] not in over, default=None)
        if found is not None:
            self._busy.remove(found)
        slot = self.plan.slot(s, self.length) if found is None else found[1]
        self._busy.append((death, slot, size))
        return slot


def can_write(i: Any) -> bool:
    """Whether the result can be written into an array that is there."""
    return i.name in ELEMENTWISE or i.name in REDUCTIONS or i.name in ("concat", "matmul")


class Placement:
    """The homes of a pass, and the order of what is done before its loop.

    keep: symbols that the backward pass will read. before: instructions, and pairs (state before, state after) where a
    state is known without the loop. tile: what only the loop needs, block by block. owner: values that are written
    into a concatenation, and where. direct: states whose next value is written where the next step reads it.
    """

    def __init__(self, divided: Pass, keep: Sequence[Symbol]):
        self.d, self.keep = divided, list(keep)
        self.kept, self.temporary = Plan(), Plan()
        self.homes: dict[Symbol, Home] = {}
        self.tile = only_for_loop(divided, keep) if divided.carried else []
        self.before = self._in_order([i for i in divided.before if i not in self.tile])
        self._given_away = {base(s) for s in divided.wanted}
        self._kept = {base(s) for s in keep}
        self._made = {s: k for k, i in enumerate(divided.loop) for s in i.outputs}
        self._last: dict[Symbol, int] = {}  # when a value is last used in the loop, itself or by a view
        for k, i in enumerate(divided.loop):
            self._last.update((base(s), k) for s in i.symbols)
        self._last.update((base(new), len(divided.loop)) for _, new in divided.carried)
        self.owner = self._parts_of_concatenations()
        self._moments()
        self._place_states()
        self._share_spent()
        for k, i in enumerate(self.before):
            self._now = k
            if isinstance(i, Instruction):
                self._place_whole(i)
        self._now = len(self.before)
        self._place_loop()
        self._place_tile()
        for k, i in enumerate(divided.after):
            self._now = len(self.before) + 1 + k
            self._place_whole(i)

    def _in_order(self, instructions: list[Instruction]) -> list[Any]:
        """Instructions and shifted states, each after what it needs."""
        items: list[Any] = [*instructions, *self.d.shifted]
        waiting = {s for i in instructions for s in i.outputs} | {old for old, _ in self.d.shifted}
        ordered = []
        while items:
            later = []
            for item in items:
                needs, makes = (item.symbols, item.outputs) if isinstance(item, Instruction) else ([item[1]], [item[0]])
                if waiting.isdisjoint(needs):
                    ordered.append(item)
                    waiting.difference_update(makes)
                else:
                    later.append(item)
            items = later
        return ordered

    def _moments(self) -> None:
        """When each array of all steps is last used. The loop is one moment."""
        self._death: dict[Symbol, int] = {}
        for moment, i in enumerate([*self.before, None, *self.d.after]):
            if i is None:
                used = [s for j in [*self.tile, *self.d.loop] for s in j.symbols]
            else:
                used = i.symbols if isinstance(i, Instruction) else [i[1]]
            self._death.update((base(s), moment) for s in used)
        ends = [*self.d.wanted, *operands(self.d.totals), *self.keep, *self.d.looked_at]
        ends += [new for _, new in self.d.shifted]
        self._death.update((base(s), len(self.before) + len(self.d.after) + 1) for s in ends)
        self._arena = Arena(self.temporary, "T")

    # All steps at once

    def _slots_of_dying(self, i: Instruction, dying: Any, span: str) -> list[int | None]:
        """Slots of the inputs that end here and over which one NumPy function may write its result."""
        s = i.outputs[0]
        return [
            home.slot
            for x in i.symbols
            if i.name in UFUNCS and (home := self.homes.get(x)) and home.owner == TEMPORARY and home.inside is None
            and home.span == span and x.shape == s.shape and dying(x)
        ]  # fmt: skip

    def _whole_home(self, s: Symbol, span: str = "all", over: Collection[int | None] = ()) -> Home:
        if s in self._given_away:
            return Home(CALLER, span)
        length = "T" if span == "all" else "T1"
        if s in self._kept:
            return Home(KEPT, span, slot=self.kept.slot(s, length))
        if span != "all":
            return Home(TEMPORARY, span, slot=self.temporary.slot(s, length))
        return Home(TEMPORARY, span, slot=self._arena.take(s, self._now, self._death.get(s, self._now), over))

    def _share_spent(self) -> None:
        """Let values that the loop keeps for the backward pass lie where inputs of the loop lay, which are spent.

        At each step an input of that step is read once, and its memory is free: so the gates of a cell take the place
        of what the inputs contributed to them. Not for factors of products, which want their rows one after another.
        """
        d = self.d
        read: dict[Symbol, int] = {}  # when the loop has read an input for the last time in a step
        for k, i in enumerate([*self.tile, *d.loop]):
            read.update((base(s), max(-1, k - len(self.tile))) for s in i.symbols)
        factors = {base(s) for s in operands(d.totals)} | {
            base(s) for i in [*d.loop, *d.after] if i.name == "matmul" for s in i.symbols
        }
        elsewhere = {base(s) for i in [*self.before, *d.after] if isinstance(i, Instruction) for s in i.symbols}
        elsewhere |= {base(s) for s in [*d.wanted, *self.keep, *operands(d.totals), *d.looked_at]}
        elsewhere |= {base(new) for _, new in d.shifted}
        inputs = [i.outputs[0] for i in self.before if isinstance(i, Instruction) and can_write(i)]
        for x in inputs:
            if x in elsewhere or x not in read:
                continue
            size, used = x.size * x.dtype.itemsize, 0
            slot: int | None = None
            for k, i in enumerate(d.loop):
                if not can_write(i) or k <= read[x]:
                    continue
                (s,) = i.outputs
                free = s in self._kept and s in d.stored and s not in self.homes and s not in self.owner
                free = free and s not in factors and s not in self._given_away and s.dtype == x.dtype
                bytes = s.size * s.dtype.itemsize
                if free and bytes and used + bytes <= size:
                    slot = self.kept.slot(x, "T") if slot is None else slot
                    self.homes[s] = Home(KEPT, "all", slot=slot, within=used, apart=size)
                    used += bytes
            if slot is not None:
                self.homes[x] = Home(KEPT, "all", slot=slot)

    def _place_whole(self, i: Instruction) -> None:
        if can_write(i) and i.outputs[0] not in self.homes:
            (s,) = i.outputs
            over = self._slots_of_dying(i, lambda x: self._death.get(x) == self._now, "all")
            self.homes[s] = self._whole_home(s, over=over)

    # The loop

    def _parts_of_concatenations(self) -> dict[Symbol, tuple[Symbol, int]]:
        """Values that are written straight into the array they are concatenated into, and where in it they begin."""
        afters = {new for _, new in self.d.carried}
        owner: dict[Symbol, tuple[Symbol, int]] = {}
        for i in self.d.loop:
            if i.name == "concat":
                (whole,) = i.outputs
                start, axis = 0, i.static["axis"] % whole.ndim
                for part in i.inputs:
                    direct = part in self._made and part.instruction.name in ELEMENTWISE and part.dtype == whole.dtype
                    alone = part not in owner and part not in afters and i.inputs.count(part) == 1
                    if direct and alone and (part not in self.d.stored or whole in self.d.stored):
                        owner[part] = whole, start
                    start += part.shape[axis]
        return owner

    def _place_states(self) -> None:
        d = self.d
        outside = {base(s) for s in [*d.wanted, *self.keep, *operands(d.totals), *d.looked_at]} | d.stored
        outside |= {base(s) for i in d.after for s in i.symbols} | {base(new) for _, new in d.shifted}
        self._now = len(self.before)
        self.direct: set[Symbol] = set()
        for old, new in d.carried:
            direct = new in self._made and base(new) is new and can_write(new.instruction) and new not in self.homes
            if direct and old not in outside and new not in outside and self._may_overwrite(old, new):
                self.homes[old] = self.homes[new] = Home(TEMPORARY, "one", slot=self.temporary.slot(old, "1"))
                continue
            if direct:
                self._given_away |= {old} if new in self._given_away else set()
                self._kept |= {old} if new in self._kept else set()
            self.homes[old] = self._whole_home(old, "all and first")
            if direct:
                self.homes[new] = self.homes[old]
                self.direct.add(old)

    def _may_overwrite(self, old: Symbol, new: Symbol) -> bool:
        """Whether nothing reads the state before the step any more when that after it is written."""
        k, use = self._made[new], self._last.get(old, -1)
        if use < k:
            return True
        i = self.d.loop[k]
        return use == k and i.name in UFUNCS and all(s is old or base(s) is not old for s in i.symbols)

    def _place_loop(self) -> None:
        arena = Arena(self.temporary, "1")
        for k, i in enumerate(self.d.loop):
            if i.name in VIEWS:
                continue
            (s,) = i.outputs
            whole, start = self.owner.get(s, (s, 0))
            if whole in self.homes or not can_write(whole.instruction):
                pass
            elif whole in self.d.stored:
                self.homes[whole] = self._whole_home(whole)
            else:
                dying = lambda x, k=k: self._last.get(x) == k and x not in self._states
                over = self._slots_of_dying(i, dying, "one") if whole is s else ()
                ends = [self._last.get(x, -1) for x in [whole, *(p for p, (w, _) in self.owner.items() if w is whole)]]
                self.homes[whole] = Home(TEMPORARY, "one", slot=arena.take(whole, k, max(ends), over))
            if whole is not s:
                home = self.homes[whole]
                self.homes[s] = Home(home.owner, home.span, (whole, start), home.slot)

    @property
    def _states(self) -> set[Symbol]:
        return {s for pair in self.d.carried for s in pair}

    def _place_tile(self) -> None:
        arena = Arena(self.temporary, "block")
        last: dict[Symbol, int] = {}
        for k, i in enumerate(self.tile):
            last.update((base(s), k) for s in i.symbols)
        in_loop = [s for i in self.d.loop for s in i.symbols] + [new for _, new in self.d.carried]
        last.update((base(s), len(self.tile)) for s in in_loop)
        for k, i in enumerate(self.tile):
            if i.name not in VIEWS:
                (s,) = i.outputs
                over = self._slots_of_dying(i, lambda x, k=k: last.get(x) == k, "block")
                self.homes[s] = Home(TEMPORARY, "block", slot=arena.take(s, k, last.get(s, k), over))
