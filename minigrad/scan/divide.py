"""Fission: what of a pass must be done step by step, and what can be done for all steps at once, before or after.

Only what the state after a step depends on, and what itself depends on the state before it, is the loop. Sums over
time, which the gradients of weights are, are pushed through everything linear until most are one matrix product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from .symbols import CARRIED, EARLY, ELEMENTWISE, FIXED, VIEWS, Instruction, Symbol
from .totals import Total, accumulators, expand, operands


@dataclass
class Pass:
    """The forward or the backward pass of a step, divided.

    carried: pairs of symbols, the state before a step and after it. shifted: those of which the state after the step
    is known without the loop. wanted: symbols whose values at all steps are asked for; totals: sums over time.
    stored: symbols made in the loop, no views, whose values at every step are needed outside of it. looked_at: indices
    that are to be checked.
    """

    given: set[Symbol]
    carried: list[tuple[Symbol, Symbol]]
    shifted: list[tuple[Symbol, Symbol]]
    wanted: list[Symbol]
    totals: list[Total]
    levels: dict[Symbol, int]
    fixed: list[Instruction] = field(default_factory=list)
    before: list[Instruction] = field(default_factory=list)
    loop: list[Instruction] = field(default_factory=list)
    after: list[Instruction] = field(default_factory=list)
    stored: set[Symbol] = field(default_factory=set)
    looked_at: list[Symbol] = field(default_factory=list)


def divide(
    instructions: Sequence[Instruction],
    given: dict[Symbol, int],
    carried: Sequence[tuple[Symbol, Symbol]],
    wanted: Sequence[Symbol],
    totals: Sequence[Symbol],
) -> Pass:
    """Divide a pass. given: the symbols that it does not make, with their levels."""
    given = dict(given)
    while True:
        levels = dict(given)
        for i in instructions:
            level = max((levels[s] for s in i.symbols), default=FIXED)
            levels.update(dict.fromkeys(i.outputs, level))
        shifted = [(b, a) for b, a in carried if levels[b] == CARRIED and levels[a] < CARRIED]
        if not shifted:
            break
        given.update((before, EARLY) for before, _ in shifted)
    really = [(b, a) for b, a in carried if levels[b] == CARRIED]
    expanded = [expand(s, levels, given) for s in totals]
    for acc, add in accumulators(expanded, levels):
        instructions = [*instructions, add]
        really.append((acc, add.outputs[0]))
        given[acc] = levels[acc] = levels[add.outputs[0]] = CARRIED
    made = Pass(set(given), really, [p for p in carried if p not in really], list(wanted), expanded, levels)
    in_loop = ancestors([after for _, after in really], given)
    outside = [*wanted, *(after for _, after in made.shifted), *operands(expanded)]
    needed = in_loop | ancestors(outside, given)
    for i in instructions:
        if i in needed:
            level = levels[i.outputs[0]]
            parts = made.fixed, made.before, (made.loop if i in in_loop else made.after)
            parts[level].append(i)
    in_the_loop = {s for i in made.loop for s in i.outputs}
    used = [s for i in made.after for s in i.symbols] + outside
    made.stored = {base(s) for s in used if s in in_the_loop}
    everything = [*made.fixed, *made.before, *made.loop, *made.after]
    read = {s for i in everything for s in i.symbols} | {s for pair in carried for s in pair} | set(outside)
    made.given &= read
    return made


def ancestors(symbols: Iterable[Symbol], given: Collection[Symbol]) -> set[Instruction]:
    """The instructions that these symbols depend on, down to what is given."""
    found: set[Instruction] = set()
    stack = list(symbols)
    while stack:
        s = stack.pop()
        if s not in given and s.instruction is not None and s.instruction not in found:
            found.add(s.instruction)
            stack.extend(s.instruction.symbols)
    return found


def base(s: Symbol) -> Symbol:
    """The symbol whose memory this one shares: views have none of their own."""
    while s.instruction is not None and s.instruction.name in VIEWS:
        s = s.instruction.inputs[0]
    return s


def only_for_loop(divided: Pass, kept: Collection[Symbol]) -> list[Instruction]:
    """Of the instructions before the loop, those that can be done block by block, as only the loop needs them."""
    outside = {base(s) for s in kept} | {base(s) for s in operands(divided.totals)} | {base(s) for s in divided.wanted}
    outside |= (
        {base(s) for s in divided.looked_at}
        | {base(after) for _, after in divided.shifted}
        | {base(s) for i in divided.after for s in i.symbols}
    )
    chosen: list[Instruction] = []
    for i in reversed(divided.before):
        simple = i.name in ELEMENTWISE or i.name in VIEWS
        if simple and not any(s in outside or base(s) in outside for s in i.outputs):
            chosen.append(i)
        else:
            outside.update(base(s) for s in i.symbols)
            outside.update(i.symbols)
    return chosen[::-1]
