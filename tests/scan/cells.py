"""Random step functions. What hypothesis draws is a few lines of Python, which are run as they are printed.

While a program grows each line is run on example values, so that the next can be chosen by the shapes there are. A
shape is then a number in the program (3, not `x.shape[-1]`), as it often is in a user's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minigrad as mg

from .forms import FORMS, LARGE, NAMES, Given, Writer, next_state, unary

LONGEST = 6  # steps
LOSSES = ["weighted", "weighted", "none", "sum", "last"]

# How so many leaves may be nested: what makes the tree, and where each leaf is in it.
TREES: dict[int, list[tuple[str, list[str]]]] = {
    1: [("{}", [""]), ("({},)", ["[0]"]), ('{{"a": {}}}', ['["a"]']), ("[None, {}]", ["[1]"])],
    2: [
        ("({}, {})", ["[0]", "[1]"]),
        ("Pair({}, {})", [".first", ".second"]),
        ('{{"b": {}, "a": {}}}', ['["b"]', '["a"]']),
        ("[{}, ({},)]", ["[0]", "[1][0]"]),
    ],
    3: [
        ("({}, {}, {})", ["[0]", "[1]", "[2]"]),
        ("(({}, {}), {})", ["[0][0]", "[0][1]", "[1]"]),
        ('{{"a": Pair({}, {}), "b": [{}]}}', ['["a"].first', '["a"].second', '["b"][0]']),
    ],
}


@dataclass(frozen=True)
class Program:
    """A step function as text, and what it is given."""

    dtype: str
    xs: tuple[Given, ...]
    state: tuple[Given, ...]
    context: tuple[Given, ...]
    weights: tuple[Given, ...]
    xs_tree: str
    state_tree: str
    context_tree: str
    outs: int
    source: str

    def step(self, weights: dict[str, mg.Tensor]) -> Callable[..., Any]:
        """The step function, closed over these weights."""
        names = [w.name for w in self.weights]
        body = "".join(f"    {line}\n" for line in self.source.splitlines())
        scope: dict[str, Any] = dict(NAMES)
        exec(compile(f"def make({', '.join(names)}):\n{body}    return step\n", "<random step>", "exec"), scope)
        return scope["make"](*(weights[name] for name in names))

    def nested(self, which: str, leaves: dict[str, Any]) -> Any:
        """The leaves of "xs", "state" or "context" in their structure."""
        return eval(getattr(self, f"{which}_tree"), {"Pair": NAMES["Pair"]}, dict(leaves))

    @property
    def given(self) -> tuple[Given, ...]:
        """Everything but the inputs, whose shape has no time."""
        return (*self.state, *self.context, *self.weights)


KINDS = {
    "rows": lambda w, batch, size: ("float", (batch, size)),
    "tokens": lambda w, batch, size: ("integer", (batch,)),
    "mask": lambda w, batch, size: ("mask", (batch,)),
    "vector": lambda w, batch, size: ("float", (size,)),
    "number": lambda w, batch, size: ("float", ()),
    "count": lambda w, batch, size: ("integer", ()),
    "matrices": lambda w, batch, size: ("float", (batch, 2, size)),
}


def some(w: Writer, prefix: str, least: int, most: int) -> tuple[Given, ...]:
    """Inputs or states, the first of them floats and most often rows."""
    found: list[Given] = []
    for i in range(w.draw(st.integers(least, most))):
        kinds = ("rows", "rows", "rows", "vector", "number", "matrices") if i == 0 else ("same", "rows", *KINDS)
        kind = w.one(*kinds)
        if kind == "same":
            kind, shape = found[0].kind, found[0].shape
        else:
            kind, shape = KINDS[kind](w, w.batch, w.size())
        found.append(Given(f"{prefix}{i}", shape, kind))
        w.give(found[-1])
    return tuple(found)


def tree_of(w: Writer, names: list[str]) -> tuple[str, list[str]]:
    """An expression that nests these, and where each is."""
    template, places = w.draw(st.sampled_from(TREES[len(names)]))
    return template.format(*names), places


@st.composite
def programs(draw: Any, dtypes: Any = ("float64", "float32")) -> Program:
    """A step function of up to nine lines."""
    w = Writer(draw, draw(st.sampled_from(dtypes)), draw(st.integers(1, 3)))
    xs, state = some(w, "x", 1, 3), some(w, "h", 1, 3)
    for _ in range(draw(st.integers(0, 9))):
        if not draw(st.sampled_from(FORMS))(w):
            unary(w)
    news = [next_state(w, own) for own in state]
    shapes = {own.name: own.shape for own in state}
    for i, (expression, _) in enumerate(news):
        w.values[f"s{i}"] = w.evaluate(expression)
        w.unused.append(f"s{i}")
        assert w.shape(f"s{i}") == shapes[f"h{i}"], expression
    outs = []
    for _ in range(draw(st.integers(1, 3))):
        kind = w.one("float", "float", "float", "float", "float", "integer", "mask")
        outs.append(w.use(str(w.pick(kind=kind) or w.pick())))

    xs_tree, x_places = tree_of(w, [x.name for x in xs])
    state_tree, h_places = tree_of(w, [h.name for h in state])
    new_tree = state_tree
    for i in range(len(state)):
        new_tree = new_tree.replace(f"h{i}", f"s{i}")
    out_tree, _ = tree_of(w, outs)
    context = [c.name for c in w.context]
    flat = draw(st.booleans()) or not 1 <= len(context) <= 3
    context_tree, c_places = f"({''.join(c + ', ' for c in context)})" if flat else "", []
    if not flat:
        nested, c_places = tree_of(w, context)
        context_tree = f"({nested},)"

    def source(which: int) -> str:
        head = [f"{x.name} = x{place}" for x, place in zip(xs, x_places)]
        head += [f"{h.name} = state{place}" for h, place in zip(state, h_places)]
        head += [f"{c} = context{place}" for c, place in zip(context, c_places)]
        lines = head + w.lines + [f"s{i} = {new[which]}" for i, new in enumerate(news)]
        arguments = ["x", "state", *(context if flat else ["context"])]
        body = [*lines, f"return {out_tree}, {new_tree}"]
        return "\n".join([f"def step({', '.join(arguments)}):", *(f"    {line}" for line in body)])

    given = (xs, state, tuple(w.context), tuple(w.weights), xs_tree, state_tree, context_tree, len(outs))
    program = Program(w.dtype, *given, source(0))
    return program if tame(program) else Program(w.dtype, *given, source(1))


def tame(program: Program) -> bool:
    """Whether nothing has grown large after as many steps as there will be."""
    rng = np.random.default_rng(1)
    values = {g.name: mg.tensor(g.array(rng, "float64")) for g in program.given}
    step = program.step(values)
    state, context = program.nested("state", values), program.nested("context", values)
    with mg.no_grad(), np.errstate(all="ignore"):
        for _ in range(LONGEST):
            xs = {g.name: mg.tensor(g.array(rng, "float64")) for g in program.xs}
            out, state = step(program.nested("xs", xs), state, *context)
            for y in mg.tree.leaves((out, state)):
                data = np.asarray(y.data)
                if data.dtype.kind == "f" and not (np.abs(data).max(initial=0.0) < 5 * LARGE):
                    return False
    return True


# A program, and how it is run


@dataclass(frozen=True, repr=False)
class Case:
    """A program with data, what needs a gradient, and what the loss is made of."""

    program: Program
    steps: int
    reverse: bool
    remat: Any
    seed: int
    needs: frozenset[str]
    computed: bool
    layout: str
    losses: tuple[str, ...]

    def __repr__(self) -> str:
        p = self.program
        shapes = ", ".join(f"{g.name}: {g.kind}{list(g.shape)}" for g in (*p.xs, *p.given))
        return (
            f"\n{p.source}\n"
            f"# {shapes}; xs = {p.xs_tree}, init = {p.state_tree}, context = {p.context_tree}\n"
            f"# {p.dtype}, T = {self.steps}, reverse={self.reverse}, remat={self.remat!r}, seed {self.seed}\n"
            f"# need a gradient: {', '.join(sorted(self.needs)) or 'none'}; inputs are "
            f"{'computed from leaves' if self.computed else 'leaves'}, {self.layout}; loss: {', '.join(self.losses)}\n"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # as hypothesis prints it
        printer.text(repr(self))


@st.composite
def cases(draw: Any, steps: Any = None, dtypes: Any = ("float64", "float32")) -> Case:
    """Random programs with all that belongs to running them."""
    p = draw(programs(dtypes))
    floats = [g.name for g in (*p.xs, *p.given) if g.kind == "float"]
    leaves = p.outs + len(p.state)
    return Case(
        p,
        draw(st.integers(1, LONGEST) if steps is None else steps),
        draw(st.booleans()),
        draw(st.sampled_from(["sqrt", 1, 2, 3])),
        draw(st.integers(0, 2**16)),
        frozenset(name for name in floats if not draw(st.sampled_from([False, False, True]))),
        draw(st.sampled_from([False, False, True])),
        draw(st.sampled_from(["plain", "plain", "transposed", "strided", "reversed", "repeated"])),
        tuple(draw(st.lists(st.sampled_from(LOSSES), min_size=leaves, max_size=leaves))),
    )
