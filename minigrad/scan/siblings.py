"""One instruction for several: those that do the same to neighbouring parts of the same arrays become one.

    r, z = split(x, 2); a = sigmoid(r); b = sigmoid(z)     becomes     a, b = split(sigmoid(x), 2)

Likewise `h @ U_r` and `h @ U_z`, where U_r and U_z are neighbours in U. The parts are views, so cutting costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from .symbols import ELEMENTWISE, Instruction, Symbol

MOST_ROWS = 8  # with more, reading a part of each row costs NumPy more than calling it once less saves


FEW = 1024  # elements that take less time than a call
ANYWHERE = frozenset(("sigmoid", "tanh"))  # which any number may be given to


class Part(NamedTuple):
    """Columns `start` to `stop` of a symbol: of its last axis."""

    whole: Symbol
    start: int
    stop: int


class Member(NamedTuple):
    """An instruction of a run, what its inputs are parts of, and where its result lies among those of the run."""

    instruction: Instruction
    parts: list[Part | None]
    place: Part


Run = list[Member]  # from the first columns to the last; places count from the one that came first


def merge(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The program with neighbours merged. Its symbols stay; some become views of what was merged."""
    parts: dict[Symbol, Part] = {}
    cuts: dict[Part, Symbol] = {}
    runs: dict[Any, list[Run]] = {}
    order: list[Instruction | Run] = []
    for i in instructions:
        if i.name == "split" and i.static["axis"] % i.inputs[0].ndim == i.inputs[0].ndim - 1:
            start = 0
            for s in i.outputs:
                parts[s] = Part(i.inputs[0], start, start + s.shape[-1])
                cuts[parts[s]] = s
                start += s.shape[-1]
        mine = _parts_of(i, parts)
        if mine is None:
            order.append(i)
            continue
        alike = runs.setdefault(_kind(i, mine), [])
        width = i.outputs[0].shape[-1]
        for run in alike:
            after, before = _gap(i, run[-1].parts, mine), _gap(i, mine, run[0].parts)
            if after is not None:
                start = run[-1].place.stop + after
                place = Part(run[0].place.whole, start, start + width)
                run.append(Member(i, mine, place))
                break
            if before is not None:
                stop = run[0].place.start - before
                place = Part(run[0].place.whole, stop - width, stop)
                run.insert(0, Member(i, mine, place))
                break
        else:
            place = Part(i.outputs[0], 0, i.outputs[0].shape[-1])
            alike.append([Member(i, mine, place)])
            order.append(alike[-1])
        parts[i.outputs[0]] = place  # what is computed from neighbours may be neighbours
    joined: dict[Symbol, tuple[Symbol, int]] = {}
    return [j for item in order for j in ([item] if isinstance(item, Instruction) else _merged(item, cuts, joined))]


def _kind(i: Instruction, parts: list[Part | None]) -> Any:
    """What two instructions must have in common to be one."""
    inputs = [
        ("part", p.whole) if p else ("same", x if isinstance(x, Symbol) else repr(x)) for x, p in zip(i.inputs, parts)
    ]
    return i.name, repr(sorted(i.static.items())), *inputs


def _parts_of(i: Instruction, parts: dict[Symbol, Part]) -> list[Part | None] | None:
    """Which inputs are parts of something, if the instruction can be done to more of it in the same way."""
    if i.name not in ELEMENTWISE and i.name != "matmul":
        return None
    out = i.outputs[0]
    mine = [parts.get(x) if isinstance(x, Symbol) else None for x in i.inputs]
    if i.name == "matmul":
        mine[0] = None
        return mine if mine[1] is not None and out.ndim == 2 else None
    if not out.ndim or not any(mine) or prod(out.shape[:-1]) > MOST_ROWS:
        return None
    for x, p in zip(i.inputs, mine):
        if isinstance(x, Symbol) and x.ndim and x.shape[-1] != 1 and (p is None or x.shape[-1] != out.shape[-1]):
            return None
    return mine


def _gap(i: Instruction, before: list[Part | None], mine: list[Part | None]) -> int | None:
    """How many columns lie between those parts and these; None if they cannot be joined.

    There may be columns in between where it costs less to compute them too than to call NumPy again.
    """
    gaps = {b.start - a.stop for a, b in zip(before, mine) if a and b}
    gap = gaps.pop()
    few = i.name in ANYWHERE and i.outputs[0].size <= FEW and gap <= i.outputs[0].shape[-1]
    return gap if not gaps and (gap == 0 or (gap > 0 and few)) else None


def _merged(run: Run, cuts: dict[Part, Symbol], joined: dict[Symbol, tuple[Symbol, int]]) -> list[Instruction]:
    """The instructions of a run as one, with the cuts before and after it.

    joined: of the runs before, by the first of their results to come: the result of all, and where that one begins.
    """
    first, last = run[0], run[-1]
    if len(run) == 1:
        return [first.instruction]
    made: list[Instruction] = []
    inputs: list[Any] = []
    for x, begin, end in zip(first.instruction.inputs, first.parts, last.parts):
        if begin is None or end is None:
            inputs.append(x)
        else:
            whole, shift = joined.get(begin.whole, (begin.whole, 0))
            inputs.append(_cut(Part(whole, begin.start + shift, end.stop + shift), cuts, made))
    outs: list[Symbol] = []
    for k, member in enumerate(run):
        s = member.instruction.outputs[0]
        gap = member.place.start - run[k - 1].place.stop if k else 0
        if gap:
            outs.append(s.recorder.symbol((*s.shape[:-1], gap), s.dtype, s.level, "split"))
        outs.append(s)
    one = Instruction(first.instruction.name, tuple(inputs), first.instruction.static)
    shape = (*outs[0].shape[:-1], sum(s.shape[-1] for s in outs))
    one.outputs = [outs[0].recorder.symbol(shape, outs[0].dtype, outs[0].level, one.name, one)]
    joined[first.place.whole] = one.outputs[0], -first.place.start
    return [*made, one, _split(one.outputs[0], [s.shape[-1] for s in outs], outs)]


def _cut(part: Part, cuts: dict[Part, Symbol], made: list[Instruction]) -> Symbol:
    """The symbol of a part, by a cut that is there or a new one."""
    whole, start, stop = part
    if (start, stop) == (0, whole.shape[-1]):
        return whole
    if part not in cuts:
        sizes = [start, stop - start, whole.shape[-1] - stop]
        outs = [whole.recorder.symbol((*whole.shape[:-1], n), whole.dtype, whole.level, "split") for n in sizes]
        made.append(_split(whole, sizes, outs))
        cuts[part] = outs[1]
    return cuts[part]


def _split(whole: Symbol, sizes: Sequence[int], outs: list[Symbol]) -> Instruction:
    made = Instruction("split", (whole,), {"sizes": tuple(sizes), "axis": whole.ndim - 1})
    made.outputs = outs
    for s in outs:
        s.instruction = made
    return made
