"""Sums over time, which the gradients of weights are: pushed through everything linear, until most are one product."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .numpy_code import Lines, function_of
from .symbols import CARRIED, FIXED, VIEWS, Instruction, Symbol


@dataclass(eq=False)
class Total:
    """A sum over time of the values of a symbol.

    kind: "product", of a_t @ b_t, as one product; "multiply", of a_t * b_t where these are broadcast; "scatter", of
    values at indices; "sum", of a value, over the axes of `instruction` as well if there is one; "times", of what is
    the same at every step; "linear", an instruction that is applied to the totals in `parts`; "final", what the loop
    has added up.
    """

    kind: str
    symbol: Symbol
    operands: list[Symbol] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)  # Totals, and FIXED symbols and numbers
    instruction: Instruction | None = None


def operands(totals: Iterable[Any]) -> list[Symbol]:
    """The symbols that totals are made of."""
    found: list[Symbol] = []
    stack = list(totals)
    while stack:
        t = stack.pop()
        if isinstance(t, Total):
            found.extend(t.operands)
            stack.extend(t.parts)
        elif isinstance(t, Symbol):
            found.append(t)
    return found


def expand(s: Symbol, levels: dict[Symbol, int], given: Collection[Symbol]) -> Total:
    """The sum over time of a symbol's values."""
    if levels[s] == FIXED:
        return Total("times", s, [s])
    i = s.instruction
    if i is None or s in given:
        return Total("sum", s, [s])
    steady = [not isinstance(x, Symbol) or levels[x] == FIXED for x in i.inputs]
    fits = all(still or x.shape == s.shape for x, still in zip(i.inputs, steady))  # nothing is broadcast
    if i.name == "matmul" and not any(steady) and len({x.shape[:-2] for x in i.inputs}) == 1:
        return Total("product", s, [*i.inputs])
    if i.name == "multiply" and not any(steady) and s.ndim > 2 and all(x.size < s.size for x in i.inputs):
        return Total("multiply", s, [*i.inputs])
    linear = {
        "matmul": any(steady) and s.ndim == 2,
        "add": not any(steady) and fits,
        "subtract": not any(steady) and fits,
        "negative": True,
        "multiply": any(steady) and fits,
        "divide": steady[-1] and fits,
        # a weight of which only a part is used
        "where": steady[0]
        and fits
        and not any(isinstance(x, Symbol) or x != 0 for x, still in zip(i.inputs[1:], steady[1:]) if still),
        **dict.fromkeys(("reshape", "matrix_transpose", "permute_dims", "expand_dims"), True),
        **dict.fromkeys(("concat", "stack"), not any(steady)),
    }
    if linear.get(i.name):
        parts = [x if still else expand(x, levels, given) for x, still in zip(i.inputs, steady)]
        return Total("linear", s, [], parts, i)
    if i.name == "sum":
        return Total("sum", s, [i.inputs[0]], [], i)
    if i.name == "scatter" and len(i.static["key"]) == 1 and len(i.inputs) == 2 and not any(steady):
        values, rows = i.inputs
        if values.shape[: rows.ndim] == rows.shape:
            return Total("scatter", s, [values, rows], [], i)
    return Total("sum", s, [s])


LARGE = 8192  # elements that should not be kept for every step only to be added up


def accumulators(totals: Iterable[Any], levels: Mapping[Symbol, int]) -> Iterator[tuple[Symbol, Instruction]]:
    """Sums of large values of the loop that no product gives are added up in the loop, as one more state.

    Yields that state, which begins with zeros, and the instruction that makes the next. The totals become "final".
    """
    stack = list(totals)
    while stack:
        t = stack.pop()
        if not isinstance(t, Total):
            continue
        stack.extend(t.parts)
        s = t.symbol
        if t.kind == "sum" and t.instruction is None and levels[s] == CARRIED and s.size >= LARGE:
            acc = s.recorder.symbol(s.shape, s.dtype, CARRIED, "sum")
            add = Instruction("add", (acc, s), {})
            add.outputs = [s.recorder.symbol(s.shape, s.dtype, CARRIED, "add", add)]
            t.kind, t.symbol, t.operands = "final", acc, []
            yield acc, add


