"""`scan`: a step over a sequence, by its program. The cache of programs, one call, and its node in the graph."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import ceil, sqrt
from typing import Any

from .. import backends, ops, tree
from ..errors import ArgumentError, GraphError, OutOfMemoryError, OutOfRangeError, ShapeError
from ..graph import Leaf, Node, Output, backpropagate, enable_grad, grad_enabled, watcher
from ..tensor import Tensor, tensor
from ..transforms import _Alias
from . import eager
from .cache import programs
from .explain import explain
from .program import Program
from .record import Kind, record
from .surroundings import Surroundings
from .symbols import Symbol, refuse


def scan(
    step: Callable[..., Any],
    xs: Any,
    init: Any,
    context: Sequence[Any] = (),
    reverse: bool = False,
    remat: int | str | None = None,
    *,
    unroll: str = "compiled",
) -> tuple[Any, Any]:
    """A step over a sequence: `step(x, state, *context) -> (out, state)` for each x of xs, to `(outs, state)`.

    xs: a tensor (T, ...), or nested tuples, lists or dicts of such; x has their slices at one time.
    init: the state before the first step, a tensor or a nest of tensors. It keeps its structure.
    context: what is the same at every step. Its gradients flow, as do those of xs, init and the leaf tensors that the
        step closes over.
    reverse: from the last x to the first. outs stand at the times of their xs.
    remat: keep only every k-th state, and compute what lies between again in the backward pass. "sqrt" is k = sqrt(T),
        which takes memory for about 2 sqrt(T) steps instead of T.
    unroll: "compiled" runs the step's program; "eager" calls the step T times, in a visible graph.

    The result is that of the loop, to rounding, in value and in every gradient. The step is called once, on symbols,
    to write down its program (`minigrad.scan`), which is kept for the next call; a step is therefore a pure function
    of its arguments, of numbers and modules that it closes over, and of leaf tensors, which are looked up at every
    call. A tensor that was computed is handed in by `context`. A single step under `no_grad` is simply called. For
    arrays other than NumPy's, inside `detect_anomaly` and while another step is recorded, the loop runs as if unroll
    were "eager".

    What is seen to change between calls: numbers, strings and modules in closures, globals, defaults, attributes of
    objects and of imported modules, small lists, dicts and arrays, and functions that are replaced. For each value
    there is a program, so a number that is another at every call (a rate that is annealed) is better a tensor.

    Raises RecordingError for a step that asks for values, draws noise or changes what it closes over, GraphError if it
    closes over a tensor that was computed, ShapeError for sequences of unequal length.

    >>> import minigrad as mg
    >>> decay = mg.tensor(0.5, requires_grad=True)
    >>> def step(x, h):
    ...     h = decay * h + x
    ...     return h, h
    >>> outs, last = mg.scan(step, mg.ones((3,)), mg.tensor(0.0))
    >>> outs
    tensor([1.  , 1.5 , 1.75], from=scan)
    >>> last.backward()
    >>> decay.grad
    tensor(2.)
    """
    xs, init, context = _arguments(xs, init, context)
    steps = _length(xs)
    if remat is not None and remat != "sqrt" and (type(remat) is not int or remat < 1):
        raise ArgumentError(
            f'scan: remat is None, "sqrt" or how many steps from one kept state to the next, not {remat!r}'
        )
    if unroll not in ("compiled", "eager"):
        raise ArgumentError(f'scan: unroll is "compiled" or "eager", not {unroll!r}')
    tensors = [t for t in tree.leaves([xs, init, context]) if isinstance(t, Tensor)]
    xp = backends.require_same("scan", [t.data for t in tensors])
    watch = watcher.get()
    looked_into = watch is not None and watch.looks_inside
    single = steps == 1 and not grad_enabled.get()
    if single or (steps and (unroll == "eager" or xp is not backends.numpy or looked_into)):
        return eager.loop(step, xs, init, context, reverse)
    if xp is not backends.numpy:
        return _no_steps(step, xs, init, context)
    call = _Call(step, xs, init, context, bool(reverse), steps)
    if call.program is None:
        return _first_step_apart(step, xs, init, context, reverse, remat)
    if remat is not None and steps:
        call.chunk = min(steps, remat if isinstance(remat, int) else ceil(sqrt(steps)))
    return call.run()


def _first_step_apart(
    step: Callable[..., Any], xs: Any, init: Any, context: Any, reverse: bool, remat: int | str | None
) -> tuple[Any, Any]:
    """A scan whose state gets another shape or dtype in the first step, as zeros (1, H) do beside inputs (B, D)."""
    if not _length(xs):
        return _no_steps(step, xs, init, context)
    first, rest = (slice(-1, None), slice(None, -1)) if reverse else (slice(None, 1), slice(1, None))
    out, state = eager.loop(step, tree.map(lambda x: x[first], xs), init, context, reverse)
    if _length(xs) == 1:
        return out, state
    if _kinds(state) == _kinds(init):
        raise ShapeError("scan: the shapes or dtypes of the state change from step to step in another way each time")
    outs, state = scan(step, tree.map(lambda x: x[rest], xs), state, context, reverse, remat)
    return tree.map(lambda a, b: ops.concat([b, a] if reverse else [a, b]), out, outs), state


def _no_steps(step: Callable[..., Any], xs: Any, init: Any, context: Any) -> tuple[Any, Any]:
    """A scan over nothing, where no program says what the outputs would be: a step of zeros does."""
    zeros = tree.map(lambda x: ops.zeros((1, *x.shape[1:]), dtype=x.dtype, backend=x.backend), xs)
    return tree.map(lambda y: y[:0].detach(), eager.loop(step, zeros, init, context, False)[0]), init


def _global_noise() -> Any:
    """Where the random numbers of Python and of NumPy stand, which anyone may draw from."""
    _, keys, place, *rest = backends.numpy.module.random.get_state()
    return random.getstate(), keys.tobytes(), place, rest


def _kinds(state: Any) -> list[Any]:
    return [(s.shape, s.dtype) for s in tree.leaves(state)]


def _arguments(xs: Any, init: Any, context: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """The arguments of a scan with tensors for arrays and numbers; in the context, numbers stay."""
    xs = tree.map(_as_tensor, xs)
    init = tree.map(_as_tensor, init)
    if not isinstance(context, (tuple, list)):
        raise ArgumentError(
            f"scan: context is a tuple, of what is the same at every step; got a {type(context).__name__}"
        )
    context = tree.map(lambda c: _as_tensor(c) if backends.is_array(c) else c, tuple(context))
    return xs, init, context


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return tensor(value, dtype="int64" if type(value) is int else None)


def _length(xs: Any) -> int:
    """The number of steps."""
    leaves = tree.leaves(xs)
    if not leaves:
        raise ArgumentError(
            "scan: xs holds no tensor, so that the number of steps is unknown; mg.zeros((T, 0)) says it"
        )
    if any(not x.shape for x in leaves):
        raise ShapeError("scan: a tensor in xs has no axis for time; its first axis is the steps")
    lengths = {x.shape[0] for x in leaves}
    if len(lengths) > 1:
        raise ShapeError(f"scan: the tensors in xs have different numbers of steps: {sorted(lengths)}")
    return lengths.pop()


def explain_scan(
    step: Callable[..., Any],
    xs: Any,
    init: Any,
    context: Sequence[Any] = (),
    reverse: bool = False,
    names: Mapping[str, Tensor] | None = None,
) -> str:
    """The program of `scan` with these arguments, as a person would write it: before, in and after the loop.

    With shapes, the place of each value, and bytes. names: of the tensors that the step closes over.
    """
    xs, init, context = _arguments(xs, init, context)
    call = _Call(step, xs, init, context, reverse, _length(xs))
    if call.program is None:
        return "The first step is unlike the others (its state gets another shape or dtype), and is called by itself."
    return explain(call.program, call.weights, call.steps, {id(t): name for name, t in (names or {}).items()})


def _structure(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A tree as something hashable."""
    if isinstance(value, Tensor):
        return leaf(value)
    if isinstance(value, (tuple, list)):
        return type(value), *[_structure(v, leaf) for v in value]
    if isinstance(value, dict):
        return dict, *[(k, _structure(v, leaf)) for k, v in value.items()]
    return None if value is None else leaf(value)


