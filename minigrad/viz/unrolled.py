"""A graph read for drawing: what is computed from what. In which step of which recurrence is found in `columns`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import backends, nn
from ..errors import ArgumentError, GraphError
from ..graph import Node, Output
from ..tensor import Tensor
from . import given
from .nodes import Nodes, Run

SIGNS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "power": "^", "negative": "−", "matmul": "@",
    "sigmoid": "σ", "sum": "Σ", "index": "[ ]", "logsumexp": "log Σ exp",
}  # fmt: skip


@dataclass(eq=False)
class Vertex:
    """A box of the picture: an "operation", a "leaf" that a gradient is asked for, or a "constant".

    cut: those of the parents from which it was detached, so that no gradient goes back to them.
    uses: the leaves among the parents, each with how it is used: by which operation, and which view of it.
    told: the loop that computed it, and in which step; None for what no loop of the library did.
    value, gradient: arrays, where they are known.
    """

    kind: str
    label: str
    shape: tuple[int, ...]
    parents: list[Vertex] = field(default_factory=list)
    cut: set[Vertex] = field(default_factory=set)
    uses: list[tuple[Vertex, str]] = field(default_factory=list)
    told: tuple[int, int] | None = None
    value: Any = None
    gradient: Any = None


def read(loss: Any, names: Any, gradients: bool) -> Callable[[bool], list[Vertex]]:
    """The graph of a tensor, or of what a function computes, which is then run step by step.

    Returns what makes the vertices of it, parents first. It asks whether to fold: to draw views of weights, and what is
    only reshaped, as what they show.
    """
    run = Run()
    root = loss
    if not isinstance(loss, Tensor):
        if not callable(loss):
            raise ArgumentError(
                f"graph: loss must be a tensor or a function that computes one, got a {type(loss).__name__}"
            )
        if isinstance(loss, (nn.Module, type)) or not _takes_nothing(loss):
            raise ArgumentError(
                "graph: loss is called without arguments, and this one takes some; write lambda: net(xs).sum()"
            )
        root = run.of(loss)
        if not isinstance(root, Tensor):
            raise ArgumentError(f"graph: the function must return a tensor, it returned a {type(root).__name__}")
    if root.node is None:
        raise GraphError(
            "graph: this tensor has no graph. Make what it is computed from with requires_grad=True, and compute it "
            "outside of no_grad and without detach"
        )
    if gradients and root.size != 1:
        raise GraphError(
            f"graph: gradients=True takes the derivative of one number, and this tensor has the shape {root.shape}; "
            "sum() makes it one"
        )
    nodes = Nodes(run, _named(names))
    run.values[nodes.inside(root.node)] = root.data
    order = nodes.in_order(root.node)
    seed = backends.namespace_of(root.data).ones(root.shape, dtype=root.dtype)
    cotangents = nodes.cotangents(order, seed) if gradients else {}
    return lambda folded: _vertices(nodes, order, cotangents, folded)


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without arguments, as far as it says."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # it does not say what it takes
        return True
    return True


def _named(names: Any) -> list[tuple[str, Any]]:
    """Names and their tensors; a module has one for each of its tensors, beginning with its own."""
    if names is None or (isinstance(names, Mapping) and not names):
        return []
    if isinstance(names, nn.Module):
        return list(names.named_tensors().items())
    found: list[tuple[str, Any]] = []
    for name, named in given.mapping("graph", "names", names, "tensors or modules").items():
        if isinstance(named, nn.Module):
            found += [(f"{name}.{key}", tensor) for key, tensor in named.named_tensors().items()]
        elif isinstance(named, Tensor) or backends.is_array(named):
            found.append((name, named))
        else:
            raise ArgumentError(f"graph: names {name!r} must be a tensor or a module, got a {type(named).__name__}")
    return found


def _vertices(nodes: Nodes, order: Sequence[Node], cotangents: Mapping[Node, Any], folded: bool) -> list[Vertex]:
    """A vertex for each node that has a box, and one for each constant that is known."""
    made: dict[Node, tuple[Vertex, str]] = {}
    constants: dict[int, Vertex] = {}
    listed: list[Vertex] = []
    names = nodes.names
    for node in order:
        source, view = nodes.stands_for(node, folded)
        if source is not node:
            vertex, before = made[source]
            made[node] = vertex, f"{before} {view}"
            if node in names and vertex.kind == "operation" and not isinstance(node, Output):
                vertex.label = f"{names[node]} = {vertex.label}"
            continue
        operation = "concat" if isinstance(node, Output) else node.name
        parents = [made[p] for p in (nodes.joined(node) if isinstance(node, Output) else nodes.parents(node))]
        vertex = Vertex("operation" if parents else "leaf", "", node.shape, told=nodes.run.told.get(node))
        vertex.parents = [parent for parent, _ in parents]
        vertex.uses = [(p, f"{operation}{view}") for p, view in parents if p.kind == "leaf"]
        numbers = {}
        detached = nodes.detached(node)
        for place, a in nodes.constants(node):
            if not backends.is_array(a):
                numbers[place] = a
                continue
            cut = [made[owner][0] for owner in detached[id(a)] if owner in made]
            if cut and nodes.is_value(a):
                vertex.parents += cut
                vertex.cut.update(cut)
                continue
            if id(a) not in constants:
                constants[id(a)] = Vertex("constant", _origin(a, nodes), a.shape, list(cut), set(cut), value=a)
                listed.append(constants[id(a)])
            vertex.parents.insert(0, constants[id(a)])
        vertex.label = _sign(operation, numbers, nodes, node) if parents else ""
        name = names.get(node, names.get(id(nodes.value(node))))
        if name is not None:
            vertex.label = f"{name} = {vertex.label}" if parents else name
        value, gradient = nodes.value(node), cotangents.get(node)
        vertex.value = None if isinstance(value, list) else value
        vertex.gradient = None if isinstance(gradient, dict) else gradient
        made[node] = vertex, ""
        listed.append(vertex)
    needed = {listed[-1]}
    for vertex in reversed(listed):
        if vertex in needed:
            needed.update(vertex.parents)
    return [vertex for vertex in listed if vertex in needed]


def _sign(operation: str, numbers: Mapping[int, Any], nodes: Nodes, node: Node) -> str:
    """An operation as it is written, with the numbers that it was given."""
    if operation == "index":
        key = nodes.static(node, "key")
        return f"[{', '.join(map(_index, key))}]" if isinstance(key, tuple) else SIGNS[operation]
    if operation == "power":
        numbers = {1: nodes.static(node, "exponent")}
    left, right = (f"{numbers[k]:.4g}" if numbers.get(k) is not None else "" for k in (0, 1))
    return f"{left} {SIGNS.get(operation, operation)} {right}".strip()


def _index(key: Any) -> str:
    """A part of an index, as it is written; arrays of integers are dots."""
    if isinstance(key, slice):
        ends = ["" if end is None else str(end) for end in (key.start, key.stop, key.step)]
        return ":".join(ends if ends[2] else ends[:2])
    return "…" if key is Ellipsis or backends.is_array(key) else str(key)


def _origin(array: Any, nodes: Nodes) -> str:
    """What a constant is called: its own name, or that of what it is taken from, as x[3]; zeros are 0."""
    source, part = nodes.taken_from(array)
    if id(source) in nodes.names:
        return nodes.names[id(source)] + part
    if array.size and not backends.namespace_of(array).to_numpy(array).any():
        return "0"
    operation, _, _ = nodes.run.origins.get(id(source), ("", 0, None))
    return SIGNS.get(operation, operation)
