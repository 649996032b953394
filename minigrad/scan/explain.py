"""A program as a person would write it: before the loop, in it and after it, with shapes, places and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .divide import base
from .place import CALLER, KEPT, Home
from .program import Part, Program
from .symbols import FIXED, VIEWS, Instruction, Symbol
from .totals import Total

SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "pow": "**", "matmul": "@", "equal": "==",
    "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "logical_and": "&",
    "logical_or": "|",
}  # fmt: skip


def explain(program: Program, weights: Sequence[Any], steps: int, names: Mapping[int, str]) -> str:
    """The program over so many steps. weights: the tensors that the step closes over; names: some, by identity."""
    r = program.recording
    words: dict[Symbol, str] = {}
    for role, symbols in (("x", r.xs), ("state", r.state), ("context", r.context)):
        for k, s in enumerate(symbols):
            words[s] = role if len(symbols) == 1 else f"{role}{k}"
    for k, (s, t) in enumerate(zip((s for _, s in r.weights), weights)):
        words[s] = names.get(id(t), f"weight{k}")
    for k, s in enumerate(r.outs):
        words.setdefault(s, "out" if len(r.outs) == 1 else f"out{k}")
    parts = [_Page("forward", program.forward, words, program.reverse).text(steps)]
    if program.backward is not None:
        for role, cotangents in (("d_out", r.out_cotangents), ("d_state", r.state_cotangents)):
            for k, g in enumerate(cotangents):
                if g is not None:
                    words[g] = role if len(cotangents) == 1 else f"{role}{k}"
        parts.append(_Page("backward", program.backward, words, not program.reverse).text(steps))
    return "\n".join(parts)


class _Page:
    """One pass, as text."""

    def __init__(self, title: str, part: Part, words: dict[Symbol, str], from_last: bool):
        self.title, self.part, self.words, self.from_last = title, part, words, from_last
        self.place = part.code.placement

    def text(self, steps: int) -> str:
        lengths, d = self.part.lengths(steps), self.part.divided
        kept, lent = (plan.offsets(lengths)[-1] for plan in (self.place.kept, self.place.temporary))
        block = f" in blocks of {lengths['block']}" if self.part.code.block_bytes and lengths["block"] < steps else ""
        order = "last to first" if self.from_last else "first to last"
        lines = [f"{self.title}: {_bytes(kept)} kept for the backward pass, {_bytes(lent)} of buffers"]
        before: list[Any] = [*d.fixed, *self.place.before]
        lines += ["  before the loop, for all steps at once:", *self._lines(before, lengths)]
        if self.place.tile:
            lines += [f"  for the steps of the loop{block}:", *self._lines(self.place.tile, lengths)]
        lines += [f"  loop, {steps} times, {order}:", *self._lines(d.loop, lengths)]
        carried = [(old, new) for old, new in d.carried if d.loop or old is not new]
        lines += [f"    {self.word(new)} is the next {self.word(old)}" for old, new in carried]
        after = self._lines(d.after, lengths) if d.after or not d.totals else []
        lines += ["  after the loop, for all steps at once:", *after, *self._totals()]
        return "\n".join(lines)

    def _lines(self, instructions: Sequence[Any], lengths: dict[str, int]) -> list[str]:
        rows = [self._row(i, lengths) for i in instructions]
        if not rows:
            return ["    nothing"]
        width = [min(max(len(row[k]) for row in rows), most) for k, most in ((0, 60), (1, 24))]
        return [f"    {a:{width[0]}}  {b:{width[1]}}  {c}".rstrip() for a, b, c in rows]

    def _row(self, i: Any, lengths: dict[str, int]) -> tuple[str, str, str]:
        if not isinstance(i, Instruction):
            old, new = i
            return f"{self.word(old)} = {self.word(new)} of the step before", "", ""
        s = i.outputs[0]
        made = ", ".join(self.word(out) for out in i.outputs)
        shape = f"{s.dtype}{list(s.shape)}"
        return f"{made} = {self.formula(i)}", shape, self._where(s, i, lengths)

    def _where(self, s: Symbol, i: Instruction, lengths: dict[str, int]) -> str:
        home: Home | None = self.place.homes.get(s)
        if i.name in VIEWS:
            return f"a view of {self.word(base(s))}"
        if self.part.divided.levels[s] == FIXED:
            return "once"
        if home is None:
            return "a new array"
        if home.inside is not None:
            return f"written into {self.word(home.inside[0])}"
        if home.span == "one":
            return "a buffer"
        size = s.size * s.dtype.itemsize * lengths["block" if home.span == "block" else "T"]
        owner = {CALLER: "given to the caller", KEPT: "kept"}.get(home.owner, "")
        return ", ".join(filter(None, ["a slot per step", _bytes(size), owner]))

    def _totals(self) -> list[str]:
        return [f"    gradient = {self._total(t)}" for t in self.part.divided.totals]

    def _total(self, t: Any) -> str:
        if not isinstance(t, Total):
            return self.word(t)
        if t.kind == "product":
            a, b = t.operands
            turned = a.instruction is not None and a.instruction.name == "matrix_transpose"
            left = f"{self.word(a.instruction.inputs[0])}^T" if turned and a.instruction else self.word(a)
            return f"sum over t of {left} @ {self.word(b)}, as one product"
        if t.kind == "linear" and t.instruction is not None:
            inner = ", ".join(self._total(part) for part in t.parts)
            return f"{t.instruction.name}({inner})"
        if t.kind == "final":
            return f"the last {self.word(t.symbol)}"
        return f"sum over t of {', '.join(self.word(s) for s in t.operands)}"

    def formula(self, i: Instruction) -> str:
        """The right side of an instruction."""
        texts = [self.word(x) for x in i.inputs]
        if i.name in SIGNS:
            return f"{texts[0]} {SIGNS[i.name]} {texts[1]}"
        if i.name == "negative":
            return f"-{texts[0]}"
        if i.name == "matrix_transpose":
            return f"{texts[0]}^T"
        static = [f"{k}={v}" for k, v in i.static.items() if v is not None and v is not False]
        return f"{i.name}({', '.join([*texts, *static])})"

    def word(self, value: Any) -> str:
        """The name of a value."""
        if isinstance(value, Symbol):
            return self.words.get(value) or f"{value.role if value.instruction is None else 'v'}{value.number}"
        return repr(value)


def _bytes(n: float) -> str:
    units = iter(("bytes", "KB", "MB", "GB"))
    unit = next(units)
    while n >= 1000 and unit != "GB":
        n, unit = n / 1000, next(units)
    return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