class Sums:
    """Writes the lines of totals. names: of the values at all steps. Every result is an array of its own."""

    def __init__(self, lines: Lines, names: Mapping[Symbol, str], finals: Mapping[Symbol, str], body: list[str]):
        self.lines, self.names, self.finals, self.body = lines, names, finals, body
        self._done: dict[Total, str] = {}

    def write(self, t: Any, into: str | None = None) -> str:
        """The name of the result; `into`: an array to write a product into."""
        if not isinstance(t, Total):
            return self.names[t] if isinstance(t, Symbol) else repr(t)
        if t not in self._done or into:
            name = f"G{t.symbol.number}_{len(self._done)}"
            if into:
                self.body.append(f"{self._product(t)[:-1]}, {into})")
                return into
            text = getattr(self, f"_{t.kind}")(t)
            self.body.append(f"{name} = {text}")
            self._done[t] = name
        return self._done[t]

    def _operands(self, t: Total) -> list[str]:
        return [self.names[x] for x in t.operands]

    def _product(self, t: Total) -> str:
        a, b = self._operands(t)
        return f"product_over_rows({a}.mT, {b})" if t.symbol.ndim == 2 else f"product_over_time({a}, {b})"

    def _multiply(self, t: Total) -> str:
        a, b = (
            text + "[:" + ", None" * (t.symbol.ndim - x.ndim) + "]" if x.ndim < t.symbol.ndim else text
            for x, text in zip(t.operands, self._operands(t))
        )
        return f"sum_of_products({a}, {b})"

    def _final(self, t: Total) -> str:
        return self.finals[t.symbol]

    def _times(self, t: Total) -> str:
        return f"asarray({self.names[t.symbol]} * {self.lines.constant(t.symbol.dtype.type)}(T))"

    def _sum(self, t: Total) -> str:
        (x,), (name,), i = t.operands, self._operands(t), t.instruction
        axes = (0,) if i is None else self.lines.axes_of_sum(i)
        if axes == (0, 1) and x.ndim == 2 and x.dtype.kind == "f":
            text = f"sum_over_rows({name})"
        else:
            text = f"sum_reduce({name}, {axes}, None, None, False)"
        return f"{text}.reshape({self.lines.constant(t.symbol.shape)})"

    def _scatter(self, t: Total) -> str:
        values, rows = self._operands(t)
        return f"scatter({values}, ({rows},), {self.lines.constant(t.symbol.shape)})"

    def _linear(self, t: Total) -> str:
        i = t.instruction
        assert i is not None
        if i.name == "concat":
            return self._concat(t, i)
        args = [self.write(part) for part in t.parts]
        if i.name in VIEWS:
            return self.lines.views(i, args[0], None)[0]
        symbols = ", ".join(arg for x, arg in zip(i.inputs, args) if isinstance(x, Symbol))
        return f"{self.lines.constant(function_of(i))}({symbols})"

    def _concat(self, t: Total, i: Instruction) -> str:
        """Parts that are products are written where they belong."""
        s = t.symbol
        name, axis, start = f"P{s.number}", i.static["axis"] % s.ndim, 0
        self.body.append(f"{name} = empty({self.lines.constant(s.shape)}, {self.lines.constant(s.dtype)})")
        for part in t.parts:
            place = f"{name}[{':, ' * axis}{start}:{start + part.symbol.shape[axis]}]"
            if part.kind == "product" and part.symbol.ndim == 2:
                self.write(part, place)
            else:
                self.body.append(f"{place} = {self.write(part)}")
            start += part.symbol.shape[axis]
        return name
