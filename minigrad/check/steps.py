"""Checks of a cell's steps: what they take and return, that they keep nothing, and that rows are apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import backends, nn, tree
from ..errors import ArgumentError, GraphError
from ..graph import no_grad, watcher
from ..scan import eager
from ..tensor import Tensor
from .findings import PURE, Mistake, Note, differ, place, words_of
from .trial import Trial, at_rows, axis_of_rows, by_network, name_of, of_rows, paths, prepared
from .watching import Noise, attributes, changed


def initial_state(trial: Trial) -> str:
    """Its structure, shapes and kinds are those that a step returns, and no row depends on how many there are."""
    xs, _ = trial.inputs()
    batch = xs.shape[1]
    counts = sorted({1, batch, batch + 2})
    first: list[Tensor] = []
    for n in counts:
        cell = trial.raw()
        fresh = _try(trial, f"initial_state({n})", partial(cell.initial_state, n))
        names, leaves = paths(fresh, "state"), tree.leaves(fresh)
        for name, leaf in zip(names, leaves):
            if not isinstance(leaf, Tensor):
                raise Mistake(
                    f"{name} of initial_state({n}) is {leaf!r:.40}, a {type(leaf).__name__} and no tensor",
                    "The state is a tensor or nested tuples of tensors: self.zeros(batch_size) or "
                    'mg.zeros((batch_size,), dtype="int64") makes one for each row.',
                    blocks=True,
                )
            if leaf.ndim and leaf.shape[0] != n:
                raise Mistake(
                    f"{name} of initial_state({n}) has shape {leaf.shape}, which has not {n} rows",
                    "Every part of the state has the rows of the batch as its first axis: (batch_size, ...).",
                    blocks=True,
                )
        first = first or leaves
        for name, one, leaf in zip(names, first, leaves):
            if len(first) != len(leaves) or not _rows_alike(one.numpy(), leaf.numpy()):
                raise Mistake(
                    f"{name} of initial_state({n}) has rows unlike that of initial_state(1)",
                    "Each row begins by itself, whatever the batch size; noise, and numbers that differ from row "
                    "to row, are handed in as the state of a call.",
                    blocks=True,
                )
        _step_returns(trial, cell, n, fresh)
    rowless = [name for name, leaf in zip(paths(fresh, "state"), tree.leaves(fresh)) if not leaf.ndim]
    if rowless:
        raise Note(f"{', '.join(rowless)} has no rows: it goes on past the end of a row, and over a reset")
    many = f"{len(first)} tensor{'s' * (len(first) != 1)}"
    return f"{many}, each row that of batch size 1; tried with {', '.join(map(str, counts[:-1]))} and {counts[-1]} rows"


def _rows_alike(one: np.ndarray, many: np.ndarray) -> bool:
    """Whether each row is like that of a batch of one."""
    if one.shape[1:] != many.shape[1:]:
        return False
    return np.array_equal(many, np.broadcast_to(one, many.shape), equal_nan=many.dtype.kind == "f")


def _step_returns(trial: Trial, cell: nn.Cell, n: int, fresh: Any) -> None:
    """The state after a step of n rows is one like that before it."""
    out, state = _step(trial, cell, n, fresh)
    size = _try(trial, "output_size", lambda: cell.output_size)
    order = "A step returns (out, state), in this order; this one seems to return (state, out)."
    swapped = order if _are_swapped(fresh, out, state, size) else ""
    try:
        eager.check_structure(fresh, state)
    except ArgumentError as error:
        raise Mistake(str(error).removeprefix("scan: "), swapped, blocks=True) from None
    for name, before, after in zip(paths(fresh, "state"), tree.leaves(fresh), tree.leaves(state)):
        if not isinstance(after, Tensor):
            raise Mistake(
                f"{name} of a step's state is {after!r:.40}, a {type(after).__name__} and no tensor",
                "A step returns tensors: a number would be the same for all rows, and have no gradient.",
                blocks=True,
            )
        if before.shape != after.shape:
            raise Mistake(
                f"{name} has shape {before.shape} in initial_state({n}), and {after.shape} after a step",
                swapped or "The state keeps its shapes from step to step; one of the two is wrong.",
                blocks=True,
            )
        kinds = backends.kind_of(before.data), backends.kind_of(after.data)
        both = name_of(before), name_of(after)
        if both[0] != both[1] and kinds != ("float", "float"):  # of floats, see `dtypes`
            raise Mistake(
                f"{name} is {both[0]} in initial_state({n}), and {both[1]} after a step",
                "A part of the state keeps its dtype: .astype(...) of what the step returns, or another dtype to begin "
                "with.",
                blocks=True,
            )


def _are_swapped(fresh: Any, out: Any, state: Any, size: int) -> bool:
    """Whether what came as the output is like the state before the step, and what came as the state an output."""
    if not isinstance(state, Tensor):
        return False
    try:
        eager.check_structure(fresh, out)
    except ArgumentError:
        return False
    if not isinstance(out, Tensor):
        return True
    return out.shape == fresh.shape != state.shape == (*fresh.shape[:1], size)


def _step(trial: Trial, cell: nn.Cell, n: int, state: Any) -> Any:
    """One step with n rows."""
    xs, memory = trial.inputs()
    rows = np.arange(n) % xs.shape[1]
    dtype = "float64" if trial.dtypes == ["float64"] else "float32"
    x = Tensor(xs[:, rows].astype(dtype) if xs.dtype.kind == "f" else xs[:, rows])

    def fitted(m: Any) -> Any:
        m = of_rows(m, rows, xs.shape[1])
        return m.astype(dtype) if isinstance(m, Tensor) and backends.is_floating(m.data) else m

    def step() -> Any:
        parts, context = prepared(cell, x, tree.map(fitted, memory))
        return eager.pair(cell(tree.map(lambda part: part[0], parts), state, *context))

    with no_grad():
        return _try(trial, f"a step with {n} row{'s' * (n > 1)}", step)


def _try(trial: Trial, what: str, call: Callable[[], Any]) -> Any:
    """What the call returns; a mistake, with what the cell was given, if it raises."""
    try:
        return call()
    except Exception as error:
        xs, _ = trial.inputs()
        about = f"It was given inputs like {xs.dtype}{list(xs.shape[1:])}."
        if not isinstance(error, (NameError, GraphError)):  # which other inputs could mend
            about += (
                " A cell of tokens, or of another shape, needs check_cell(cell, xs=...); one that attends to a memory, "
                "memory=..."
            )
        raise Mistake(
            f"{what} raised {type(error).__name__}", *words_of(error), about, trial.ambiguity, blocks=True
        ) from error


def output(trial: Trial) -> str:
    """One tensor (B, output_size), finite over a sequence."""
    xs, _ = trial.inputs()
    size = _try(trial, "output_size", lambda: trial.raw().output_size)
    for n in sorted({1, xs.shape[1], xs.shape[1] + 2}):
        cell = trial.raw()
        out, _ = _step(trial, cell, n, cell.initial_state(n))
        if not isinstance(out, Tensor):
            raise Mistake(
                f"the output is a {type(out).__name__} and no tensor",
                "A cell's output is one tensor (B, output_size); a step with several outputs is run by mg.scan.",
                blocks=True,
            )
        if out.shape[:1] != (n,):
            raise Mistake(f"the output of {n} rows has shape {out.shape}", f"It is to be ({n}, {size}).", blocks=True)
        if out.shape != (n, size):
            raise Mistake(
                f"the output of {n} rows has shape {out.shape}, and output_size says ({n}, {size})",
                "The layer above is built by output_size: define that property to be what forward returns.",
            )
    over = by_network()
    run = _try(trial, "a sequence", lambda: trial.run(trial.copy(), trial.point(), over))
    named = [*run.values.items(), *((f"the gradient by {name}", g) for name, g in run.gradients.items())]
    for name, y in named:
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(y))[0])
            raise Mistake(
                f"{place(name, index)} is {y[index]}, with ordinary inputs",
                "`with mg.detect_anomaly():` names the operation that makes the first one.",
                blocks=True,
            )
    return f"(B, {size}), finite over {xs.shape[0]} steps"


# What a call may do


def nothing_kept(trial: Trial) -> str:
    """A call leaves the cell as it was, draws no noise in a step, and has no effect on the next call."""
    point, other = trial.point(0), trial.point(1)
    for training in (False, True):
        cell = trial.copy(training=training)
        before = attributes(cell)
        with no_grad():
            watch = Noise()
            token = watcher.set(watch)
            try:
                trial.forward(cell, point, trial.variables(cell, point), watch.over)
            finally:
                watcher.reset(token)
        trial.noisy = trial.noisy or (watch.in_prepare and not training)
        if watch.where:
            raise Mistake(
                "the step draws random numbers" + " in training" * training,
                f"It does at {watch.where}.",
                "Compiled, they would be the same at every step. Draw them in prepare, for all steps at once, and "
                "hand them on with xs.",
                blocks=True,
            )
        what = changed(before, attributes(cell))
        if what:
            raise Mistake(f"a call changes the cell: {what}", PURE, blocks=True)
    cell, over = trial.copy(), by_network()
    first = trial.run(cell, point, over)
    trial.run(cell, other.of_rows(slice(0, 1), 2), over)
    again = trial.run(cell, point, over)
    _, difference = differ(first, again, 1e-12)
    if difference:
        raise Mistake(
            f"the same call gives other numbers the second time: {difference}",
            PURE + " Random numbers are drawn with mg.random, in prepare.",
            blocks=True,
        )
    return "a call leaves the cell as it was, and no trace in the next"


def rows_apart(trial: Trial) -> str:
    """No row has an effect on another: in values, as it is changed, and in gradients."""
    over = by_network()
    point, other = trial.point(0), trial.point(1)
    batch, cell = point.batch, trial.copy()
    whole = trial.run(cell, point, over)
    cotangents = trial.cotangents(whole.values)
    changed_rows = range(batch) if batch <= 4 else (0, batch // 2, batch - 1)
    cause = (
        "Something in forward or prepare is taken over the batch: a mean, a norm or a softmax over the first axis, or "
        "a reshape that moves rows. Rows are sequences of their own: use axis=-1."
    )
    for r in changed_rows:
        others = [b for b in range(batch) if b != r]
        moved = trial.run(cell, point.with_row(r, other), over)
        for name, y in whole.values.items():
            at = (slice(None), others) if name == "out" else (others,) if y.ndim else ()
            if at and y.dtype.kind == "f":
                off = np.abs(y - moved.values[name])[at]
                wrong = ~(off <= 1e-12 * max(1e-3, float(np.abs(y).max(initial=0.0))))
                if wrong.any():
                    step, row = _first(wrong, at, others)
                    what = f"`{name}` of row {row}{step} changes with the inputs and state of row {r}"
                    raise Mistake(what, cause, trial.ambiguity)
            elif at and (y != moved.values[name])[at].any():
                what = f"`{name}` of other rows changes with the inputs and state of row {r}"
                raise Mistake(what, cause, trial.ambiguity)
        only = {n: _only(w, r, n == "out") for n, w in cotangents.items() if w.ndim}
        pulled = trial.run(cell, point, over, only)
        for name, g in pulled.gradients.items():
            axis = 1 if name == "xs" else axis_of_rows(g, batch)
            if axis is not None and name.startswith(("xs", "state", "memory")):
                rows = g[at_rows(others, axis)]
                if (rows != 0).any():
                    raise Mistake(
                        f"the results of row {r} have a gradient by {name} of another row, up to "
                        f"{np.abs(rows).max():.2g}",
                        cause,
                        trial.ambiguity,
                    )
    return f"no row of {batch} has an effect on another, forward or backward"


def _only(w: np.ndarray, row: int, is_out: bool) -> np.ndarray:
    """These numbers in one row, and 0 in the others."""
    kept = np.zeros_like(w)
    at = (slice(None), row) if is_out else (row,)
    kept[at] = w[at]
    return kept


def _first(wrong: np.ndarray, at: tuple[Any, ...], others: list[int]) -> tuple[str, int]:
    """The step and the row of the first entry that is wrong."""
    index = np.argwhere(wrong)[0]
    if len(at) == 2:
        return f" at step {index[0]}", others[int(index[1])]
    return "", others[int(index[0])]
