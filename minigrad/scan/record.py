"""Recording: one step, run on symbols, writes down its program; the ordinary backward pass then writes down its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .. import backends, tree
from ..errors import ArgumentError, GraphError
from ..graph import Leaf, Watcher, backpropagate, enable_grad, no_grad, watcher
from ..tensor import Tensor
from .eager import check_structure, pair
from .rewrite import RULES
from .symbols import CARRIED, EARLY, FIXED, Instruction, Symbol, infer, refuse

recording: ContextVar[Recorder | None] = ContextVar("recording", default=None)


class Recorder(Watcher):
    """Writes down what is done to its symbols. While it watches, whatever else an operation meets becomes a symbol.

    xp: the namespace of the arrays that the program will be run on.
    """

    def __init__(self, xp: Any):
        self.xp = xp
        self.writing = True
        self.instructions: list[Instruction] = []
        self.symbols: list[Symbol] = []
        self.outside: dict[int, tuple[Tensor, Symbol]] = {}  # tensors that the step closes over, by identity
        self.constants: dict[int, tuple[Any, Symbol]] = {}  # arrays that it closes over or makes
        self.checks: list[tuple[Symbol, int, str]] = []  # indices to be looked at, their range, and what they are
        self.cut: dict[Symbol, list[Symbol]] = {}  # see rewrite.product_of_parts
        self.padded: dict[Symbol, list[tuple[int, Symbol]]] = {}  # see rewrite.zeros_around
        self._zeros: dict[Any, Symbol] = {}
        self._known: dict[Any, Instruction] = {}

    def symbol(
        self, shape: tuple[int, ...], dtype: Any, level: int, role: str, instruction: Instruction | None = None
    ) -> Symbol:
        """A new symbol."""
        made = Symbol(self, tuple(shape), dtype, level, role, len(self.symbols), instruction)
        self.symbols.append(made)
        return made

    def constant(self, array: Any) -> Symbol:
        """The symbol of an array whose values are looked up at every call."""
        if id(array) not in self.constants:
            self.constants[id(array)] = array, self.symbol(array.shape, array.dtype, FIXED, "constant")
        return self.constants[id(array)][1]

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Symbol:
        """The symbol of an array of zeros."""
        if (shape, dtype) not in self._zeros:
            self._zeros[shape, dtype] = self.constant(self.xp.zeros(shape, dtype=dtype))
        return self._zeros[shape, dtype]

    def emit(self, name: str, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
        """Write an instruction down, unless an equal one is there. Answers with its output, or a list of outputs."""
        inputs = tuple([self.constant(i) if not isinstance(i, Symbol) and backends.is_array(i) else i for i in inputs])
        for rule in RULES.get(name, ()):
            better = rule(self, inputs, static)
            if better is not None:
                return better
        key = (name, *[_key(i) for i in inputs], *[(k, _key(v)) for k, v in static.items()])
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Instruction(name, inputs, static)
            level = max((s.level for s in known.symbols), default=FIXED)
            known.outputs = [self.symbol(*kind, level, name, known) for kind in infer(name, inputs, static)]
            self.instructions.append(known)
        return list(known.outputs) if name in ("split", "unstack") else known.outputs[0]

    def lift(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if type(value.data) is Symbol else Tensor(self.place(value), value.node)
        return self.constant(value) if backends.is_array(value) and type(value) is not Symbol else value

    def drawn(self) -> NoReturn:
        refuse("the step draws random numbers, which would be the same at every step")

    def place(self, tensor: Tensor) -> Symbol:
        """The symbol of a tensor. One from outside gets a new one, whose value is looked up at every call."""
        if type(tensor.data) is Symbol:
            return tensor.data
        if tensor.node is not None and not isinstance(tensor.node, Leaf):
            raise GraphError(
                f"scan: the step closes over a tensor of shape {tensor.shape} that was computed (by "
                f"`{tensor.node.name}`) and needs a gradient; pass it in context=(...), so that the gradient can flow"
            )
        if id(tensor) not in self.outside:
            backends.require_same("scan", [tensor.data, self.xp.zeros(())])
            self.outside[id(tensor)] = tensor, self.symbol(tensor.shape, tensor.dtype, FIXED, "weight")
        return self.outside[id(tensor)][1]


def _key(value: Any) -> Any:
    """A static value or an input, to look equal ones up by."""
    if isinstance(value, (tuple, list)):
        return tuple(_key(v) for v in value)
    if isinstance(value, slice):
        return slice, value.start, value.stop, value.step
    return value if isinstance(value, Symbol) else (type(value), repr(value) if isinstance(value, float) else value)


@dataclass
class Recording:
    """What one step does, forward and backward, in symbols. The lists follow the leaves of the trees.

    state and new_state are the states before and after the step. A cotangent or gradient is None where there is none.
    Gradients by the state belong to the state before the step, state cotangents to that after it.
    """

    xs: list[Symbol] = field(default_factory=list)
    state: list[Symbol] = field(default_factory=list)
    context: list[Symbol] = field(default_factory=list)
    weights: list[tuple[Any, Symbol]] = field(default_factory=list)
    constants: list[tuple[Any, Symbol]] = field(default_factory=list)
    checks: list[tuple[Symbol, int, str]] = field(default_factory=list)
    out_tree: Any = None
    state_tree: Any = None
    outs: list[Symbol] = field(default_factory=list)
    new_state: list[Symbol] = field(default_factory=list)
    forward: list[Instruction] = field(default_factory=list)
    out_cotangents: list[Symbol | None] = field(default_factory=list)
    state_cotangents: list[Symbol | None] = field(default_factory=list)
    x_gradients: list[Symbol | None] = field(default_factory=list)
    state_gradients: list[Symbol | None] = field(default_factory=list)
    context_gradients: list[Symbol | None] = field(default_factory=list)
    weight_gradients: list[Symbol | None] = field(default_factory=list)
    backward: list[Instruction] = field(default_factory=list)
    differentiable: list[bool] = field(default_factory=list)  # of outs and new_state, whether a gradient can flow


@dataclass
class Kind:
    """What is known of an array before the call: the shape of one step, the dtype, and whether it needs a gradient."""

    shape: tuple[int, ...]
    dtype: Any
    needs_grad: bool


def record(step: Callable[..., Any], xp: Any, xs: Any, state: Any, context: Any, differentiate: bool) -> Recording:
    """Run `step(x, state, *context)` on symbols in the place of each `Kind` in these trees; then its backward pass."""
    recorder = Recorder(xp)

    def place(values: Any, level: int, role: str) -> tuple[Any, list[Tensor]]:
        leaves: list[Tensor] = []

        def make(kind: Any) -> Any:
            if not isinstance(kind, Kind):
                return kind
            symbol = recorder.symbol(kind.shape, kind.dtype, level, role)
            wanted = differentiate and kind.needs_grad and kind.dtype in xp.floating
            leaves.append(Tensor(symbol, Leaf(symbol.shape) if wanted else None))
            return leaves[-1]

        return tree.map(make, values), leaves

    x_tree, x_leaves = place(xs, EARLY, "x")
    state_tree, state_leaves = place(state, CARRIED, "state")
    context_tree, context_leaves = place(context, FIXED, "context")
    tokens = watcher.set(recorder), recording.set(recorder)
    try:
        with enable_grad() if differentiate else no_grad():
            out, new_state = pair(step(x_tree, state_tree, *context_tree))
            check_structure(state_tree, new_state)
            outs = [_tensor(recorder, y) for y in tree.leaves(out)]
            news = [_tensor(recorder, y) for y in tree.leaves(new_state)]
        made = Recording(
            xs=[x.data for x in x_leaves],
            state=[s.data for s in state_leaves],
            context=[c.data for c in context_leaves],
            checks=recorder.checks,
            out_tree=tree.map(lambda leaf: 0, out),
            state_tree=tree.map(lambda leaf: 0, new_state),
            outs=[y.data for y in outs],
            new_state=[y.data for y in news],
            forward=recorder.instructions,
        )
        if differentiate:
            recorder.instructions = []
            for s in recorder.symbols:  # for the backward pass everything that the forward pass has made is there
                s.level = min(s.level, EARLY)
            made.out_cotangents = [_cotangent(recorder, y, EARLY) for y in outs]
            made.state_cotangents = [_cotangent(recorder, y, CARRIED) for y in news]
            cotangents = [*made.out_cotangents, *made.state_cotangents]
            seeds = [(y.node, g) for y, g in zip(outs + news, cotangents) if y.node is not None]
            found = backpropagate(seeds)  # type: ignore[arg-type]

            def gradients(tensors: Sequence[Tensor]) -> list[Symbol | None]:
                return [found.get(t.node) if t.node is not None else None for t in tensors]

            made.x_gradients, made.state_gradients = gradients(x_leaves), gradients(state_leaves)
            for k, g in enumerate(made.state_cotangents):  # a state that nothing flows back to
                if g is not None and made.state_gradients[k] is None:
                    made.state_gradients[k] = recorder.constant(xp.zeros(g.shape, dtype=g.dtype))
            made.differentiable = [y.node is not None for y in outs + news]
            made.context_gradients = gradients(context_leaves)
            made.weight_gradients = gradients([t for t, _ in recorder.outside.values()])
            made.backward = recorder.instructions
    finally:
        recorder.writing = False
        watcher.reset(tokens[0])
        recording.reset(tokens[1])
    made.weights, made.constants = list(recorder.outside.values()), list(recorder.constants.values())
    recorder.outside, recorder.constants, recorder._known = {}, {}, {}  # a program must not hold a network's weights
    return made


def _tensor(recorder: Recorder, value: Any) -> Tensor:
    """What a step returns, as a tensor of a symbol."""
    if isinstance(value, (bool, int, float)):
        value = backends.as_array(value, "int64" if type(value) is int else None, recorder.xp)
    if not isinstance(value, Tensor) and not backends.is_array(value):
        raise ArgumentError(
            f"scan: a step returns tensors, in nested tuples, lists or dicts, and not a {type(value).__name__}"
        )
    lifted = recorder.lift(value)
    return lifted if isinstance(lifted, Tensor) else Tensor(lifted)


def _cotangent(recorder: Recorder, y: Tensor, level: int) -> Symbol | None:
    floating = y.dtype in recorder.xp.floating
    return recorder.symbol(y.shape, y.dtype, level, "cotangent") if floating else None
