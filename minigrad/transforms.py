"""Functions of functions: gradients, products with Jacobians and Hessians, recomputing instead of storing.

They nest, which gives every order. What they return is itself part of a graph where that matters: while recording is
on, and where the result depends on something else that needs a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any

from . import backends, random, tree
from .errors import ArgumentError, DtypeError
from .graph import Node, Output, Watcher, backpropagate, children_first, enable_grad, grad_enabled, watcher
from .tensor import Tensor, seed_cotangent


class _Alias(Node):
    """A value under a new identity, so that a gradient can be taken with respect to this use of it alone."""

    __slots__ = ()
    name = "alias"

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        return [g]


def _alias(op: str, value: Any) -> Tensor:
    x = value if isinstance(value, Tensor) else Tensor(backends.as_array(value))
    if not backends.is_floating(x.data):
        raise DtypeError(f"{op}: only floats have gradients; an argument has dtype {x.dtype}")
    node = _Alias((x.node,) if x.node is not None else (), x.shape)
    _announce(node, x)
    return Tensor(x.data, node)


def _announce(node: Node, y: Tensor) -> None:
    watch = watcher.get()
    if watch is not None:
        watch.made(node.name, node, [y.data], y.data)


class _Pass:
    """A function's outputs at aliased inputs, from which cotangents can be pulled back to the inputs."""

    def __init__(self, op: str, f: Callable[..., Any], args: Sequence[Any]):
        self.op = op
        self.inputs = [tree.map(lambda leaf: _alias(op, leaf), arg) for arg in args]
        self.targets = tree.leaves(self.inputs)
        with enable_grad():
            self.output = f(*self.inputs)
        for y in tree.leaves(self.output):
            if not isinstance(y, Tensor):
                raise DtypeError(f"{op}: the function returned {type(y).__name__}, not tensors")
        self.roots = [y.node for y in tree.leaves(self.output) if y.node is not None]
        stop = {x.node for x in self.targets}
        # Whether anything that needs a gradient lies besides the inputs, or beyond them.
        self.connected = grad_enabled.get() and any(
            node.parents if node in stop else not node.parents for node in children_first(self.roots, stop)
        )

    def pull(self, cotangents: Any, retain: bool) -> list[Any]:
        """The cotangents of the inputs, in their structure; zeros where nothing depends on an input."""
        pairs: list[tuple[Tensor, Tensor]] = []
        tree.map(lambda y, g: pairs.append((y, seed_cotangent(self.op, y, g))), self.output, cotangents)
        traced = grad_enabled.get() and (self.connected or any(g.requires_grad for _, g in pairs))
        seeds = [(y.node, g if traced else g.data) for y, g in pairs if y.node is not None]
        found = backpropagate(seeds, [x.node for x in self.targets], retain=retain, traced=traced)

        def result(x: Tensor) -> Tensor:
            xp = backends.namespace_of(x.data)
            g = found.get(x.node)  # type: ignore[arg-type]
            if g is None:
                g = xp.zeros(x.shape, dtype=x.dtype)
            return g if isinstance(g, Tensor) else Tensor(xp.asarray(g))

        return [tree.map(result, x) for x in self.inputs]

    def value(self) -> Any:
        """The outputs; part of a graph if they are connected to more than the inputs."""
        return self.output if self.connected else tree.map(Tensor.detach, self.output)


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the value of `f`, one element, and its gradient.

    argnums: the position of the argument to differentiate by, or a sequence of them, which gives a tuple of
        gradients. Such an argument is a tensor or nested tuples, lists or dicts of tensors; so is its gradient.

    Raises GraphError if the value has more than one element, DtypeError for an argument of integers.

    >>> import minigrad as mg
    >>> mg.value_and_grad(lambda x: x ** 3)(mg.tensor(2.0))
    (tensor(8.), tensor(12.))
    """
    places: tuple[int, ...] = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if any(not -len(args) <= i < len(args) for i in places):
            raise ArgumentError(f"grad: argnums={argnums}, but the function was called with {len(args)} arguments")
        chosen = [i % len(args) for i in places]
        if len(set(chosen)) < len(chosen):
            raise ArgumentError(f"grad: argnums={argnums} names an argument twice")

        def of_chosen(*inputs: Any) -> Any:
            all_args = list(args)
            for i, x in zip(chosen, inputs):
                all_args[i] = x
            return f(*all_args, **kwargs)

        run = _Pass("grad", of_chosen, [args[i] for i in chosen])
        if not isinstance(run.output, Tensor):
            raise DtypeError(f"grad: the function returned {type(run.output).__name__}, not one tensor")
        gradients = run.pull(seed_cotangent("grad", run.output, None), retain=False)
        return run.value(), gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of `f` alone; as `value_and_grad`.

    >>> import minigrad as mg
    >>> mg.grad(mg.grad(lambda x: x ** 3))(mg.tensor(2.0))
    tensor(12.)
    """
    with_value = value_and_grad(f, argnums)

    @wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return with_value(*args, **kwargs)[1]

    return wrapped