class _Call:
    """One call of scan."""

    def __init__(self, step: Any, xs: Any, init: Any, context: Any, reverse: bool, steps: int):
        self.step, self.xs, self.init, self.context, self.reverse, self.steps = step, xs, init, context, reverse, steps
        self.chunk: int | None = None
        still = [c for c in tree.leaves(context) if not isinstance(c, Tensor)]
        self.surroundings = Surroundings(step, still)
        program = self._program()
        self.program: Any = program
        if program is None:
            return
        self.x_leaves, self.init_leaves = tree.leaves(xs), tree.leaves(init)
        self.context_leaves = [c for c in tree.leaves(context) if isinstance(c, Tensor)]
        self.weights = program.weights(self.surroundings.tensors)
        for w in self.weights:
            if w.node is not None and not isinstance(w.node, Leaf):
                raise GraphError(
                    f"scan: the step closes over a tensor of shape {w.shape} that was computed (by `{w.node.name}`) "
                    "and needs a gradient; pass it in context=(...), so that the gradient can flow"
                )

    # The program

    def _program(self) -> Program | None:
        """The step's program, from the cache or new."""
        differentiate = grad_enabled.get()

        def of_step(t: Tensor) -> Any:
            return t.data.shape[1:], t.data.dtype, differentiate and t.node is not None

        def whole(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return "still"
            return t.data.shape, t.data.dtype, differentiate and t.node is not None

        key = (
            self.surroundings.key,
            _structure(self.xs, of_step),
            _structure(self.init, whole),
            _structure(self.context, whole),
            self.reverse,
            differentiate,
        )
        known, program = programs.find(key)
        if not known:
            program = self._record(differentiate)
            programs.keep(key, program)
        return program

    def _record(self, differentiate: bool) -> Program | None:
        """Record the step. None if the state that it returns has another shape or dtype than the one it began with."""

        def kind(t: Any) -> Any:
            return Kind(t.shape, t.dtype, t.node is not None) if isinstance(t, Tensor) else t

        xs = tree.map(lambda x: Kind(x.shape[1:], x.dtype, x.node is not None), self.xs)
        state, context = tree.map(lambda s: Kind(s.shape, s.dtype, True), self.init), tree.map(kind, self.context)
        noise = _global_noise()
        recording = record(self.step, backends.numpy, xs, state, context, differentiate)
        if _global_noise() != noise:
            refuse("the step draws random numbers (of NumPy or Python), which would be the same at every step")
        still = [c for c in tree.leaves(self.context) if not isinstance(c, Tensor)]
        changed = self.surroundings.changed(Surroundings(self.step, still))
        if changed is not None:
            refuse(
                f"the step changes what it closes over (`{changed}`), which happens once, as its program is written "
                "down, and not at every step; what changes from step to step belongs in the state"
            )
        if [(s.shape, s.dtype) for s in recording.new_state] != _kinds(self.init):
            return None
        if differentiate:
            leaves = [t for t in tree.leaves([self.xs, self.init, self.context]) if isinstance(t, Tensor)]
            if not any(t.node is not None for t in [*leaves, *(t for t, _ in recording.weights)]):
                recording = record(self.step, backends.numpy, xs, state, context, False)
        return Program(recording, self.surroundings.tensors, self.reverse)

    # Forward

    def run(self) -> tuple[Any, Any]:
        program, r = self.program, self.program.recording
        if not self.steps:
            nothing = iter([Tensor(np_empty(0, y)) for y in r.outs])
            return tree.map(lambda _: next(nothing), r.out_tree), self.init
        node: _Scan | None = None
        parents: list[Node] = []
        if program.backward is not None:
            leaves = [*self.x_leaves, *self.init_leaves, *self.context_leaves, *self.weights]
            parents = [t.node for t in leaves if t.node is not None]
        xs = [x.data for x in self.x_leaves]
        fixed = self._fixed()
        states: Any = [s.data for s in self.init_leaves]
        runs = []
        part = program.light if self.chunk is not None and parents else program.forward
        outs: list[Any] = []
        try:
            for lo, hi in self._chunks():
                given = {**fixed, **dict(zip(r.xs, xs if hi - lo == self.steps else [x[lo:hi] for x in xs]))}
                made, finals, _, saved, lease = part.run(hi - lo, given, dict(zip(r.state, states)))
                if hi - lo == self.steps:
                    outs = made
                else:
                    outs = outs or [np_empty(self.steps, y) for y in r.outs]
                    for whole, y in zip(outs, made):
                        whole[lo:hi] = y
                if parents:
                    runs.append((lo, hi, states, saved if part is program.forward else None, lease))
                states = [finals[s] for s in r.state]
        except IndexError as error:
            if isinstance(error, OutOfRangeError):
                raise
            raise OutOfRangeError(f"scan: in the step, {error}") from error
        except MemoryError as error:
            raise OutOfMemoryError(f"scan over {self.steps} steps", error) from error
        results = [*outs, *states]
        if parents:
            node = _Scan(tuple(parents), self, runs, fixed, xs)
            watch = watcher.get()
            if watch is not None:
                watch.made("scan", node, [*xs, *(s.data for s in self.init_leaves)], results)
        wrapped = [
            Tensor(y, None if node is None or not flows else Output(node, k, y.shape))
            for k, (y, flows) in enumerate(zip(results, r.differentiable or [False] * len(results)))
        ]
        values = iter(wrapped)
        return tree.map(lambda _: next(values), r.out_tree), tree.map(lambda _: next(values), r.state_tree)

    def _fixed(self) -> dict[Symbol, Any]:
        r = self.program.recording
        fixed = dict(zip(r.context, (c.data for c in self.context_leaves)))
        fixed.update((s, w.data) for (_, s), w in zip(r.weights, self.weights))
        fixed.update((s, array) for array, s in r.constants)
        return fixed

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Where the parts of the sequence begin and end, in the order in which they are run."""
        size = self.chunk or self.steps
        bounds = [(lo, min(lo + size, self.steps)) for lo in range(0, self.steps, size)]
        return iter(bounds[::-1] if self.reverse else bounds)

    # Backward

    def pull(self, g: dict[int, Any], runs: Any, fixed: dict[Symbol, Any], xs: list[Any]) -> list[Any]:
        """The cotangents of the leaves that need one, in the order of the node's parents."""
        program, r = self.program, self.program.recording
        part = program.backward
        assert part is not None
        n = len(r.outs)
        states: dict[Any, Any] = {
            c: g[n + k] if n + k in g else backends.numpy.zeros(c.shape, dtype=c.dtype)
            for k, c in enumerate(r.state_cotangents)
            if c is not None
        }
        x_symbols = [d for d in r.x_gradients if d is not None]
        whole_x: list[Any] = []
        totals: list[Any] = []
        for lo, hi, starts, saved, lease in reversed(runs):
            at = slice(lo, hi)
            x_now = dict(zip(r.xs, [x[at] for x in xs]))
            if saved is None:
                again = program.forward.run(hi - lo, {**fixed, **x_now}, dict(zip(r.state, starts)))
                saved, lease = again[3], again[4]
            given = {**fixed, **x_now, **dict(zip(program.keep, saved))}
            for k, c in enumerate(r.out_cotangents):
                if c is not None:
                    given[c] = g[k][at] if k in g else np_zeros((hi - lo, *c.shape), c.dtype)
            by_x, finals, sums, _, _ = part.run(hi - lo, given, states, lease)
            del saved, lease
            states = {c: finals[c] for c in states}
            if len(runs) == 1:
                whole_x = by_x
            else:
                whole_x = whole_x or [np_empty(self.steps, d) for d in x_symbols]
                for whole, y in zip(whole_x, by_x):
                    whole[at] = y
            totals = sums if not totals else [backends.numpy.asarray(a + b) for a, b in zip(totals, sums)]
        by_symbol = dict(zip(x_symbols, whole_x))
        sums_of = iter(totals)
        answers: list[Any] = []
        for x, d in zip(self.x_leaves, r.x_gradients):
            if x.node is not None:
                answers.append(None if d is None else by_symbol[d])
        for k, s in enumerate(self.init_leaves):
            if s.node is not None:
                answers.append(states.get(r.state_cotangents[k]))
        for t, d in zip([*self.context_leaves, *self.weights], [*r.context_gradients, *r.weight_gradients]):
            total = None if d is None else next(sums_of)
            if t.node is not None:
                answers.append(total)
        return answers

    def pull_traced(self, g: dict[int, Any]) -> list[Any]:
        """`pull`, recorded: the eager loop's graph is built and its rules are used."""

        def alias(t: Any) -> Any:
            if not isinstance(t, Tensor) or t.node is None:
                return t
            copy = Tensor(t.data, _Alias((t.node,), t.shape))
            targets.append(copy.node)
            return copy

        targets: list[Any] = []
        xs, init, context = tree.map(alias, self.xs), tree.map(alias, self.init), tree.map(alias, self.context)
        targets += [w.node for w in self.weights if w.node is not None]
        with enable_grad():
            results = tree.leaves(eager.loop(self.step, xs, init, context, self.reverse))
        seeds = [(y.node, g[k]) for k, y in enumerate(results) if k in g and y.node is not None]
        found = backpropagate(seeds, targets, traced=True)
        return [found.get(node) for node in targets]


class _Scan(Node):
    """The node of a call of scan. Its outputs, of all steps and the final state, follow as `Output`s."""

    __slots__ = ("call", "fixed", "runs", "xs")
    name = "scan"

    def __init__(self, parents: tuple[Node, ...], call: _Call, runs: Any, fixed: Any, xs: Any):
        super().__init__(parents, ())
        self.call, self.runs, self.fixed, self.xs = call, runs, fixed, xs

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        return self.call.pull_traced(g) if traced else self.call.pull(g, self.runs, self.fixed, self.xs)

    def unrolled(self) -> Sequence[Node | None]:
        with enable_grad():
            call = self.call
            return [y.node for y in tree.leaves(eager.loop(call.step, call.xs, call.init, call.context, call.reverse))]

    def release(self) -> None:
        self.parents, self.call, self.runs, self.fixed, self.xs = None, None, (), {}, []  # type: ignore[assignment]


def np_empty(steps: int, of_step: Any) -> Any:
    """An array for all steps, of the shape and dtype that the values of one have."""
    return backends.numpy.module.empty((steps, *of_step.shape), of_step.dtype)


def np_zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros that take no memory."""
    return backends.numpy.broadcast_to(backends.numpy.zeros((), dtype=dtype), shape)
