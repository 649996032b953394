"""The graph and the backward pass. This room knows no array operation: a cotangent is whatever can be added.

A `Node` remembers who its parents are and how to pull a cotangent back to them. `backpropagate` visits the
nodes below a root, children before parents, and hands each its whole cotangent exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar, Token
from typing import Any

from .errors import GraphError, OutOfMemoryError

grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)
watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


class _GradMode(ContextDecorator):
    """Sets `grad_enabled` inside a `with` block or a decorated function, in the current thread or task only."""

    enabled: bool

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def _recreate_cm(self) -> _GradMode:  # a decorated function may be called again before it returns
        return type(self)()

    def __enter__(self) -> _GradMode:
        self._tokens.append(grad_enabled.set(self.enabled))
        return self

    def __exit__(self, *exc: object) -> None:
        grad_enabled.reset(self._tokens.pop())


class no_grad(_GradMode):
    """Inside `with no_grad():`, or in a function decorated with `@no_grad()`, no graph is recorded.

    >>> import minigrad as mg
    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> with mg.no_grad():
    ...     (x * x).requires_grad
    False
    """

    enabled = False


class enable_grad(_GradMode):
    """Inside `with enable_grad():` graphs are recorded again, within `no_grad()` too."""

    enabled = True


class Watcher:
    """One who looks on: told of every node made and every cotangent pulled, in the current thread or task.

    looks_inside: whether it has to see every operation, so that loops are not to be compiled.
    """

    looks_inside = True

    def lift(self, value: Any) -> Any:
        """What an operation shall take in place of one of its arguments, or of an array in an index."""
        return value

    def drawn(self) -> None:
        """Random numbers are about to be drawn."""

    def made(self, name: str, node: Node | None, inputs: Sequence[Any], output: Any) -> None:
        """The operation `name` has made `output`, an array or a list of arrays, from arrays and numbers."""

    def step(self, loop: object, t: int | None) -> None:
        """A loop, known by an object of its own, begins with step t of its sequence; None: it has ended."""

    def pulled(self, node: Node, cotangent: Any, made: Any) -> None:
        """The backward formula of `node` has made `made` of its cotangent, added up with what was there before."""


class Node:
    """One value in the graph.

    parents: the nodes it was computed from, only those that need a gradient; None once released.
    shape: the shape of the value, and so of its cotangent.
    """

    __slots__ = ("parents", "shape")
    name = "node"

    def __init__(self, parents: tuple[Node, ...], shape: tuple[int, ...]):
        self.parents: tuple[Node, ...] | None = parents
        self.shape = shape

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        """The cotangents of the parents, in their order, from the cotangent `g` of this value.

        traced: `g` is a Tensor and the pass itself is recorded, so that it can be differentiated again.
        wanted: the parents that matter (None: all); for another one anything may stand in the answer.
        """
        raise GraphError(f"{self.name} has no rule to pull a cotangent back")

    def unrolled(self) -> Sequence[Node | None]:
        """For a node that stands for a graph of its own, as a compiled loop does: the nodes of its outputs in there.

        None for an output that needs no gradient; nothing, for all other nodes.
        """
        return ()

    def release(self) -> None:
        """Let go of the parents and of whatever was saved for them."""
        self.parents = None


class Leaf(Node):
    """Where a graph begins: a tensor that was created, not computed. It holds what `backward()` leaves in `.grad`."""

    __slots__ = ("grad",)
    name = "leaf"

    def __init__(self, shape: tuple[int, ...]):
        super().__init__((), shape)
        self.grad: Any = None


class Output(Node):
    """One output of a node that has several. Its cotangent takes its place among those of its siblings."""

    __slots__ = ("index",)

    def __init__(self, parent: Node, index: int, shape: tuple[int, ...]):
        self.parents, self.index, self.shape = (parent,), index, shape

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.parents[0].name  # type: ignore[index]

    def release(self) -> None:
        """Nothing: what was saved belongs to the parent, which says when it is released."""


class Sum:
    """A cotangent in pieces that are cheaper to add up together.

    Such are those of xs from `xs[0]`, `xs[1]`, ..., and those of W from `h @ W` at each step. `combine(pieces, shape)`
    makes the array; it is called each time `limit` pieces have come, and at the end. Two sums of one `combine` are
    collected in one.
    """

    __slots__ = ("combine", "done", "limit", "pieces", "shape")

    def __init__(
        self,
        combine: Callable[[list[Any], tuple[int, ...]], Any],
        pieces: list[Any],
        shape: tuple[int, ...],
        limit: int = 2**62,
    ):
        self.combine, self.pieces, self.shape, self.limit = combine, pieces, shape, limit
        self.done: Any = None

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Sum):
            return self.total() + other
        if other.combine is not self.combine:
            return self.total() + other.total()
        self.pieces += other.pieces
        if other.done is not None:
            self.done = other.done if self.done is None else self.done + other.done
        if len(self.pieces) >= self.limit:
            self.done, self.pieces = self.total(), []
        return self

    def total(self) -> Any:
        """The sum, as an array."""
        if not self.pieces:
            return self.done
        total = self.combine(self.pieces, self.shape)
        return total if self.done is None else self.done + total


def children_first(roots: Iterable[Node], stop: Collection[Node] = ()) -> list[Node]:
    """`roots` and every node below them, each after all of its children, by counting children; no recursion.

    What lies below a node in `stop` is left out. Raises GraphError where the graph has been released.
    """
    apex = Node(tuple(roots), ())  # the one child that has no children
    children: dict[Node, int] = {}
    stack: list[Node] = [apex]
    while stack:
        node = stack.pop()
        if node in children:
            children[node] += 1
            continue
        children[node] = 1
        if stop and node in stop:
            continue
        if node.parents is None:
            raise GraphError(
                f"backward reached the result of `{node.name}`, whose graph an earlier backward pass used and "
                "released. Call that first backward with retain_graph=True to use one graph twice; or detach() the "
                "tensors carried from one graph into the next, such as a recurrent state between two windows."
            )
        stack.extend(node.parents)
    order = []
    ready = [apex]
    while ready:
        node = ready.pop()
        order.append(node)
        if stop and node in stop:
            continue
        for parent in node.parents:  # type: ignore[union-attr]  # a released node raised above
            children[parent] -= 1
            if not children[parent]:
                ready.append(parent)
    return order[1:]


def backpropagate(
    seeds: Sequence[tuple[Node, Any]],
    targets: Collection[Node] | None = None,
    *,
    retain: bool = False,
    traced: bool = False,
) -> dict[Node, Any]:
    """Pull the cotangents in `seeds`, pairs of (node, cotangent), back to the leaves.

    targets: the nodes to stop at instead; only what leads to them is visited, and no leaf is touched.
    retain: keep what the nodes saved, for another pass; otherwise each is released once it has been used.
    traced: the cotangents are Tensors and the pass is recorded, for higher derivatives. Releases nothing.

    Returns the cotangents of the leaves, or of the targets. One that no seed depends on is absent.
    """
    stop: Collection[Node] = () if targets is None else set(targets)
    order = children_first((node for node, _ in seeds), stop)
    wanted: set[Node] | None = None
    if targets is not None:
        wanted = set(targets)
        for node in reversed(order):
            if node not in stop and not wanted.isdisjoint(node.parents or ()):
                wanted.add(node)
    watch = watcher.get()
    found: dict[Node, Any] = {}
    cotangents: dict[Node, Any] = {}
    owned: set[Node] = set()  # whose cotangent is a sum made here, unknown elsewhere: more is added in place
    for node, g in seeds:
        cotangents[node] = cotangents[node] + g if node in cotangents else g

    order.reverse()
    while order:
        node = order.pop()
        g = cotangents.pop(node, None)
        if g is None or (wanted is not None and node not in wanted):
            continue
        if type(g) is Sum:
            g = g.total()
        parents = node.parents
        if not parents or (stop and node in stop):
            found[node] = g
            continue
        if type(node) is Output:
            cotangents.setdefault(parents[0], {})[node.index] = g
        else:
            try:
                pulled = node.pull(g, traced, wanted)
            except OutOfMemoryError:
                raise
            except MemoryError as error:
                raise OutOfMemoryError(f"the backward pass of `{node.name}`", error) from error
            for parent, gp in zip(parents, pulled):
                if gp is None:
                    continue
                if parent not in cotangents:
                    cotangents[parent] = gp
                elif type(gp) is Sum and type(cotangents[parent]) is not Sum:
                    cotangents[parent] = gp + cotangents[parent]
                elif parent in owned:
                    cotangents[parent] += gp
                else:
                    cotangents[parent] = cotangents[parent] + gp
                    if not traced and type(cotangents[parent]) is not Sum:
                        owned.add(parent)
                if watch is not None:
                    watch.pulled(node, g, gp if type(gp) is Sum else cotangents[parent])
        if not retain and not traced:
            node.release()
    return found
