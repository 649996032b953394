"""Who tests the tests: every rule of every primitive is mutated in general ways, and the ops' own checks must notice.

The checks are those of tests/ops: the rows of its tables at their fixed points, against the oracles. A row belongs to
every primitive that it runs. A mutant that no check could notice, because it is the same function, is listed with why.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from minigrad import backends
from minigrad.graph import Sum, Watcher, watcher
from minigrad.ops import creation, elementwise, indexing, linalg, logic, reduction, shape
from minigrad.ops.primitive import Definition
from tests.ops import test_elementwise, test_indexing, test_linalg, test_reduction, test_shape
from tests.ops.harness import Row, check_gradient, on
from tests.strategies import as_tensor

Rule = Callable[..., Any]

MODULES = (elementwise, logic, reduction, shape, indexing, linalg, creation)
ROWS = [
    row for module in (test_elementwise, test_indexing, test_linalg, test_reduction, test_shape) for row in module.ROWS
]
PRIMITIVES: dict[str, Definition] = {
    f.definition.name: f.definition for module in MODULES for f in vars(module).values() if hasattr(f, "definition")
}
RULES = [(name, i) for name, d in PRIMITIVES.items() for i, rule in enumerate(d.rules) if rule is not None]

NO_COPIES = "the answer already has the shape of x, which is never broadcast"
EQUIVALENT = {
    "clip, rule 0: x and y swapped": "x == y says the same as y == x",
    "pow, rule 1: x2 replaced by ones": "x2 tells 0**0 from 0**-1, whose slope is infinite: -inf becomes NaN",
    "index_add, rule 0: copies not summed": NO_COPIES,
    "index_update, rule 0: copies not summed": NO_COPIES,
    "take, rule 0: copies not summed": NO_COPIES,
    "take_along_axis, rule 0: copies not summed": NO_COPIES,
}


# The mutations


def changed(answer: Any, change: Callable[[Any], Any]) -> Any:
    """A rule's answer with each of its arrays changed."""
    if isinstance(answer, Sum):
        return Sum(answer.combine, [(change(g), *rest) for g, *rest in answer.pieces], answer.shape)
    return [change(part) for part in answer] if isinstance(answer, (list, tuple)) else change(answer)


def ones_like(value: Any) -> Any:
    if not backends.is_array(value):
        return 1.0
    return backends.namespace_of(value).ones(value.shape, dtype=value.dtype)


def first_copy(g: Any, shape: tuple[int, ...]) -> Any:
    """A cotangent in the shape of an input that was broadcast: one copy's, where the sum over all is due."""
    lead = len(g.shape) - len(shape)
    return g[(0,) * lead + tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


def mutants(definition: Definition, i: int) -> Iterator[tuple[str, Rule]]:
    """The mutants of rule i, each with a name. A mutant reads what the rule reads, and perhaps a shape more."""
    rule = definition.rules[i]
    assert rule is not None
    reads = list(inspect.signature(rule).parameters)
    operands = [name for name in reads if name in (*definition.inputs, "y")]

    def mutant(answer: Callable[[dict[str, Any]], Any], more: str | None = None) -> Rule:
        def mutated(*values: Any) -> Any:
            return answer(dict(zip(names, values)))

        names = reads + [name for name in [more] if name and name not in reads]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        mutated.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        return mutated

    def original(values: dict[str, Any]) -> Any:
        return rule(*(values[name] for name in reads))

    yield "unchanged", mutant(original)
    yield "sign flipped", mutant(lambda values: changed(original(values), lambda g: -g))
    yield "doubled", mutant(lambda values: changed(original(values), lambda g: g * 2))
    yield "zero", mutant(lambda values: changed(original(values), lambda g: g * 0))
    for k, a in enumerate(operands):
        yield f"{a} replaced by ones", mutant(lambda values, a=a: original({**values, a: ones_like(values[a])}))
        for b in operands[k + 1 :]:
            yield (
                f"{a} and {b} swapped",
                mutant(lambda values, a=a, b=b: original({**values, a: values[b], b: values[a]})),
            )
    if definition.variadic:
        yield "answers reversed", mutant(lambda values: list(original(values))[::-1])
    elif len(definition.inputs) > 1 or definition.name == "broadcast_to":
        name = f"{definition.inputs[i]}_shape"
        yield "copies not summed", mutant(lambda values: first_copy(original(values), values[name]), name)


@contextmanager
def mutated(definition: Definition, i: int, rule: Rule) -> Iterator[None]:
    """The primitive with another rule i, for a while."""
    rules = definition.rules
    definition.rules = (*rules[:i], rule, *rules[i + 1 :])
    definition.plans.clear()
    try:
        yield
    finally:
        definition.rules = rules
        definition.plans.clear()


# The checks


class Names(Watcher):
    """Notes the primitives that run."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def made(self, name: str, node: Any, inputs: Any, output: Any) -> None:
        self.names.add(name)


@cache
def rows_of() -> dict[str, list[Row]]:
    """For each primitive the rows of the tables that run it; those that run the fewest others first."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for row in ROWS:
        if row.oracle is None:
            continue
        names = Names()
        token = watcher.set(names)
        try:
            for arrays, static in row.at_points():
                row.f(*(as_tensor(a, "numpy", requires_grad=True) for a in arrays), **on("numpy", static))
        finally:
            watcher.reset(token)
        for name in names.names:
            found.setdefault(name, []).append((len(names.names), row))
    return {name: [row for _, row in sorted(rows, key=lambda pair: pair[0])] for name, rows in found.items()}


def verdict(name: str) -> str | None:
    """What the checks of this primitive find wrong; None if nothing."""
    for row in rows_of()[name]:
        for arrays, static in [*row.at_points(), *row.extremes]:
            try:
                check_gradient(row, arrays, static, "numpy")
            except Exception as error:  # a mutant may also answer in a shape or of a kind that nothing takes
                return f"{row.name}: {type(error).__name__}: {error}"
    return None


def test_every_primitive_with_a_rule_is_run_by_some_row():
    assert {name for name, _ in RULES} <= set(rows_of())


@pytest.mark.parametrize("name, i", RULES, ids=[f"{name}-{i}" for name, i in RULES])
def test_every_mutant_of_every_rule_is_caught_by_the_tests(name: str, i: int) -> None:
    definition = PRIMITIVES[name]
    survivors = set()
    for mutation, rule in mutants(definition, i):
        with mutated(definition, i, rule), np.errstate(all="ignore"):
            caught = verdict(name)
        if mutation == "unchanged":
            assert caught is None
        elif caught is None:
            survivors.add(f"{name}, rule {i}: {mutation}")
    assert survivors == {mutant for mutant in EQUIVALENT if mutant.startswith(f"{name}, rule {i}: ")}
    assert verdict(name) is None
