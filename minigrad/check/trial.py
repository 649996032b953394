"""A cell on trial: copies of it, points to try it at, and runs whose values and gradients can be compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backends, nn, ops, random, tree
from ..graph import no_grad
from ..scan import scan
from ..tensor import Tensor, tensor

Arrays = dict[str, np.ndarray]


@dataclass
class Point:
    """Where a cell is tried, in float64 on NumPy.

    moves: for each part of the state, what is added to that of `initial_state`; a part of integers is set to it.
    memory: as the user gave it, with tensors in float64.
    weights: the values of the parameters, by name.
    """

    xs: np.ndarray
    moves: list[np.ndarray]
    memory: Any
    weights: Arrays

    @property
    def batch(self) -> int:
        """The number of rows."""
        return self.xs.shape[1]

    def of_rows(self, rows: Any, steps: int | None = None) -> Point:
        """These rows alone, up to a step. What has no rows stays whole."""

        def part(m: Any) -> Any:
            has_time = isinstance(m, (Tensor, np.ndarray)) and m.shape[:2] == self.xs.shape[:2]
            return of_rows(m[:steps] if has_time else m, rows, self.batch)

        moves, memory = [m[rows] if m.ndim else m for m in self.moves], tree.map(part, self.memory)
        return Point(self.xs[:steps, rows], moves, memory, self.weights)

    def with_row(self, row: int, other: Point) -> Point:
        """With this row as it is in another point."""

        def put(own: np.ndarray, value: np.ndarray, axis: int = 0) -> np.ndarray:
            own = own.copy()
            own[at_rows(row, axis)] = value[at_rows(row, axis)]
            return own

        def put_memory(own: Any, value: Any) -> Any:
            axis = axis_of_rows(own, self.batch)
            if axis is None:
                return own
            return Tensor(put(own.data, value.data, axis)) if isinstance(own, Tensor) else put(own, value, axis)

        xs = self.xs.copy()
        xs[:, row] = other.xs[:, row]
        moves = [put(a, b) if a.ndim else a for a, b in zip(self.moves, other.moves)]
        return Point(xs, moves, tree.map(put_memory, self.memory, other.memory), self.weights)


def axis_of_rows(value: Any, batch: int) -> int | None:
    """Where this part of a memory has the rows of the batch: first, or second after the time; None if it has none."""
    if not isinstance(value, (Tensor, np.ndarray)) or batch not in value.shape[:2]:
        return None
    return value.shape.index(batch)


def at_rows(rows: Any, axis: int) -> tuple[Any, ...]:
    """The index of these rows."""
    return (slice(None),) * axis + (rows,)


def of_rows(value: Any, rows: Any, batch: int) -> Any:
    """These rows of a part of a memory; what has none is whole."""
    axis = axis_of_rows(value, batch)
    return value if axis is None else value[at_rows(rows, axis)]


@dataclass
class Run:
    """Values and gradients by name, as NumPy's arrays, and what dtypes they had."""

    values: Arrays
    gradients: Arrays
    dtypes: dict[str, str] = field(default_factory=dict)


