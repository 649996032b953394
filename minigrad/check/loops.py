"""Checks of where and how a cell runs: dtypes, backends, the compiled loop, reversed, with padding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from .. import backends, nn, ops, random, tree
from ..errors import BackendUnavailableError, RecordingError
from ..graph import no_grad, watcher
from ..tensor import Tensor
from .findings import Mistake, Note, close, differ, words_of
from .trial import Arrays, Point, Run, Trial, at_rows, axis_of_rows, by_network, by_scan, name_of, paths, prepared
from .watching import Other

_ROUNDING = 1e-10  # of the largest entry: two orders of computing the same in float64 over a short sequence


def dtypes(trial: Trial) -> str:
    """With weights of float32 everything is float32, with float64 float64."""
    if len(trial.dtypes) > 1:
        raise Mistake(
            f"the weights have several dtypes: {', '.join(trial.dtypes)}",
            "Weights of one dtype give results of that; nn.init makes them float32.",
        )
    for dtype in ("float32", "float64") if trial.dtypes else ("float32",):
        cell, watch = trial.copy(dtype=dtype), Other(dtype)
        fresh = cell.initial_state(2)
        for name, leaf in zip(paths(fresh, "state"), tree.leaves(fresh)):
            if backends.is_floating(leaf.data) and name_of(leaf) != dtype:
                raise Mistake(
                    f"with weights of {dtype}, {name} of initial_state is {name_of(leaf)}",
                    "self.zeros(batch_size, size) has the dtype and backend of the weights.",
                )
        token = watcher.set(watch)
        try:
            found = trial.run(cell, trial.point(), by_network(), dtype=dtype)
        finally:
            watcher.reset(token)
        for name, got in found.dtypes.items():
            if got.startswith("float") and got != dtype:
                raise Mistake(
                    f"with {'weights' if trial.dtypes else 'inputs'} of {dtype}, `{name}` is {got}",
                    watch.found,
                    "A Python number takes the dtype of what it meets, and so does a tensor in the dtype of the "
                    "weights; NumPy's arrays are float64.",
                )
    return "float32 stays float32, and float64 float64" if trial.dtypes else "float32 stays float32"


def as_on_numpy(trial: Trial) -> str:
    """On other backends a cell gives the values and gradients of NumPy."""
    names = []
    expected = trial.run(trial.copy(), trial.point(), by_network())
    for name in _other_backends():
        with backends.use(name):
            try:
                found = trial.run(trial.copy(backend=name), trial.point(), by_network())
            except Exception as error:
                raise Mistake(
                    f"on {name}, {type(error).__name__} was raised",
                    *words_of(error),
                    "Operations are those of mg and of tensors; constants are tensors that are attributes of the "
                    "cell, which cell.to(backend) moves.",
                ) from error
        _, difference = differ(expected, found, 1e-9)
        if difference and trial.noisy and not _draws_as_numpy(name):
            raise Note(f"prepare draws noise, and {name} may draw other numbers than NumPy: {difference}")
        if difference:
            raise Mistake(f"{name} and NumPy give different numbers: {difference}")
        names.append(name)
    if not names:
        return "only NumPy is here, nothing to compare with"
    return f"{', '.join(names)}: the values and gradients of NumPy"


def compiled_loop(trial: Trial) -> str:
    """The compiled loop equals the eager one, with lengths and without, in training and out of it."""
    point, worst = trial.point(), 0.0
    for training in (False, True):
        for lengths in (None, _lengths(point)[0]):
            cell = trial.copy(training=training)
            expected = trial.run(cell, point, by_network("eager", lengths))
            try:
                found = trial.run(cell, point, by_network("compiled", lengths))
            except RecordingError as error:
                raise Mistake("the step cannot be compiled", *words_of(error)) from None
            off, difference = differ(expected, found, _ROUNDING)
            if difference:
                raise Mistake(
                    f"it differs from the eager loop{' in training' * training}: {difference}",
                    "The step is called once to be compiled: is it a pure function of its arguments and weights?",
                )
            worst = max(worst, off)
    trial.compiles = True
    return f"equals the eager loop, in values and gradients, to {worst:.1e}"


def reversal(trial: Trial) -> str:
    """A reversed loop is the loop over the flipped sequence, flipped."""
    point = trial.point()
    unroll = "compiled" if trial.compiles else "eager"
    cell = trial.copy()
    flipped = trial.run(cell, point, by_scan(flip=True))
    found = trial.run(cell, point, by_scan(reverse=True, unroll=unroll))
    off, difference = differ(flipped, found, _ROUNDING)
    if difference:
        raise Mistake(
            f"a reversed loop is not that over the flipped sequence: {difference}",
            "Something in the step goes by the order of the calls and not by its state.",
        )
    backwards = Point(point.xs[::-1].copy(), point.moves, point.memory, point.weights)
    sides = []
    for p in (point, backwards):
        xs = Tensor(p.xs)
        with no_grad(), random.seed(0):
            parts, context = prepared(cell, xs, p.memory)
        turned = tree.map(lambda part: ops.flip(part, axis=0), parts) if p is point else parts
        sides.append([leaf.numpy() for leaf in tree.leaves([turned, context]) if isinstance(leaf, Tensor)])
    if not all(a.shape == b.shape and close(a, b, 1e-12) for a, b in zip(*sides)):
        if trial.noisy:
            raise Note("prepare draws noise for all steps at once, so whether it goes by their place cannot be told")
        raise Note("prepare goes by the place of a step in the sequence, so the direction matters to it")
    return f"reversed is flipped, to {off:.1e}"


def padding(trial: Trial) -> str:
    """With lengths, and NaN in the padding, each row is as it is alone, and so are the gradients."""
    point = trial.point()
    cell = trial.copy()
    whole = trial.run(cell, point, by_network())
    cotangents = trial.cotangents(whole.values)
    for name, w in cotangents.items():
        if not w.ndim:
            cotangents[name] = np.zeros(())  # what has no rows goes on past their end
    unlike: Mistake | None = None
    for lengths in _lengths(point):
        found = _padded(trial, cell, point, lengths, cotangents)
        try:
            _as_alone(trial, cell, point, lengths, cotangents, found)
        except Mistake as mistake:
            if not trial.noisy:
                raise
            unlike = mistake
    if unlike:
        raise Note(
            "NaN behind the end of a row has no effect; whether rows are as they are alone cannot be told, since "
            "prepare draws noise for all rows at once"
        )
    return "rows of unequal length are as they are alone; NaN behind their end has no effect"


_CAUSE = (
    "Up to its length a row must be as it is alone. If prepare looks at other steps (a mean over "
    "time), it looks at the padding, which Recurrent fills with the last valid input: do it in the step instead."
)


def _padded(trial: Trial, cell: nn.Cell, point: Point, lengths: list[int], cotangents: Arrays) -> Run:
    """The run with rows of these lengths; whatever the padding holds has no effect on it, and no gradient."""
    past = np.arange(point.xs.shape[0])[:, None] >= np.array(lengths)
    wide = past.reshape(*past.shape, *(1,) * (point.xs.ndim - 2))
    fill = np.nan if point.xs.dtype.kind == "f" else trial.point(1).xs
    dirty = Point(np.where(wide, fill, point.xs), point.moves, point.memory, point.weights)
    found = trial.run(cell, dirty, by_network("eager", lengths), cotangents)
    if trial.noisy:  # else rows alone say so too
        _, difference = differ(trial.run(cell, point, by_network("eager", lengths), cotangents), found, _ROUNDING)
        if difference:
            raise Mistake(f"what stands in the padding has an effect: {difference}", _CAUSE, trial.ambiguity)
    if "xs" in found.gradients and (found.gradients["xs"][past] != 0).any():
        raise Mistake("the padding of xs has a gradient that is not 0", _CAUSE)
    return found


def _as_alone(trial: Trial, cell: nn.Cell, point: Point, lengths: list[int], cotangents: Arrays, found: Run) -> None:
    """Whether in the run that was found, rows of these lengths are as they are alone."""
    ambiguities = trial.ambiguity, trial.ambiguity_of_steps
    alone_sum = {name: np.zeros_like(g) for name, g in found.gradients.items()}
    with_rows = [name for name, y in found.values.items() if name != "out" and y.ndim]
    for b, n in enumerate(lengths):
        pull = {name: w[b : b + 1] if w.ndim else w for name, w in cotangents.items() if name != "out"}
        if "out" in cotangents:
            pull["out"] = cotangents["out"][:n, b : b + 1]
        alone = trial.run(cell, point.of_rows(slice(b, b + 1), n), by_network(), pull)
        where = f"of row {b}, which has {n} of {len(point.xs)} steps,"
        pairs = {name: (found.values[name][b], alone.values[name][0]) for name in with_rows}
        if n:
            pairs["out"] = found.values["out"][:n, b], alone.values["out"][:, 0]
        for name, (padded, single) in pairs.items():
            if not close(padded, single, _ROUNDING):
                raise Mistake(f"`{name}` {where} is not what it is alone", _CAUSE, *ambiguities)
        for name, g in alone.gradients.items():
            if name == "xs":
                alone_sum[name][:n, b] = g[:, 0]
            elif g.shape != alone_sum[name].shape:  # the rows of a state or a memory
                axis = axis_of_rows(alone_sum[name], point.batch) or 0
                alone_sum[name][(slice(len(g)), b) if axis else b] = g[at_rows(0, axis)]
            else:
                alone_sum[name] += g
    scale = max([1e-3, *(float(np.abs(g).max(initial=0.0)) for g in alone_sum.values())])
    for name, g in alone_sum.items():
        if not (np.abs(g - found.gradients[name]) <= 1e-9 * scale).all():
            what = f"with lengths, the gradient by {name} is not the sum of those of the rows alone"
            raise Mistake(what, _CAUSE, *ambiguities)


def _other_backends() -> Iterator[str]:
    """The names of the backends there are besides NumPy."""
    with contextlib.suppress(BackendUnavailableError):
        backends.get("cupy")
    yield from [name for name in backends._by_name if name != "numpy"]


def _draws_as_numpy(name: str) -> bool:
    """Whether noise on this backend is that of NumPy."""
    source = backends.get(name)
    return np.array_equal(source.to_numpy(source.random(0, (8,))), backends.numpy.random(0, (8,)))


def _lengths(point: Point) -> list[list[int]]:
    """How long the rows are, some nothing and some all of it."""
    steps, batch = point.xs.shape[:2]
    kinds = [0, steps, (steps + 1) // 2]
    lengths = [[kinds[b % 3] for b in range(batch)]]
    return lengths if batch > 2 else [*lengths, [(steps + 1) // 2, steps]]
