"""Gradients on their way back through time: how large they are at each step, and what bounds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import copy_context
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import backends, graph, nn, ops, random, tree
from .errors import ArgumentError, GraphError, ShapeError
from .tensor import Tensor, seed_cotangent


class GradientFlow(dict[str, np.ndarray]):
    """The norms by name, each an array (T,) of float64; printed, a table.

    reverse: the names of the parts that run from the last step to the first, whose gradients flow forward in time.
    """

    def __init__(self, norms: Mapping[str, np.ndarray], reverse: Collection[str] = ()):
        super().__init__(norms)
        self.reverse = frozenset(reverse)

    def ratio(self, name: str) -> float:
        """The norm at the first step taken, by that at the last step with a gradient; NaN if no step has one.

        Below 1 the gradient has shrunk on its way back, above 1 it has grown.
        """
        norms = self[name][::-1] if name in self.reverse else self[name]
        some = np.flatnonzero(norms)
        return float(norms[0]) / float(norms[some[-1]]) if some.size else float("nan")

    def __repr__(self) -> str:
        width = max([18, *(len(name) + 1 for name in self)])
        lines = []
        for steps in sorted({len(norms) for norms in self.values()}):
            times = sorted({round(part * (steps - 1) / 4) for part in range(5)})
            title = f"|dL/ds_t|, T = {steps}"
            lines.append(f"{title:{width}}" + "".join(f"{f't = {t}':>10}" for t in times) + "  first/last")
            for name, norms in self.items():
                if len(norms) == steps:
                    shown = "".join(f"{norms[t]:10.3g}" for t in times)
                    ratio = f"{self.ratio(name):12.3g}" if norms.any() else f"{'-':>12}"
                    lines.append(f"{name:{width}}{shown}{ratio}{'  in reverse' if name in self.reverse else ''}")
        return "\n".join(lines)


def gradient_flow(net: nn.Module, xs: Any, loss: Callable[..., Tensor], **arguments: Any) -> GradientFlow:
    """The norm of dL/ds_t for each step t: how much the loss depends on what a recurrent cell knew at that time.

    Backpropagation through time takes the gradient from step t + 1 to step t by a factor, the Jacobian matrix
    J = ds_{t+1} / ds_t, and from the last step to the first by the product of them all. Where the factors shrink it,
    the gradient *vanishes*, in most cases exponentially: the loss then says nothing about what happened many steps
    ago, and the network does not learn to remember it. Where they stretch it, it *explodes*: one step of gradient
    descent throws the weights far away; `optim.clip_by_norm` is for that.

    What bounds a factor is its largest singular value, `spectral_norm`: |g J| <= |J| |g|. For an Elman network,
    J = diag(tanh') W_h, and tanh' <= 1, so that the gradient shrinks at least as fast as |W_h|^n in n steps:

        spectral norm of W_h < 1      enough for it to vanish
        spectral norm of W_h > 1      needed for it to explode, and not enough (Pascanu et al. 2013)

    Texts that put the largest eigenvalue there (`spectral_radius`) are right for symmetric W_h alone. In general it is
    smaller than the norm, and bounds nothing: powers of [[0.9, 10], [0, 0.9]] first grow to 38.7. It says how
    the powers of one matrix behave in the end, as radius^n; that is a linear network after many steps. With tanh even a
    large radius need not explode, since units that saturate have tanh' near 0.

    net: a Recurrent, or a module that holds some: as attributes, also in lists, tuples, dicts and modules below.
    xs: what the net is called with, `net(xs, **arguments)`: state, lengths, reset, memory and whatever it takes.
    loss: a function of what the net returns, to one element. Several results are several arguments, so that it is
        `loss(outs, state)` for a Recurrent, and `loss(logits)` for a model that returns logits alone.

    Returns a dict that prints as a table: an array (T,) for each layer, direction and part of the state that is of
    floats. The names are as those of the parameters: `cells.0.1.h` is the state that `cells.0.1.weight_hh` acts on, of
    the first layer in reverse. A state of one tensor is h, that of an LSTM h and c; the parts of a dict or named tuple
    have their names, others are counted: state.0, state.1. If a cell is run several times, its steps follow each other.

    The norm is over features and the batch together: Frobenius, of (B, H). It is 0 after the end of a row that
    `lengths` ends, and where nothing of the loss comes after. In reverse the last step taken is that at t = 0.

    The table shows it at five steps. Its last column, first/last, is `flow.ratio(name)`: the norm at the first step,
    t = 0, by that at the last step that has a gradient. In reverse, where t = T - 1 is taken first, it is the other
    way round: the norm at t = T - 1 by that at the smallest t that has a gradient. Below 1 the gradient shrinks on its
    way back, above 1 it grows.

    dL/ds_t is the whole derivative by the state that step t hands on: through all later steps, and through output t
    where that is a part of the state or computed from it. The parts are coordinates of one state: c_t of an LSTM acts
    through what comes later, and through h_t only where h_t is not a part itself.

    The steps run one by one, whatever `unroll` says, which takes longer than training does. The net is copied, but for
    its weights: their gradients, the net and the stream of random numbers stay as they are. Noise is as in the net's
    next call.

    Raises ArgumentError if no Recurrent runs or the loss cannot be called so, GraphError if the loss does not depend on
    the net.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Recurrent(nn.LSTMCell, 3, 8)
    >>> flow = mg.gradient_flow(net, mg.ones((50, 4, 3)), lambda outs, state: outs[-1].sum())
    >>> flow
    |dL/ds_t|, T = 50 ... first/last
    cells.0.0.h ...
    cells.0.0.c ...
    >>> flow["cells.0.0.c"].shape
    (50,)
    """
    return copy_context().run(_measure, net, xs, loss, arguments)  # what is set in there stays in there


def _measure(net: nn.Module, xs: Any, loss: Callable[..., Tensor], arguments: dict[str, Any]) -> GradientFlow:
    if not isinstance(net, nn.Module):
        raise ArgumentError(f"gradient_flow: net must be a Module, got a {type(net).__name__}")
    copied = _Copy()
    probed, probes = copied.of(net), copied.probes
    if not probes:
        raise ArgumentError(
            f"gradient_flow: {type(net).__name__} holds no Recurrent, as an attribute or in a list, tuple, dict or "
            "module; a cell becomes one by nn.Recurrent(cell)"
        )
    random.set_state(random.get_state())  # a stream of its own, from where the other stands
    watch = graph.watcher.get()
    if watch is None or not watch.looks_inside:
        graph.watcher.set(graph.Watcher())  # loops then run step by step
    with graph.enable_grad():
        result = probed(nn.detach(xs), **nn.detach(arguments))
        steps = [step for probe in probes.values() for step in probe.steps]
        if not steps:
            raise ArgumentError("gradient_flow: no Recurrent of the net has taken a step")
        value = _called(loss, result)
        if value.node is None:
            raise GraphError("gradient_flow: the loss does not depend on what the net computes; was it detached?")
        seed = seed_cotangent("gradient_flow", value, None)
        targets = [node for step in steps for node in step.targets()]
        found = graph.backpropagate([(value.node, seed.data)], targets, retain=True)
    if len(steps) < sum(len(probe.steps) for probe in probes.values()):
        raise ArgumentError("gradient_flow: mg.remat around a Recurrent hides its steps; remat='sqrt' of it does not")
    norms: dict[str, np.ndarray] = {}
    reverse: list[str] = []
    for name, probe in probes.items():
        if probe.steps:
            table = np.array([step.norms(found) for step in probe.in_time()])
            parts = zip(probe.part_names(), probe.steps[0].new_zeros, table.T)
            own = {f"{name}.{part}": column for part, zero, column in parts if zero is not None}
            norms |= own
            reverse += own if probe.runs_in_reverse else []
    return GradientFlow(norms, reverse)


def _called(loss: Callable[..., Tensor], result: Any) -> Tensor:
    """The loss of what the net returned."""
    results = result if type(result) is tuple else (result,)
    try:
        inspect.signature(loss).bind(*results)
    except TypeError as error:
        count = f"{len(results)} results, such as (outs, state)" if len(results) > 1 else "one result"
        raise ArgumentError(
            f"gradient_flow: the net returned {count}, and loss must take as many arguments; {error}"
        ) from None
    except ValueError:  # a function that does not say what it takes
        pass
    value = loss(*results)
    if not isinstance(value, Tensor):
        raise ArgumentError(f"gradient_flow: loss must return a tensor of one element, got a {type(value).__name__}")
    return value


class _Copy:
    """A module again, with the same weights and a probe around each cell of each Recurrent in it."""

    def __init__(self) -> None:
        self.probes: dict[str, _Probe] = {}  # by the names of their cells
        self._made: dict[int, tuple[Any, Any]] = {}  # by identity, with the original, whose address stays taken

    def of(self, value: Any, name: str = "") -> Any:
        """The copy of a module, or of a list, tuple or dict, wherever it stands; anything else is itself."""
        if id(value) in self._made:
            return self._made[id(value)][1]
        prefix = f"{name}." if name else ""
        new: Any
        if isinstance(value, tuple) and any(isinstance(part, _HOLDERS) for part in value):
            parts = [self.of(part, f"{prefix}{i}") for i, part in enumerate(value)]
            new = type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        elif isinstance(value, (nn.Module, list, dict)):
            new = copy(value)
            self._made[id(value)] = value, new  # before its parts, which may lead back to it
            held: Any = vars(new) if isinstance(value, nn.Module) else new
            for key in range(len(held)) if isinstance(held, list) else list(held):
                held[key] = self.of(held[key], f"{prefix}{key}")
        else:
            return value
        self._made[id(value)] = value, new
        if isinstance(value, nn.Recurrent):
            new.cells = tuple(tuple(_Probe(cell) for cell in layer) for layer in new.cells)
            for i, layer in enumerate(new.cells):
                self.probes |= {f"{prefix}cells.{i}.{j}": probe for j, probe in enumerate(layer)}
        return new


_HOLDERS = (nn.Module, list, tuple, dict)


class _Probe(nn.Modifier):
    """A cell to whose output and new state 0 is added at each step, so that a gradient by them can be asked for."""

    def __init__(self, cell: nn.Cell):
        super().__init__(cell)
        self.steps: list[_Step] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "cell" not in vars(self):
            raise AttributeError(name)
        return getattr(self.cell, name)  # a model may look at its cell's weights

    def prepare(self, xs: Any, memory: Any = None) -> tuple[Any, tuple[Any, ...]]:
        self.calls += 1
        first = tree.leaves(xs)[0]
        parts, context = super().prepare(xs, memory)
        return (parts, ops.arange(first.shape[0], backend=first.backend)), context

    def forward(self, x: Any, state: Any, *context: Any) -> tuple[Any, Any]:
        x, t = x
        x, state = tree.map(_with_node, x), tree.map(_with_node, state)
        result = self.cell(x, state, *context)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)):
            return result  # and Recurrent says what is wrong
        step = _Step((self.calls, int(t)), *result, inputs=tree.leaves((x, state, context)))
        self.steps.append(step)
        zeros = iter(step.new_zeros)
        new_state = tree.map(lambda new: new if (zero := next(zeros)) is None else new + zero, step.new_state)
        return step.out if step.out_zero is None else step.out + step.out_zero, new_state

    def part_names(self) -> list[str]:
        """The names of all parts of the state, in order."""
        state, cell = self.steps[0].new_state, self.cell
        while isinstance(cell, nn.Modifier):
            cell = cell.cell
        if isinstance(state, Tensor):
            return ["h"]
        if isinstance(cell, nn.LSTMCell) and len(tree.leaves(state)) == 2:
            return ["h", "c"]
        return _names(state, "state" if not isinstance(state, dict) and not hasattr(state, "_fields") else "")

    @property
    def runs_in_reverse(self) -> bool:
        last = [step for step in self.steps if step.time[0] == self.steps[-1].time[0]]
        return last[0].time > last[-1].time

    def in_time(self) -> list[_Step]:
        """The steps by call, and in each by time."""
        return sorted(self.steps, key=lambda step: step.time)


@dataclass
class _Step:
    """What a cell made in one step, before and after 0 was added."""

    time: tuple[int, int]  # the call, and t
    out: Tensor
    new_state: Any
    inputs: list[Any]
    new: list[Any] = field(init=False)
    new_zeros: list[Tensor | None] = field(init=False)
    out_zero: Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        self.new = tree.leaves(self.new_state)
        self.new_zeros, self.out_zero = [_zero(leaf) for leaf in self.new], _zero(self.out)

    def targets(self) -> list[graph.Node]:
        zeros = (*self.new_zeros, self.out_zero)
        return [zero.node for zero in zeros if zero is not None and zero.node is not None]

    def norms(self, found: Mapping[Any, Any]) -> list[float]:
        """The norm of dL/ds_t for each part of the state: through what the state was handed on to, and the output."""
        shown = None if self.out_zero is None else found.get(self.out_zero.node)
        by_out: Mapping[Any, Any] = {}
        if shown is not None and self.out.node is not None:
            # No further than this step: to the parts of the new state, and to what the step was given.
            ends = [end.node for end in (*self.new, *self.inputs) if isinstance(end, Tensor)]
            stops = [node for node in ends if node is not None]
            by_out = graph.backpropagate([(self.out.node, shown)], stops, retain=True)
        norms = []
        for leaf, zero in zip(self.new, self.new_zeros):
            ways = [] if zero is None else [found.get(zero.node), shown if leaf is self.out else by_out.get(leaf.node)]
            norms.append(_norm([way for way in ways if way is not None]))
        return norms


def _zero(value: Any) -> Tensor | None:
    """Zeros in the shape of a tensor of floats, by which a derivative can be taken; None for anything else."""
    if not isinstance(value, Tensor) or not backends.is_floating(value.data):
        return None
    zero = ops.zeros(value.shape, dtype=value.dtype, backend=value.backend)
    zero.requires_grad = True
    return zero


def _with_node(value: Any) -> Any:
    """A tensor of floats that is in the graph, so that what is computed from it is too."""
    if isinstance(value, Tensor) and value.node is None and backends.is_floating(value.data):
        value = value.detach()
        value.requires_grad = True
    return value


def _norm(arrays: list[Any]) -> float:
    """The norm of a sum. Scaled, as squares would overflow or vanish long before the numbers do."""
    if not arrays:
        return 0.0
    total = sum(backends.namespace_of(a).to_numpy(a).astype(np.float64) for a in arrays)
    largest = float(np.max(np.abs(total), initial=0.0))
    return largest * float(np.linalg.norm(total / largest)) if 0 < largest < np.inf else largest


def _names(state: Any, prefix: str) -> list[str]:
    """The names of the parts of a nest: its keys, fields and numbers, joined by dots."""
    if isinstance(state, dict):
        pairs = list(state.items())
    elif isinstance(state, (tuple, list)):
        pairs = list(zip(getattr(state, "_fields", range(len(state))), state))
    else:
        return [] if state is None else [prefix]
    return [name for key, part in pairs for name in _names(part, f"{prefix}.{key}" if prefix else str(key))]


def spectral_norm(matrix: Any) -> float:
    """The largest singular value of a matrix: by how much it can stretch a vector, |A v| <= |A| |v|.

    matrix: a tensor or array (M, N). In float64. Raises ArgumentError if it is none, or not finite.

    >>> import minigrad as mg
    >>> round(mg.spectral_norm([[0.9, 10.0], [0.0, 0.9]]), 3)
    10.08
    """
    a = _matrix("spectral_norm", matrix)
    return float(np.linalg.norm(a, 2)) if a.size else 0.0


def spectral_radius(matrix: Any) -> float:
    """The largest |eigenvalue| of a square matrix: how its powers behave in the end, |A^n|^(1/n) -> radius.

    Never above the spectral norm, and equal to it for symmetric matrices. See `gradient_flow` for what that means.

    matrix: a tensor or array (H, H). In float64. Raises ShapeError if it is not square, ArgumentError if it is no
        matrix, or not finite. The recurrent weights of a cell with gates, (G*H, H), hold one matrix for each gate.

    >>> import minigrad as mg
    >>> mg.spectral_radius([[0.9, 10.0], [0.0, 0.9]])
    0.9
    """
    a = _matrix("spectral_radius", matrix)
    rows, columns = a.shape
    if rows != columns:
        raise ShapeError(
            f"spectral_radius: only a square matrix has eigenvalues, this is {a.shape}; of the gates stacked in the "
            "weights (G*H, H) of a cell take one: weight[:H], or mg.split(weight, G)[k]"
        )
    return float(np.max(np.abs(np.linalg.eigvals(a)))) if a.size else 0.0


def _matrix(function: str, given: Any) -> np.ndarray:
    if isinstance(given, nn.Module):
        raise ArgumentError(f"{function}: expected a matrix, got a {type(given).__name__}; give one of its weights")
    array = given.data if isinstance(given, Tensor) else given
    try:
        array = backends.namespace_of(array).to_numpy(array) if backends.is_array(array) else np.asarray(array)
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{function}: expected a matrix, got a {type(given).__name__}: {error}") from None
    if array.ndim != 2:
        raise ArgumentError(f"{function}: expected a matrix, got the shape {array.shape}")
    if not np.isfinite(array).all():
        raise ArgumentError(f"{function}: the matrix holds NaN or infinity")
    return array