class Trial:
    """Copies of a cell, and points to try them at; everything is drawn from one seed."""

    def __init__(self, cell: nn.Cell, xs: Any, memory: Any, steps: int, batch_size: int, seed: int):
        self._cell, self._seed = cell, seed
        self.dtypes = sorted({name_of(p) for p in cell.parameters()})
        if xs is None:
            shape = (steps, batch_size, cell.input_size)
            self._xs = [np.random.default_rng([seed, k]).normal(size=shape) for k in range(4)]
        else:
            given = np.array(xs.numpy() if isinstance(xs, Tensor) else _sequence(xs))
            self._xs = [given.astype("float64") if given.dtype.kind == "f" else given]
            for k in range(1, 4):
                rng = np.random.default_rng([seed, k])
                mixed = given.reshape(-1, *given.shape[2:])[rng.permutation(given.shape[0] * given.shape[1])]
                mixed = mixed.reshape(given.shape)
                self._xs.append(nudged(mixed.astype("float64"), rng) if given.dtype.kind == "f" else mixed)
        self._memory = tree.map(_in_float64, _with_arrays(memory))
        self._points: dict[int, Point] = {}
        self.used: set[str] = set()  # the weights that have had a gradient that is not 0
        self.noisy = False  # whether `prepare` has been seen to draw noise out of training
        self.compiles = False  # whether the compiled loop has been found to be right

    @property
    def ambiguity(self) -> str:
        """What to say of a failure where the rows of a memory may have been taken for its steps; "" if they cannot."""
        batch = self._xs[0].shape[1]
        shapes = [m.shape[:2] for m in tree.leaves(self._memory) if isinstance(m, (Tensor, np.ndarray))]
        if (batch, batch) not in shapes:
            return ""
        return (
            f"There is a memory whose two first axes are both of {batch}, as many as xs has rows, and the first was "
            "taken to be the rows: let its steps differ."
        )

    @property
    def ambiguity_of_steps(self) -> str:
        """What to say where a memory may have been cut with the steps of xs for no reason; "" if none was."""
        shapes = [m.shape[:2] for m in tree.leaves(self._memory) if isinstance(m, (Tensor, np.ndarray))]
        if self._xs[0].shape[:2] not in shapes:
            return ""
        return (
            "There is a memory that begins with the steps and rows of xs, and was cut with its steps: if it has steps "
            "of its own, let its steps differ."
        )

    def unlearned(self) -> list[str]:
        """The tensors of the cell that ask for a gradient and are no parameters, as its code names them."""
        tensors = self._cell.named_tensors().items()
        return [f"self.{name}" for name, t in tensors if t.requires_grad and not isinstance(t, nn.Parameter)]

    def raw(self) -> nn.Cell:
        """A copy just as the cell is, on NumPy and out of training."""
        made = copy.deepcopy(self._cell)
        made.to("numpy").eval()
        for p in made.parameters():
            p.requires_grad = True  # also of what the user has frozen
        return made

    def copy(self, k: int = 0, dtype: str = "float64", backend: str = "numpy", training: bool = False) -> nn.Cell:
        """A copy with the weights of point k."""
        made, weights = self.raw(), self.weights(k)
        for name, value in made.named_tensors().items():
            if isinstance(value, nn.Parameter):
                value.data = weights[name].astype(dtype)
            elif backends.is_floating(value.data) and (dtype == "float64" or self.dtypes == ["float64"]):
                value.data = value.data.astype(dtype)
        made.to(backend).train(training)
        return made

    def weights(self, k: int) -> Arrays:
        """The cell's own weights, a little moved: what begins as zeros would hide what it is multiplied with."""
        rng = np.random.default_rng([self._seed, k, 1])
        own = [(name, p.detach().to("numpy").data.astype("float64")) for name, p in self._cell.named_parameters()]
        return {name: nudged(value, rng) for name, value in own}

    def inputs(self, k: int = 0) -> tuple[np.ndarray, Any]:
        """The sequence and the memory of point k."""
        rng = np.random.default_rng([self._seed, k, 2])

        def moved(m: Any) -> Any:
            return Tensor(nudged(m.data, rng)) if isinstance(m, Tensor) and backends.is_floating(m.data) else m

        return self._xs[k], tree.map(moved, self._memory) if k else self._memory

    def point(self, k: int = 0) -> Point:
        """Point k. Its state is one that the cell comes to of itself, a little moved: any other may be out of reach."""
        if k not in self._points:
            rng = np.random.default_rng([self._seed, k, 3])
            cell, (xs, memory) = self.copy(k), self.inputs(k)
            before, _ = self.inputs(k + 1 if k < 3 else 0)
            with no_grad(), random.seed(self._seed):
                _, state = nn.Recurrent(cell, unroll="eager")(Tensor(before), memory=memory)
                fresh = cell.initial_state(xs.shape[1])
            moves = []
            for start, end in zip(tree.leaves(fresh), tree.leaves(state)):
                reached = np.array(end.numpy())
                floats = backends.is_floating(end.data)
                moves.append(nudged(reached, rng) - start.numpy() if floats else reached)
            self._points[k] = Point(xs, moves, memory, self.weights(k))
        return self._points[k]

    # Runs

    def variables(self, cell: nn.Cell, point: Point, dtype: str = "float64") -> dict[str, Tensor]:
        """Everything that a run can be differentiated by, by name: new tensors, and the weights of the cell."""
        backend = backend_of(cell)
        named: dict[str, Tensor] = {}
        if point.xs.dtype.kind == "f":
            named["xs"] = tensor(point.xs, dtype=dtype, backend=backend)
        for name, m in zip(paths(cell.initial_state(1), "state"), point.moves):
            if m.dtype.kind == "f":
                named[name] = tensor(m, dtype=dtype, backend=backend)
        for name, m in zip(paths(point.memory, "memory"), tree.leaves(point.memory)):
            if isinstance(m, Tensor) and backends.is_floating(m.data):
                named[name] = tensor(m, dtype=dtype, backend=backend)
        return named | weights_of(cell)

    def forward(
        self, cell: nn.Cell, point: Point, values: dict[str, Tensor], over: Callable[..., Any]
    ) -> dict[str, Tensor]:
        """The outputs and the final state of `over(cell, xs, state, memory)`, by name."""
        backend, batch = backend_of(cell), point.batch
        xs = values["xs"] if "xs" in values else tensor(point.xs, backend=backend)
        fresh = cell.initial_state(batch)
        names = iter(paths(fresh, "state"))
        moves = iter(point.moves)

        def start(leaf: Tensor) -> Tensor:
            name, move = next(names), next(moves)
            return leaf + values[name] if name in values else tensor(move, dtype=name_of(leaf), backend=backend)

        parts = iter(paths(point.memory, "memory"))

        def part(m: Any) -> Any:
            name = next(parts)
            return values.get(name, m.to(backend) if isinstance(m, Tensor) else m)

        state = tree.map(start, fresh)
        memory = tree.map(part, point.memory)
        with random.seed(self._seed):
            outs, final = over(cell, xs, state, memory) if point.xs.shape[0] else (None, state)
        found = {} if outs is None else {"out": outs}
        return found | dict(zip(paths(final, "state"), tree.leaves(final)))

    def run(
        self,
        cell: nn.Cell,
        point: Point,
        over: Callable[..., Any],
        pull: Arrays | None = None,
        dtype: str = "float64",
    ) -> Run:
        """Values, and the gradients of the sum of what `pull` names, weighted with its numbers (all if it is None)."""
        variables = self.variables(cell, point, dtype)
        for v in variables.values():
            v.requires_grad = True
            v.grad = None
        results = self.forward(cell, point, variables, over)
        if pull is None:
            pull = self.cotangents(results)
        total: Any = None
        for name, w in pull.items():
            if name in results and backends.is_floating(results[name].data):
                y = results[name]
                term = (y * tensor(w, dtype=name_of(y), backend=y.backend)).sum()
                total = term if total is None else total + term
        if total is not None and total.requires_grad:
            total.backward()
        grads = {name: v.grad for name, v in variables.items()}
        gradients = {n: np.zeros(variables[n].shape) if g is None else np.array(g.numpy()) for n, g in grads.items()}
        dtypes = {name: name_of(y) for name, y in results.items()}
        dtypes |= {f"the gradient of {name}": name_of(g) for name, g in grads.items() if g is not None}
        return Run({name: np.array(y.numpy()) for name, y in results.items()}, gradients, dtypes)

    def cotangents(self, results: dict[str, Any]) -> Arrays:
        """Random numbers of magnitude 0.5 to 1.5 for each result that is of floats."""
        rng = np.random.default_rng([self._seed, 4])
        return {
            name: rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape)
            for name, y in results.items()
            if str(y.dtype).rpartition(".")[2].startswith("float")
        }


