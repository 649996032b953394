"""A graph read for drawing: what is computed from what, and in which step of which recurrence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from .. import backends, graph, nn
from ..errors import ArgumentError, GraphError
from ..graph import Node, Output, Sum, Watcher
from ..tensor import Tensor, seed_cotangent
from . import given

MOST = 3000  # nodes of a picture that anyone could read

SIGNS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "power": "^", "negative": "−", "matmul": "@",
    "sigmoid": "σ", "sum": "Σ", "index": "[ ]", "logsumexp": "log Σ exp",
}  # fmt: skip
VIEWS = {"matrix_transpose", "permute_dims", "reshape", "expand_dims", "split"}  # of a weight: the weight again


@dataclass(eq=False)
class Vertex:
    """A box of the picture: an "operation", a "leaf" that a gradient is asked for, or a "constant".

    step: the column that it stands in; None for a leaf or constant that several steps share.
    uses: the leaves among the parents, each with how it is used: by which operation, and which view of it.
    """

    kind: str
    label: str
    shape: tuple[int, ...]
    parents: list[Vertex] = field(default_factory=list)
    uses: list[tuple[Vertex, str]] = field(default_factory=list)
    step: int | None = None
    value: Any = None
    gradient: Any = None


@dataclass(frozen=True)
class Unrolled:
    """The vertices, each after its parents. behind: the column behind the last step, of what joins several steps."""

    vertices: list[Vertex]
    behind: int | None


def read(loss: Any, names: Any, gradients: bool) -> Unrolled:
    """The graph of a tensor, or of what a function computes, which is then run step by step."""
    run = _Run()
    root = loss
    if not isinstance(loss, Tensor):
        if not callable(loss):
            raise ArgumentError(
                f"graph: loss must be a tensor or a function that computes one, got a {type(loss).__name__}"
            )
        root = run.of(loss)
        if not isinstance(root, Tensor):
            raise ArgumentError(f"graph: the function must return a tensor, it returned a {type(root).__name__}")
    if root.node is None:
        raise GraphError("graph: this tensor has no graph; was nothing made with requires_grad, or was it detached?")
    run.values[root.node] = root.data
    nodes = _Nodes(run)
    order = nodes.in_order(root.node)
    cotangents = nodes.cotangents(order, seed_cotangent("graph", root, None).data) if gradients else {}
    for folded in (True, False):
        vertices = _vertices(nodes, order, cotangents, _named(names), folded)
        behind = _into_columns(vertices)
        if any(v.step for v in vertices):  # else there is no recurrence, and a view of a weight is worth a box
            break
    return Unrolled(vertices, behind)


def _named(names: Any) -> dict[Any, str]:
    """Names by the node of their tensor, and by the identity of its array."""
    if isinstance(names, nn.Module):
        names = names.named_tensors()
    found: dict[Any, str] = {}
    for name, tensor in (given.mapping("graph", "names", names, "tensors") if names else {}).items():
        if isinstance(tensor, Tensor) and tensor.node is not None:
            found[tensor.node] = name
        found[id(tensor.data if isinstance(tensor, Tensor) else tensor)] = name
    return found


class _Run(Watcher):
    """What a run step by step tells: what each operation was given and made, and in which step of a loop."""

    def __init__(self) -> None:
        self.inputs: dict[Node, Sequence[Any]] = {}
        self.values: dict[Node, Any] = {}
        self.steps: dict[Node, int] = {}
        self.origins: dict[int, tuple[str, int, Any]] = {}  # of constants: operation, number of the output, its input
        self._now: int | None = None
        self._kept: list[Any] = []  # whose identity must not be given again

    def of(self, function: Callable[[], Any]) -> Any:
        """What the function returns, while this looks on."""

        def inside() -> Any:
            graph.watcher.set(self)
            with graph.enable_grad():
                return function()

        return copy_context().run(inside)

    def lift(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.node is not None:
            self.values.setdefault(value.node, value.data)
        return value

    def step(self, t: int | None) -> None:
        self._now = t

    def made(self, name: str, node: Node | None, inputs: Sequence[Any], output: Any) -> None:
        self._kept.append((inputs, output))
        if node is None:
            for i, part in enumerate(output if isinstance(output, list) else [output]):
                self.origins[id(part)] = name, i, inputs[0]
            return
        self.inputs[node], self.values[node] = inputs, output
        if self._now is not None:
            self.steps[node] = self._now


class _Nodes:
    """The nodes of a graph, with every compiled loop in it replaced by what it does step by step."""

    def __init__(self, run: _Run):
        self.run = run
        self._unrolled: dict[Node, Sequence[Node | None]] = {}

    def parents(self, node: Node) -> list[Node]:
        if node.parents is None:
            raise GraphError(
                f"graph: a backward pass has released the graph of `{node.name}`. Draw it before that pass, call "
                "backward(retain_graph=True), or give graph a function that computes the loss"
            )
        return [self._inside(parent) for parent in node.parents]

    def _inside(self, node: Node) -> Node:
        if not isinstance(node, Output) or not node.parents:
            return node
        (whole,) = node.parents
        if whole not in self._unrolled:
            self._unrolled[whole] = self.run.of(whole.unrolled)
        outputs = self._unrolled[whole]
        inner = outputs[node.index] if outputs else None
        return node if inner is None else self._inside(inner)

    def in_order(self, root: Node) -> list[Node]:
        """All nodes, each after its parents."""
        order: list[Node] = []
        seen = set()
        stack = [(self._inside(root), False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                if len(seen) > MOST:
                    raise ArgumentError(
                        f"graph: there are more than {MOST:,} nodes, which nobody could read; draw fewer steps"
                    )
                stack.append((node, True))
                stack += [(parent, False) for parent in reversed(self.parents(node))]
        return order

    def cotangents(self, order: Sequence[Node], seed: Any) -> dict[Node, Any]:
        """The derivative of the root by every node. Nothing is released, and no leaf touched."""
        found: dict[Node, Any] = {order[-1]: seed}
        for node in reversed(order):
            g = found.get(node)
            if type(g) is Sum:
                g = found[node] = g.total()
            if g is None:
                continue
            parents = self.parents(node)
            if isinstance(node, Output):
                found.setdefault(parents[0], {})[node.index] = g
                continue
            g = dict(g) if isinstance(g, dict) else g  # to which what is missing would be added
            for parent, gp in zip(parents, node.pull(g, False, None) if parents else ()):
                if gp is not None:
                    before = found.get(parent)
                    found[parent] = gp if before is None else gp + before if type(gp) is Sum else before + gp
        return found

    def value(self, node: Node) -> Any:
        """The array of a node, if a run has told."""
        if isinstance(node, Output):
            parts = self.run.values.get(self.parents(node)[0])
            return None if parts is None else parts[node.index]
        return self.run.values.get(node)

    def constants(self, node: Node) -> Iterator[tuple[int, Any]]:
        """What an operation reads beside its parents, arrays and numbers, each with its place among the inputs."""
        if node.name == "power":
            yield from ((1, exponent) for exponent in node.saved if isinstance(exponent, (int, float)))  # type: ignore[attr-defined]
        if node in self.run.inputs:
            flowing = [id(self.value(parent)) for parent in self.parents(node)]
            for place, a in enumerate(self.run.inputs[node]):
                if flowing and id(a) == flowing[0]:
                    del flowing[0]
                elif backends.is_array(a) or isinstance(a, (int, float)):
                    yield place, a
        elif hasattr(node, "plan"):  # not all: what its rules will read
            for place, (kept, parent) in enumerate(node.plan.saved_inputs):
                if parent is None and backends.is_array(node.saved[kept]):  # type: ignore[attr-defined]
                    yield place, node.saved[kept]  # type: ignore[attr-defined]

    def stands_for(self, node: Node, folded: bool) -> tuple[Node, str]:
        """The node whose box shows this one too, and which view of it this is.

        A part of several outputs is shown by the operation that made it; what was stacked and is taken apart again, by
        what it was before; and, if folded, what is only reshaped by what it was, and a view of a leaf by the leaf.
        """
        parents = self.parents(node)
        if isinstance(node, Output):
            whole = parents[0]
            (source,) = self.parents(whole)
            stacked = self.parents(source) if source.name == "stack" else []
            if whole.name == "unstack" and len(stacked) == len(whole.shape):
                return stacked[node.index], ""
            return whole, str(node.index)
        if folded and (node.name == "reshape" or (node.name in VIEWS and _is_view_of_a_leaf(parents[0]))):
            return parents[0], node.name
        return node, ""


def _is_view_of_a_leaf(node: Node) -> bool:
    while node.parents and node.name in VIEWS:
        node = node.parents[0]
    return not node.parents


def _vertices(
    nodes: _Nodes, order: Sequence[Node], cotangents: Mapping[Node, Any], names: Mapping[Any, str], folded: bool
) -> list[Vertex]:
    """A vertex for each node that has a box, and one for each constant that is known."""
    made: dict[Node, tuple[Vertex, str]] = {}
    constants: dict[int, Vertex] = {}
    listed: list[Vertex] = []
    for node in order:
        source, view = nodes.stands_for(node, folded)
        if source is not node:
            vertex, before = made[source]
            made[node] = vertex, f"{before} {view}"
            if node in names and vertex.kind == "operation" and not isinstance(node, Output):
                vertex.label = f"{names[node]} = {vertex.label}"
            continue
        parents = [made[parent] for parent in nodes.parents(node)]
        vertex = Vertex("operation" if parents else "leaf", "", node.shape, step=nodes.run.steps.get(node))
        vertex.parents = [parent for parent, _ in parents]
        vertex.uses = [(p, f"{node.name}{view}") for p, view in parents if p.kind == "leaf"]
        numbers = {}
        for place, a in nodes.constants(node):
            if not backends.is_array(a):
                numbers[place] = a
                continue
            if id(a) not in constants:
                constants[id(a)] = Vertex("constant", _origin(a, names, nodes.run), a.shape, value=a)
                listed.append(constants[id(a)])
            vertex.parents.insert(0, constants[id(a)])
        vertex.label = _sign(node.name, numbers) if parents else ""
        name = names.get(node, names.get(id(nodes.value(node))))
        if name is not None:
            vertex.label = f"{name} = {vertex.label}" if parents else name
        vertex.value, vertex.gradient = nodes.value(node), cotangents.get(node)
        made[node] = vertex, ""
        listed.append(vertex)
    needed = {listed[-1]}
    for vertex in reversed(listed):
        if vertex in needed:
            needed.update(vertex.parents)
    return [vertex for vertex in listed if vertex in needed]


def _sign(operation: str, numbers: Mapping[int, Any]) -> str:
    """An operation as it is written, with the numbers that it was given."""
    sign = SIGNS.get(operation, operation)
    left, right = (f"{numbers[k]:.4g}" if k in numbers else "" for k in (0, 1))
    return f"{left} {sign} {right}".strip()


def _origin(array: Any, names: Mapping[Any, str], run: _Run) -> str:
    """What a constant is called: its own name, or that of what it is taken from, as x[3]; zeros are 0."""
    if id(array) in names:
        return names[id(array)]
    operation, number, source = run.origins.get(id(array), ("", 0, None))
    if operation not in ("reshape", "index", "unstack"):
        return "0" if array.size and not backends.namespace_of(array).to_numpy(array).any() else ""
    name = _origin(source, names, run)
    return f"{name}[{number}]" if name and operation == "unstack" else name


def _into_columns(vertices: Sequence[Vertex]) -> int | None:
    """Give every vertex its step. Returns the column behind the last, if what joins several steps stands there.

    A loop has said in which step it did what. Elsewhere recurrence is seen by its weights: what uses a weight, computed
    from what has used the same weight in the same way, is one step later. What no recurrence leads to, such as W x_t,
    belongs to the step that it is computed for.
    """
    told = {v for v in vertices if v.step is not None}
    recurrent: set[Any] = set()
    used: dict[Vertex, dict[Any, int]] = {}  # by every vertex and what is below it: the last step, for each way of use
    for v in vertices:
        last: dict[Any, int] = {}
        for parent in v.parents:
            for use, step in used[parent].items():
                last[use] = max(step, last.get(use, 0))
        if v not in told:
            again = [use for use in v.uses if use in last]
            recurrent.update(again)
            v.step = max([*(p.step or 0 for p in v.parents), *(last[use] + 1 for use in again)], default=0)
        used[v] = last | dict.fromkeys(v.uses, v.step or 0)
    led: set[Vertex] = set()  # to by a recurrence
    joins: set[Vertex] = set()
    for v in vertices:
        steps = [p.step or 0 for p in v.parents if p in led]
        if v in told or v.step or steps or not recurrent.isdisjoint(v.uses):
            led.add(v)
        if v not in told and ((steps and max(steps) - min(steps) > 1) or not joins.isdisjoint(v.parents)):
            joins.add(v)
    behind = max((v.step or 0 for v in vertices if v not in joins), default=0) + 1 if joins else None
    for v in joins:
        v.step = behind
    children: dict[Vertex, list[Vertex]] = {v: [] for v in vertices}
    for v in reversed(vertices):
        served = {child.step or 0 for child in children[v]}
        if v.kind != "operation" and served:
            v.step = served.pop() if len(served) == 1 else None
        elif v not in led and served:
            v.step = min(served)
        for parent in v.parents:
            children[parent].append(v)
    return behind
