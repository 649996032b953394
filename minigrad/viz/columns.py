"""In which column of the picture each vertex stands: the step of a recurrence, seen or told.

A loop of the library tells in which step it did what. Elsewhere recurrence is seen by its weights: what uses a weight,
computed from what has used the same weight in the same way, is one step later. What no recurrence leads to, such as
W x_t, stands where it is used. What joins several steps stands behind them, and what serves several before them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .unrolled import Vertex, read

PRODUCTS = ("@", "linear")  # of a constant and a weight: those have to do with an input


@dataclass(frozen=True)
class Columns:
    """The column of every vertex, None for a leaf or constant that several columns share.

    steps: for each column the numbers of its steps: several where loops count apart, none for what belongs to all.
    """

    of: dict[Vertex, int | None]
    steps: dict[int, list[int]]


def unrolled(loss: Any, names: Any, gradients: bool) -> tuple[list[Vertex], Columns]:
    """The vertices of a graph, parents first, and their columns. Without a recurrence a view is worth a box."""
    vertices_of = read(loss, names, gradients)
    vertices = vertices_of(True)
    columns = find(vertices)
    if len(columns.steps) == 1:
        vertices = vertices_of(False)
        columns = find(vertices)
    return vertices, columns


def find(vertices: Sequence[Vertex]) -> Columns:
    """The columns of vertices, each of which comes after its parents."""
    column = _told(vertices)
    uses = _uses(vertices)
    recurrent = _recurrent(vertices, uses)
    feeding = _feeding(vertices, uses, recurrent)
    led: set[Vertex] = set()  # to by a recurrence
    joins: set[Vertex] = set()
    last: dict[Vertex, dict[Any, int]] = {}  # by each vertex or what is below it: the last column of each recurrent use
    for v in vertices:
        own = recurrent.intersection(uses[v])
        before: dict[Any, int] = {}
        for parent in v.parents:
            for use, k in last[parent].items():
                before[use] = max(k, before.get(use, k))
        if v.told or own or not led.isdisjoint(v.parents):
            led.add(v)
        if not v.told:
            again = [before[use] + 1 for use in own if use in before]
            parents = {p: column[p] or 0 for p in v.parents}
            steps = [k for p, k in parents.items() if p in led and p not in joins]
            behind: list[int] = []
            if v not in feeding and not again:
                apart = 0 if v.label.endswith("stack") else 1
                if steps and max(steps) - min(steps) > apart:
                    behind = [max(steps) + 1]
                if behind or not joins.isdisjoint(v.parents):
                    joins.add(v)
            column[v] = max([0, *parents.values(), *again, *behind])
        last[v] = before | dict.fromkeys(own, column[v] or 0)
    _where_needed(vertices, column, led)
    return Columns(column, _counted(vertices, column, led - joins))


def _uses(vertices: Sequence[Vertex]) -> dict[Vertex, list[tuple[Vertex, str]]]:
    """How each vertex uses weights: those among its parents, and those that others are computed from alone."""
    readers = Counter(p for v in vertices for p in v.parents)
    uses: dict[Vertex, list[tuple[Vertex, str]]] = {}
    still: set[Vertex] = set()  # computed from weights, and from constants such as masks that are read more than once
    for v in vertices:
        uses[v] = [*v.uses, *((w, f"{how} {v.label}") for p in v.parents if p in still for w, how in uses[p])]
        masks = [p for p in v.parents if p.kind == "constant"]
        weights = all(p.kind == "leaf" or p in still or (p in masks and readers[p] > 1) for p in v.parents)
        if v.kind == "operation" and not v.told and weights and not (masks and v.label.endswith(PRODUCTS)):
            still.add(v)
    return uses


def _recurrent(vertices: Sequence[Vertex], uses: Mapping[Vertex, Sequence[Any]]) -> set[Any]:
    """The uses of weights on what the same weight has been used for in the same way."""
    found: set[Any] = set()
    below: dict[Vertex, set[Any]] = {}
    for v in vertices:
        below[v] = set().union(*(below[parent] for parent in v.parents))
        found |= below[v].intersection(uses[v])
        below[v].update(uses[v])
    return found


def _feeding(vertices: Sequence[Vertex], uses: Mapping[Vertex, Sequence[Any]], recurrent: set[Any]) -> set[Vertex]:
    """What leads to a recurrent use that no loop has told: it belongs to a step, however many it joins."""
    found: set[Vertex] = set()
    for v in reversed(vertices):
        if v in found or (not v.told and not recurrent.isdisjoint(uses[v])):
            found.update(v.parents)
    return found


def _told(vertices: Sequence[Vertex]) -> dict[Vertex, int | None]:
    """The columns of what loops have told. A loop that needs a later step of another one begins behind that one."""
    lengths: dict[int, int] = {}
    behind: dict[int, set[int]] = {}
    reached: dict[Vertex, dict[int, int]] = {}  # the last step of each loop that leads here, through no other loop
    for v in vertices:
        before: dict[int, int] = {}
        for parent in v.parents:
            for loop, t in reached[parent].items():
                before[loop] = max(t, before.get(loop, t))
        if v.told:
            own, now = v.told
            lengths[own] = max(now + 1, lengths.get(own, 0))
            behind.setdefault(own, set()).update(loop for loop, t in before.items() if loop != own and t > now)
            before = {own: now}
        reached[v] = before
    begins: dict[int, int] = {}

    def begin(loop: int) -> int:
        if loop not in begins:
            begins[loop] = max((begin(other) + lengths[other] + 1 for other in behind[loop]), default=0)
        return begins[loop]

    return {v: begin(v.told[0]) + v.told[1] if v.told else None for v in vertices}


def _where_needed(vertices: Sequence[Vertex], column: dict[Vertex, int | None], led: set[Vertex]) -> None:
    """Move what no recurrence leads to, to the column that it is used in; before the first of many."""
    needed: dict[Vertex, set[int]] = {v: set() for v in vertices}
    shown: dict[Vertex, list[int]] = {}
    for v in reversed(vertices):
        columns = needed[v]
        if v.kind != "operation":
            column[v] = min(columns) if len(columns) == 1 else None if columns else 0
        elif v not in led and columns:
            column[v] = min(columns) - (len(columns) > 2)  # two may be its own step and the next
        shown[v] = [] if column[v] is None else [column[v]]  # type: ignore[list-item]
        for parent in v.parents:
            needed[parent].update(shown[v])


def _counted(
    vertices: Sequence[Vertex], column: Mapping[Vertex, int | None], stepping: set[Vertex]
) -> dict[int, list[int]]:
    """The numbers of the steps in each column; in loops that tell nothing, counted from the last column without any."""
    told: dict[int, set[int]] = {}
    for v in vertices:
        if column[v] is not None:
            told.setdefault(column[v], set())  # type: ignore[arg-type]
            if v.told:
                told[column[v]].add(v.told[1])  # type: ignore[index]
    seen = {column[v] for v in stepping if not v.told}
    steps: dict[int, list[int]] = {}
    count = 0
    for k in sorted(told):
        steps[k] = sorted(told[k]) or ([count] if k in seen else [])
        count = steps[k][-1] + 1 if steps[k] else 0
    return steps