# How a cell is run: `over(cell, xs, state, memory)`


def by_network(unroll: str = "eager", lengths: Sequence[int] | None = None) -> Callable[..., Any]:
    """By `Recurrent`."""

    def over(cell: nn.Cell, xs: Tensor, state: Any, memory: Any) -> Any:
        return nn.Recurrent(cell, unroll=unroll)(xs, state, lengths=lengths, memory=memory)

    return over


def by_scan(*, reverse: bool = False, flip: bool = False, unroll: str = "eager") -> Callable[..., Any]:
    """By `scan` of what `prepare` makes; flip: from the last step to the first, by turning the sequence around."""

    def over(cell: nn.Cell, xs: Tensor, state: Any, memory: Any) -> Any:
        def turned(parts: Any) -> Any:
            return tree.map(lambda part: ops.flip(part, axis=0), parts) if flip else parts

        def step(x: Any, state: Any, *context: Any) -> Any:
            return cell(x, state, *context)

        parts, context = prepared(cell, xs, memory)
        outs, final = scan(step, turned(parts), state, context, reverse=reverse, unroll=unroll)
        return turned(outs), final

    return over


def prepared(cell: nn.Cell, xs: Tensor, memory: Any) -> Any:
    """What the cell makes of a whole sequence."""
    return cell.prepare(xs) if memory is None else cell.prepare(xs, memory)


