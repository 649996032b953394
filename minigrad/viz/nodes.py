"""The nodes of a graph as a picture wants them: with loops unrolled, and with values, constants and cuts if known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any

from .. import backends, graph, random
from ..errors import ArgumentError, GraphError
from ..graph import Node, Output, Sum, Watcher
from ..tensor import Tensor

MOST = 3000  # nodes of a picture that anyone could read
VIEWS = {"matrix_transpose", "permute_dims", "reshape", "expand_dims", "split"}  # of a weight: the weight again


class Run(Watcher):
    """What a run step by step tells: what each operation was given and made, and in which step of a loop."""

    def __init__(self) -> None:
        self.inputs: dict[Node, Sequence[Any]] = {}
        self.values: dict[Node, Any] = {}
        self.told: dict[Node, tuple[int, int]] = {}
        self.origins: dict[int, tuple[str, int, Sequence[Any]]] = {}  # of constants: operation, which output, inputs
        self._loops: list[list[Any]] = []  # those that run now, the outermost first: which, its number, its step
        self._count = 0
        self._kept: list[Any] = []  # whose identity must not be given again

    def of(self, function: Callable[[], Any]) -> Any:
        """What the function returns, while this looks on; the stream of random numbers stays where it is."""

        def inside() -> Any:
            random.set_state(random.get_state())
            graph.watcher.set(self)
            with graph.enable_grad():
                return function()

        return copy_context().run(inside)

    def lift(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.node is not None:
            self.values.setdefault(value.node, value.data)
        return value

    def step(self, loop: object, t: int | None) -> None:
        if t is None:
            self._loops.pop()
        elif self._loops and self._loops[-1][0] is loop:
            self._loops[-1][2] = t
        else:
            self._count += 1
            self._loops.append([loop, self._count, t])

    def made(self, name: str, node: Node | None, inputs: Sequence[Any], output: Any) -> None:
        self._kept.append((inputs, output))
        if node is None:
            for i, part in enumerate(output if isinstance(output, list) else [output]):
                self.origins[id(part)] = name, i, inputs
            return
        self.inputs[node], self.values[node] = inputs, output
        if self._loops:
            _, number, t = self._loops[0]
            self.told[node] = number, t


class Nodes:
    """The nodes of a graph, with every compiled loop in it replaced by what it does step by step."""

    def __init__(self, run: Run, names: Sequence[tuple[str, Any]]):
        self.run = run
        self._unrolled: dict[Node, Sequence[Node | None]] = {}
        self._owners: dict[int, Node] = {}  # by the identity of the array
        self.names: dict[Any, str] = {}  # by node, and by the identity of the array
        for name, named in names:
            data = named.data if isinstance(named, Tensor) else named
            self.names[id(data)] = name
            if isinstance(named, Tensor) and named.node is not None and named.node.parents is not None:
                node = self.inside(named.node)
                self.names[node] = name
                run.values.setdefault(node, data)

    def inside(self, node: Node) -> Node:
        """The node itself; for an output of a compiled loop, what the loop step by step has in its place."""
        while isinstance(node, Output) and node.parents:
            (whole,) = node.parents
            if whole not in self._unrolled:
                self._unrolled[whole] = self.run.of(whole.unrolled)
            outputs = self._unrolled[whole]
            inner = outputs[node.index] if outputs else None
            if inner is None:
                break
            node = inner
        while node.name == "alias" and node.parents:
            (node,) = node.parents
        return node

    def parents(self, node: Node) -> list[Node]:
        if node.parents is None:
            raise GraphError(
                f"graph: a backward pass has released the graph of `{node.name}`. Draw it before that pass, or call "
                "backward(retain_graph=True)"
            )
        return [self.inside(parent) for parent in node.parents]

    def in_order(self, root: Node) -> list[Node]:
        """All nodes, each after its parents and after what it was detached from."""
        for node in self._sorted(root, self.parents):
            plan = getattr(node, "plan", None)
            if plan is not None:  # the values that are kept for the backward pass
                for place, parent in plan.saved_inputs:
                    if parent is not None and backends.is_array(node.saved[place]):  # type: ignore[attr-defined]
                        self.run.values.setdefault(self.parents(node)[parent], node.saved[place])  # type: ignore[attr-defined]
                if plan.saved_output is not None:
                    self.run.values.setdefault(node, node.saved[plan.saved_output])  # type: ignore[attr-defined]
        for node, value in self.run.values.items():
            for part in value if isinstance(value, list) else [value]:
                if node.parents is not None:
                    self._owners[id(part)] = node
        return self._sorted(
            root, lambda n: [*self.parents(n), *(o for owners in self.detached(n).values() for o in owners)]
        )

    def _sorted(self, root: Node, before: Callable[[Node], Sequence[Node]]) -> list[Node]:
        order: list[Node] = []
        seen = set()
        stack = [(self.inside(root), False)]
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
                stack += [(parent, False) for parent in reversed(before(node))]
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
        """The array of a node, or the list of arrays that it made, if it is known."""
        if isinstance(node, Output):
            parts = self.run.values.get(self.parents(node)[0])
            return None if parts is None else parts[node.index]
        return self.run.values.get(node)

    def constants(self, node: Node) -> Iterator[tuple[int, Any]]:
        """What an operation reads beside its parents, arrays and numbers, each with its place among the inputs."""
        plan = getattr(node, "plan", None)
        if plan is None:
            return
        if node in self.run.inputs:
            parents = zip(node.parents or (), self.parents(node))  # as they are, and inside of a compiled loop
            flowing = [{id(self.run.values.get(outer)), id(self.value(parent))} for outer, parent in parents]
            for place, a in enumerate(self.run.inputs[node]):
                if flowing and id(a) in flowing[0]:
                    del flowing[0]
                elif backends.is_array(a) or isinstance(a, (int, float)):
                    yield place, a
        else:  # not all: what its rules will read
            for place, (kept, parent) in enumerate(plan.saved_inputs):
                if parent is None and backends.is_array(node.saved[kept]):  # type: ignore[attr-defined]
                    yield place, node.saved[kept]  # type: ignore[attr-defined]

    def detached(self, node: Node) -> dict[int, list[Node]]:
        """For the constants that it reads, by identity: the nodes whose values they are, or are computed from."""
        found: dict[int, list[Node]] = {}
        for _, a in self.constants(node):
            if backends.is_array(a):
                owners, seen, stack = [], set(), [a]
                while stack:
                    array = stack.pop()
                    if id(array) in seen:
                        continue
                    seen.add(id(array))
                    if id(array) in self._owners:
                        owners.append(self.inside(self._owners[id(array)]))
                    else:
                        stack += [x for x in self.run.origins.get(id(array), ("", 0, ()))[2] if backends.is_array(x)]
                found[id(a)] = owners
        return found

    def is_value(self, array: Any) -> bool:
        """Whether an array is the value of a node, if in another shape."""
        return id(self.taken_from(array)[0]) in self._owners

    def taken_from(self, array: Any) -> tuple[Any, str]:
        """The array that a constant is only a part or another shape of, and which part: "[3]"."""
        part = ""
        while id(array) not in self.names and id(array) not in self._owners:
            operation, number, sources = self.run.origins.get(id(array), ("", 0, ()))
            if operation not in ("reshape", "index", "unstack"):
                break
            part = {"reshape": "", "index": "[…]", "unstack": f"[{number}]"}[operation] + part
            array = sources[0]
        return array, part

    def static(self, node: Node, name: str) -> Any:
        """A static argument of an operation, if its rules read it; else None."""
        plan = getattr(node, "plan", None)
        return node.saved[plan.saved.index(name)] if plan and name in plan.saved else None  # type: ignore[attr-defined]

    def stands_for(self, node: Node, folded: bool) -> tuple[Node, str]:
        """The node whose box shows this one too, and which view of it this is.

        A part of several outputs is shown by the operation that made it; what was stacked and is taken apart again, by
        what it was before; and, if folded, what is only reshaped by what it was, and a view of a leaf by the leaf.
        """
        parents = self.parents(node)
        if isinstance(node, Output):
            (whole,) = parents
            if whole.name == "unstack":
                stacked = self._stacked(self.parents(whole)[0], len(whole.shape))
                if stacked:
                    return (stacked[0][node.index], "") if len(stacked) == 1 else (node, "")
            return whole, str(node.index)
        if folded and (node.name == "reshape" or (node.name in VIEWS and self._is_view_of_a_leaf(parents[0]))):
            return parents[0], node.name
        return node, ""

    def joined(self, node: Output) -> list[Node]:
        """What a part that has a box of its own is joined from: a step of each of several stacks, side by side."""
        (whole,) = self.parents(node)
        return [parts[node.index] for parts in self._stacked(self.parents(whole)[0], len(whole.shape))]

    def _stacked(self, node: Node, steps: int) -> list[list[Node]]:
        """The parts of a stack of so many; of each of several stacks that are joined along another axis."""
        if node.name == "stack":
            parts = self.parents(node)
            return [parts] if len(parts) == steps else []
        if node.name == "concat" and node.shape[0] == steps and all(p.shape[0] == steps for p in self.parents(node)):
            found = [self._stacked(parent, steps) for parent in self.parents(node)]
            return [parts for (parts,) in found] if all(len(parts) == 1 for parts in found) else []
        return []

    def _is_view_of_a_leaf(self, node: Node) -> bool:
        while node.name in VIEWS and not isinstance(node, Output):
            node = self.parents(node)[0]
        return not self.parents(node)