def vjp(f: Callable[..., Any], *inputs: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`f(*inputs)`, and a function from a cotangent of that output to the cotangents of the inputs, as a tuple.

    Inputs and output may be nested tuples, lists or dicts of tensors. The function can be called many times.

    >>> import minigrad as mg
    >>> y, pull = mg.vjp(mg.sin, mg.tensor([0.0, 0.0]))
    >>> pull(mg.tensor([1.0, 2.0]))
    (tensor([1., 2.]),)
    """
    run = _Pass("vjp", f, inputs)
    return run.value(), lambda cotangent: tuple(run.pull(cotangent, retain=True))


def jvp(f: Callable[..., Any], inputs: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`f(*inputs)`, and its directional derivative J @ tangents, in the structure of the output.

    By two backward passes: the cotangents of the inputs are linear in that of the output, with the transposed
    Jacobian as their matrix, and so its derivative is the Jacobian.

    >>> import minigrad as mg
    >>> mg.jvp(lambda x: x * x, (mg.tensor([1.0, 3.0]),), (mg.tensor([1.0, 10.0]),))
    (tensor([1., 9.]), tensor([ 2., 60.]))
    """
    tangents = tree.map(_like("jvp"), tuple(inputs), tuple(tangents))
    run = _Pass("jvp", f, inputs)
    u = tree.map(lambda y: Tensor(backends.namespace_of(y.data).zeros(y.shape, dtype=y.dtype)), run.output)
    transposed = _Pass("jvp", lambda u: run.pull(u, retain=True), (u,))
    transposed.connected = run.connected
    (tangent,) = transposed.pull(list(tangents), retain=False)
    return run.value(), tangent


def _like(op: str) -> Callable[[Any, Any], Tensor]:
    """A function that makes a tangent fit its input."""

    def fit(x: Any, v: Any) -> Tensor:
        x = x if isinstance(x, Tensor) else Tensor(backends.as_array(x))
        return seed_cotangent(op, x, v)

    return fit


def hvp(f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    """The Hessian of `f` at `x` times `v`, in the structure of `x`, without forming the Hessian.

    >>> import minigrad as mg
    >>> mg.hvp(lambda x: (x ** 3).sum(), mg.tensor([1.0, 2.0]), mg.tensor([1.0, 0.0]))
    tensor([6., 0.])
    """
    return jvp(grad(f), (x,), (v,))[1]


class _Externals(Watcher):
    """Finds the nodes that a function uses though they are not among its arguments, such as its weights."""

    def __init__(self, outer: Watcher | None):
        self.outer = outer
        self.looks_inside = outer is not None and outer.looks_inside
        self.inside: set[Node] = set()
        self.found: dict[Node, None] = {}

    def made(self, name: str, node: Node | None, inputs: Sequence[Any], output: Any) -> None:
        if node is not None:
            for parent in node.parents or ():
                self.used(parent)
            self.inside.add(node)
        if self.outer is not None:
            self.outer.made(name, node, inputs, output)

    def lift(self, value: Any) -> Any:
        return value if self.outer is None else self.outer.lift(value)

    def drawn(self) -> None:
        if self.outer is not None:
            self.outer.drawn()

    def pulled(self, node: Node, cotangent: Any, made: Any) -> None:
        if self.outer is not None:
            self.outer.pulled(node, cotangent, made)

    def used(self, node: Node) -> None:
        source = node.parents[0] if isinstance(node, Output) else node  # type: ignore[index]
        if source not in self.inside:
            self.found[node] = None


class _Remat(Node):
    """A call that is made again when its cotangents come. Its outputs follow as `Output`s."""

    __slots__ = ("call", "shapes", "tensors")
    name = "remat"

    def __init__(self, parents: tuple[Node, ...], call: Callable[[Any], Any], tensors: list[Tensor], shapes: Any):
        super().__init__(parents, shapes)
        self.call, self.tensors = call, tensors  # the arguments that need a gradient, with their nodes

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        inputs = [Tensor(x.data, _Alias((x.node,) if traced else (), x.shape)) for x in self.tensors]  # type: ignore[arg-type]
        targets: list[Any] = [*(x.node for x in inputs), *(self.parents or ())[len(inputs) :]]
        with enable_grad():
            outputs = tree.leaves(self.call(inputs))
        seeds = [(y.node, g[i]) for i, y in enumerate(outputs) if i in g and y.node is not None]
        found = backpropagate(seeds, targets, traced=traced)
        return [found.get(node) for node in targets]

    def unrolled(self) -> Sequence[Node | None]:
        with enable_grad():
            return [y.node for y in tree.leaves(self.call(self.tensors))]

    def release(self) -> None:
        self.parents, self.call, self.tensors = None, None, []  # type: ignore[assignment]


def remat(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, but its intermediate values are computed again in the backward pass instead of stored until then.

    Arguments and result may be nested tuples, lists or dicts of tensors; `f` may use weights from outside. Random
    numbers come out the same the second time. The function must not depend on anything that changes in between.

    >>> import minigrad as mg
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> mg.remat(lambda x: mg.exp(mg.sin(x)))(x).backward()
    >>> bool(x.grad == mg.grad(lambda x: mg.exp(mg.sin(x)))(x))
    True
    """

    @wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not grad_enabled.get():
            return f(*args, **kwargs)
        tensors = [x for x in tree.leaves([args, kwargs]) if isinstance(x, Tensor) and x.node is not None]
        before = random.get_state()

        def call(inputs: Sequence[Tensor]) -> Any:
            """f with its arguments that need a gradient replaced by these, in order."""
            values = iter(inputs)
            new_args, new_kwargs = tree.map(
                lambda x: next(values) if isinstance(x, Tensor) and x.node is not None else x, [args, kwargs]
            )
            return f(*new_args, **new_kwargs)

        def again(inputs: Sequence[Tensor]) -> Any:
            now = random.get_state()
            random.set_state(before)
            try:
                return call(inputs)
            finally:
                random.set_state(now)

        externals = _Externals(watcher.get())
        aliases = [Tensor(x.data, _Alias((), x.shape)) for x in tensors]
        token = watcher.set(externals)
        try:
            for x in aliases:
                _announce(x.node, x)  # type: ignore[arg-type]
            output = call(aliases)
        finally:
            watcher.reset(token)
        outputs = tree.leaves(output)
        if any(not isinstance(y, Tensor) for y in outputs):
            raise DtypeError("remat: the function must return tensors, in nested tuples, lists or dicts")
        nodes = [y.node for y in outputs if y.node is not None]
        if not nodes:
            return output
        for made in nodes:
            externals.used(made)  # where one from outside is returned as it came
        parents = (*(x.node for x in tensors), *externals.found)
        node = _Remat(parents, again, tensors, [y.shape for y in outputs])  # type: ignore[arg-type]
        _announce(node, outputs[0])
        places = iter(range(len(outputs)))

        def wrap(y: Tensor) -> Tensor:
            i = next(places)
            return Tensor(y.data, None if y.node is None else Output(node, i, y.shape))

        return tree.map(wrap, output)

    return wrapped