# Small things


def nudged(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each number changed by up to a tenth, and every zero a little above it: signs and ranges stay what they are."""
    return np.where(x == 0, rng.uniform(0.02, 0.1, x.shape), x * rng.uniform(0.9, 1.1, x.shape))


def weights_of(cell: nn.Cell) -> dict[str, Tensor]:
    """The parameters of a cell, as its code names them."""
    return {f"self.{name}": p for name, p in cell.named_parameters()}


def paths(part: Any, name: str) -> list[str]:
    """The names of a tree's leaves: "state", "state[0]", "state['h'][1]"."""
    if isinstance(part, dict):
        return [path for key, value in part.items() for path in paths(value, f"{name}[{key!r}]")]
    if isinstance(part, (tuple, list)):
        return [path for i, value in enumerate(part) for path in paths(value, f"{name}[{i}]")]
    return [] if part is None else [name]


def name_of(value: Tensor) -> str:
    """The name of its dtype."""
    return backends.dtype_name(value.dtype)


def backend_of(cell: nn.Cell) -> str:
    """Where the cell's weights are; new tensors are made there, where it has none."""
    first = next(iter(cell.parameters()), None)
    return backends.current().name if first is None else first.backend


def _sequence(xs: Any) -> np.ndarray:
    """An array, or nested lists of numbers, as an array; whole numbers (T, B) are tokens."""
    tokens = isinstance(xs, (list, tuple)) and (found := _as_numbers(xs)) is not None and found.dtype.kind == "i"
    dtype = "int64" if tokens and np.ndim(xs) == 2 else None
    return np.asarray(backends.as_array(xs, dtype, backends.numpy))


def _with_arrays(part: Any) -> Any:
    """A memory in which each list of numbers is an array, and no longer a tree of leaves."""
    if isinstance(part, list) and (found := _as_numbers(part)) is not None:
        return found
    if isinstance(part, dict):
        return {key: _with_arrays(value) for key, value in part.items()}
    if isinstance(part, (tuple, list)):
        parts = [_with_arrays(value) for value in part]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)
    return part


def _as_numbers(nested: Any) -> np.ndarray | None:
    """Nested lists of numbers as an array of int64, float32 or bool; None if they hold anything else, or are ragged."""
    if not tree.leaves(nested) or not all(isinstance(leaf, _NUMBERS) for leaf in tree.leaves(nested)):
        return None
    try:
        found = np.array(nested)
    except ValueError:
        return None
    dtypes = {"b": "bool", "i": "int64", "f": "float32"}
    return found.astype(dtypes[found.dtype.kind]) if found.dtype.kind in dtypes else None


_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


def _in_float64(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    leaf = leaf.detach().to("numpy")
    return leaf.astype("float64") if backends.is_floating(leaf.data) else leaf
