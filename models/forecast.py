"""Forecasting a series: an echo state network, Markov chains, autoregression and an LSTM on what comes next.

    python -m models.forecast                                       both tasks, under a minute
    python -m models.forecast --task mackey-glass --horizon 200     one of them, and further ahead
    python -m models.forecast --data FILE.csv --column price        a series of yours, and what comes after its end
    python -m models.forecast --cell gru --hidden 128 --units 1000  another trained network, a larger reservoir

mackey-glass  A chaotic series (Mackey and Glass 1977, delay 17). One step ahead is easy; what is measured is the free
              run, in which a model reads the series up to some point and then its own words, 84 steps on. Jaeger and
              Haas (Science 2004) came to an error of 10^-4.2 with a reservoir of 1,000 units.
narma10       A system of tenth order driven by noise (Atiya and Parlos 2000): inputs u are given, outputs y are asked
              for. The networks read nothing but u; whoever reads the y so far as well has an easier task. MA(p) is
              linear in the last p inputs, ARX(p) in the last p of both.

A Markov chain sorts values into bins, and answers with the mean of what followed the last one or two. AR(p) is linear
in the last p values. A reservoir is a recurrent network of random weights; its linear output alone is learned, in
closed form. The LSTM is trained throughout. All learn from the first 60% of a series; sizes are chosen by the error one
step ahead on the next 10%; the table is about the rest. Errors are root mean squares over the standard deviation:
whoever always answers the mean has 1.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

import minigrad as mg
from minigrad import data, nn, train
from minigrad.data import tasks
from models.command_line import CommandLine, fail, positive, table

LENGTH = 10_000  # of the tasks' series
WASHOUT = 100  # steps of the training part that nobody is fitted to: reservoirs are still forgetting where they began
CONTEXT, STARTS = 500, 50  # of free runs: the values read before each, and how many there are
ORDERS, BINS = (1, 2, 4, 8, 16, 32, 64), (10, 20, 50, 100, 200)  # of autoregressions and Markov chains, to choose from
RIDGES = (1e-9, 1e-6, 1e-3, 1.0)  # of reservoirs
RESERVOIRS: dict[str, dict[str, float]] = {  # found by a dozen trials of 300 units
    "mackey-glass": {"spectral_radius": 0.9, "leak": 0.5, "input_scale": 0.3, "bias_scale": 0.2},
    "data": {"spectral_radius": 0.9, "leak": 0.5, "input_scale": 0.3, "bias_scale": 0.2},
    "narma10": {"spectral_radius": 0.9, "leak": 1.0, "input_scale": 0.02, "bias_scale": 0.2},
}
WINDOW, UNSCORED, ROWS, UPDATES = 100, 30, 8, 200  # of training: windows, their first steps, a batch, an epoch

command = CommandLine("forecast", __doc__, data="CSV", cell="lstm", hidden=32, epochs=8, rate=1.5e-2)
command.add_argument("--column", metavar="NAME", help="of --data: a name, or a number from 0 (without: 0)")
command.add_argument("--task", choices=["mackey-glass", "narma10"], help="one of the two (without: both)")
command.add_argument("--horizon", type=positive(int), default=84, metavar="N", help="steps of a free run")
command.add_argument("--units", type=positive(int), default=400, metavar="N", help="of the reservoir")


# The series


class Series(NamedTuple):
    """What is known at each step, inputs (T, I), and what is asked, targets (T,); training has mean 0, variance 1."""

    name: str
    inputs: np.ndarray  # one column that is continued; or u, which drives, and the y before
    targets: np.ndarray
    valid: int  # where training ends and validation begins
    test: int  # where that ends and the test begins
    original: Callable[[np.ndarray], np.ndarray]  # targets in the units they came in

    @property
    def is_free(self) -> bool:
        """Whether the target is the next input, so that a model can go on by what it said."""
        return self.inputs.shape[1] == 1


def series(name: str, *columns: np.ndarray) -> Series:
    """Asks for the last column, one step ahead of itself; one before it drives it, and is known at the same time."""
    known = np.stack([*(column[1:] for column in columns[:-1]), columns[-1][:-1]], axis=1)
    valid, test = int(0.6 * len(known)), int(0.7 * len(known))
    means, deviations = known[:valid].mean(axis=0), known[:valid].std(axis=0)
    targets = (columns[-1][1:] - means[-1]) / deviations[-1]

    def original(ys: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return ys * deviations[-1] + means[-1]

    return Series(name, (known - means) / deviations, targets, valid, test, original)


def read_series(options: argparse.Namespace) -> Series:
    """The series in a file, if there is enough of it."""
    column = "0" if options.column is None else options.column
    values = data.read_column(options.data, column)
    least = max(300, math.ceil(2 * options.horizon / 0.3) + 1)
    if len(values) < least:
        fail(
            f"--data {options.data}: {len(values)} values are too few, --horizon {options.horizon} takes {least}"
            + (": twice the horizon in the last 30%; a lower one takes fewer" if least > 300 else "")
        )
    count = len(values) - 1
    for part, where in (("first 60%", values[: int(0.6 * count)]), ("last 30%", values[int(0.7 * count) + 1 :])):
        low, high = where.min(), where.max()
        with np.errstate(over="ignore"):
            if low == high or not 0 < where.std() < math.inf:
                fail(
                    f"--data {options.data}: column {column} must vary in its {part}, by amounts whose squares are "
                    f"neither 0 nor infinite; there it goes from {low:g} to {high:g}"
                )
    print(f"{options.data}: column {column}, {len(values):,} values, from {values.min():g} to {values.max():g}")
    return series("data", values)


# The models

Model = Callable[..., tuple[np.ndarray, Any]]  # xs (T, B, I), state=None -> the next value after each (T, B), state


def last_values(xs: np.ndarray, count: int) -> np.ndarray:
    """The last `count` steps at each step, newest first: xs (count - 1 + T, B, I) to (T, B, count, I)."""
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(xs, count, axis=0)[..., ::-1], -1, -2)


def remembering(order: int, predict: Callable[[np.ndarray], np.ndarray]) -> Model:
    """The model that sees the last `order` steps (T, B, order, I) and no more; before the first, the first again."""

    def read(xs: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        xs = np.concatenate([np.repeat(xs[:1], order - 1, axis=0) if state is None else state, xs])
        return predict(last_values(xs, order)), xs[len(xs) - order + 1 :]

    return read


def autoregression(task: Series, order: int, columns: slice) -> Model:
    """AR(p), y_t = a_1 y_{t-1} + ... + a_p y_{t-p} + c, by least squares; with several columns each has its terms."""

    def terms(last: np.ndarray) -> np.ndarray:
        flat = last[..., columns].reshape(*last.shape[:-2], -1)
        return np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], axis=-1)

    last = last_values(task.inputs[WASHOUT - order + 1 : task.valid, None], order)
    weights = np.linalg.lstsq(terms(last)[:, 0], task.targets[WASHOUT : task.valid], rcond=None)[0]
    return remembering(order, lambda last: terms(last) @ weights)


def markov(task: Series, order: int, bins: int) -> Model:
    """A Markov chain: values are sorted into bins of one width; the answer is the mean of what followed the last bins.

    Where these bins never followed each other, it is the answer of the next lower order.
    """
    seen = task.inputs[: task.valid, -1]
    edges = np.linspace(seen.min(), seen.max(), bins + 1)[1:-1]
    targets = task.targets[WASHOUT : task.valid]

    def context(last: np.ndarray) -> np.ndarray:
        """The number of a context: its newest bin is the last digit, in the base `bins`."""
        return np.searchsorted(edges, last[..., -1]) @ bins ** np.arange(last.shape[-2])

    means = targets.mean(keepdims=True)
    for k in range(1, order + 1):
        contexts = context(last_values(task.inputs[WASHOUT - k + 1 : task.valid, None], k)[:, 0])
        counts, sums = (np.bincount(contexts, weights, bins**k) for weights in (None, targets))
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.tile(means, bins))
    return remembering(order, lambda last: means[context(last)])


def network(net: nn.Module, dtype: str) -> Model:
    """The model that is a network, xs (T, B, 1) to ys (T, B, 1); it reads the first column."""

    @mg.no_grad()
    def read(xs: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        ys, state = net(mg.tensor(xs[..., :1].astype(dtype)), state)
        return ys.numpy()[..., 0], state

    return read


def echo_state(task: Series, options: argparse.Namespace) -> Model:
    """A reservoir, and the output that fits the training part, by the ridge that does best in validation."""
    mg.seed(options.seed)
    net = nn.EchoStateNetwork(1, options.units, 1, **RESERVOIRS[task.name])
    net.astype("float64")
    xs, ys = mg.tensor(task.inputs[: task.valid, None, :1]), mg.tensor(task.targets[: task.valid, None, None])
    model, errors = network(net, "float64"), {}
    for ridge in RIDGES:
        net.fit(xs, ys, washout=WASHOUT, ridge=ridge)
        errors[ridge] = valid_error(task, model)
    net.fit(xs, ys, washout=WASHOUT, ridge=min(RIDGES, key=errors.__getitem__))
    return model


class Trained(nn.Module):
    """xs (T, B, 1) to ys (T, B, 1): a recurrent layer and a linear one, which says the change of what is continued."""

    def __init__(self, cell: Callable[[int, int], nn.Cell], hidden: int, is_free: bool):
        self.recurrent = nn.Recurrent(cell, 1, hidden)
        self.output = nn.Linear(self.recurrent.output_size, 1)
        self.is_free = is_free

    def forward(self, xs: mg.Tensor, state: Any = None) -> tuple[mg.Tensor, Any]:
        hs, state = self.recurrent(xs, state)
        return (xs + self.output(hs) if self.is_free else self.output(hs)), state

    def loss(self, batch: tuple[np.ndarray, np.ndarray], state: Any) -> tuple[mg.Tensor, Any]:
        """The mean squared error but for the first steps, which know too little yet. Each window begins anew."""
        xs, targets = (mg.tensor(part) for part in batch)
        return mg.mse(self(xs)[0][UNSCORED:], targets[UNSCORED:]), None


def trained(task: Series, options: argparse.Namespace) -> tuple[Model, int]:
    """The network of --cell, trained on windows from anywhere in the training part, and its number of weights."""

    def windows(starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        where = starts + np.arange(length)[:, None]
        return task.inputs[where, :1].astype("float32"), task.targets[where, None].astype("float32")

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return windows(mg.random.generator().integers(0, task.valid - WINDOW + 1, ROWS), WINDOW)

    mg.seed(options.seed)
    net = Trained(command.cell(options.cell), options.hidden, task.is_free)
    valid = windows(np.array([task.valid - UNSCORED]), task.test - task.valid + UNSCORED)
    command.fit(
        options,
        net,
        net.loss,
        data.Drawn(draw, UPDATES),
        [valid],
        item="step",
        measure=train.Measure("% of the deviation", lambda mse: 100 * math.sqrt(mse)),
        about={"series": task.name},
        run=task.name,
    )
    return network(net, "float32"), net.num_parameters


# How good they are


def one_step(task: Series, model: Model, begin: int, end: int) -> np.ndarray:
    """What a model says for the steps from begin to end, each from all true values before it."""
    first = max(0, begin - CONTEXT)
    return model(task.inputs[first:end, None])[0][begin - first :, 0]


def valid_error(task: Series, model: Model) -> float:
    """The error one step ahead in validation."""
    return root_mean_square(one_step(task, model, task.valid, task.test) - task.targets[task.valid : task.test])


def free_run(model: Model, before: np.ndarray, steps: int) -> np.ndarray:
    """A model reads values (T, B), and then what it says itself: the steps after them (steps, B)."""
    with np.errstate(over="ignore", invalid="ignore"):  # a linear model may run off to infinity
        ys, state = model(before[..., None])
        said = [ys[-1]]
        while len(said) < steps:
            ys, state = model(said[-1][None, :, None], state)
            said.append(ys[-1])
    return np.stack(said)


def root_mean_square(values: np.ndarray) -> float:
    """The size of errors."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.mean(np.square(values, dtype="float64"))))


def free_run_error(task: Series, model: Model, horizon: int) -> float:
    """The error `horizon` steps ahead, over many places to start from in the test part."""
    starts = np.linspace(task.test, len(task.targets) - horizon, STARTS).astype(int)
    context = min(CONTEXT, task.test)
    before = task.inputs[starts + np.arange(1 - context, 1)[:, None], 0]
    return root_mean_square(free_run(model, before, horizon)[-1] - task.targets[starts + horizon - 1])


def contenders(task: Series, options: argparse.Namespace) -> Iterator[tuple[str, list[tuple[str, int, Model]]]]:
    """Of each kind of model what it reads, and its sizes to choose from: name, how many numbers it learns, model."""

    def linear(name: str, columns: slice) -> list[tuple[str, int, Model]]:
        terms = task.inputs[:, columns].shape[1]
        return [(f"{name}({p})", terms * p + 1, autoregression(task, p, columns)) for p in ORDERS]

    yield "y", [("last value", 0, remembering(1, lambda last: last[..., 0, -1]))]
    for order in (1, 2):
        yield "y", [(f"Markov, order {order}, {k} bins", k**order, markov(task, order, k)) for k in BINS]
    if not task.is_free:
        yield "u", linear("MA", slice(0, 1))
    yield "y" if task.is_free else "u, y", linear("AR" if task.is_free else "ARX", slice(None))
    reads = "y" if task.is_free else "u"
    yield reads, [(f"echo state, {options.units} units", options.units + 2, echo_state(task, options))]
    model, weights = trained(task, options)
    yield reads, [(f"{options.cell}, {options.hidden} units", weights, model)]


# The program


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if options.data is None:
        if options.column is not None:
            fail(f"--column {options.column}: is one of the file that --data names")
        if options.horizon > 0.15 * LENGTH:
            fail(f"--horizon {options.horizon}: at most {0.15 * LENGTH:.0f}, half of the part that is for the test")
        for name in [options.task] if options.task else ["mackey-glass", "narma10"]:
            mg.seed(options.seed)
            values = tasks.narma10(LENGTH + 1) if name == "narma10" else (tasks.mackey_glass(LENGTH + 1),)
            compare(series(name, *(column.ravel() for column in values)), options)
    else:
        if options.task is not None:
            fail(f"--task {options.task}: is a series that is made here; leave it out beside --data")
        compare(read_series(options), options)


def compare(task: Series, options: argparse.Namespace) -> None:
    """Fit all models to a series, print the table of their errors, and draw what they say."""
    valid, test, count = task.valid, task.test, len(task.targets)
    print(f"\n{task.name}: {valid:,} steps to learn from, {test - valid:,} to choose by, {count - test:,} to test")
    truth, whole = task.targets[test:], np.append(task.inputs[:, -1], task.targets[-1])
    shown = min(300, len(truth))
    rows, said, after = [], {}, {}
    begin = time.perf_counter()
    for reads, choices in contenders(task, options):
        name, learned, model = min(choices, key=lambda choice: valid_error(task, choice[-1]))
        seconds = time.perf_counter() - begin
        forecasts = one_step(task, model, test, count)
        errors = [root_mean_square(forecasts - truth)]
        if task.is_free:
            errors.append(free_run_error(task, model, options.horizon))
            forecasts = free_run(model, whole[max(0, test + 1 - CONTEXT) : test + 1, None], shown)[:, 0]
            after[name] = task.original(free_run(model, whole[-CONTEXT:, None], options.horizon)[:, 0])
        said[name] = task.original(forecasts[:shown])
        relative = [f"{e / truth.std():.5f}" if e < 100 * truth.std() else "diverged" for e in errors]
        rows.append([name, *[reads] * (not task.is_free), f"{learned:,}", *relative, f"{seconds:.1f} s"])
        begin = time.perf_counter()
    header = ["model", *["reads"] * (not task.is_free), "learned", "1 step"]
    header += [*[f"{options.horizon} steps"] * task.is_free, "time"]
    print(f"\n{task.name}: root mean square error / standard deviation\n\n{table(header, rows)}\n")
    command.show(options, f"{task.name}.png", draw(task, task.original(truth[:shown]), said, options.horizon))
    if options.data is not None:
        path = options.out / "forecast.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["step", *after], *zip(range(1, options.horizon + 1), *after.values())])
        print(f"{options.horizon} steps after the end of the series, by each model: {path}")


def draw(task: Series, truth: np.ndarray, said: dict[str, np.ndarray], horizon: int) -> Figure:
    """Each model's values below one another, before the true ones in grey; a line where the table measures."""
    height, margin = 0.9 + 1.1 * len(said), 0.25 * np.ptp(truth)
    low, high = truth.min() - margin, truth.max() + margin
    figure = Figure(figsize=(8, height), dpi=120)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.5 / height, top=1 - 0.6 / height, hspace=0.5)
    panels = figure.subplots(len(said), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    steps = np.arange(1, len(truth) + 1)
    for panel, (name, values) in zip(panels, said.items()):
        panel.plot(steps, truth, color="0.7", linewidth=3)
        panel.plot(steps, np.clip(values, low - margin, high + margin), color="black", linewidth=1)
        panel.set_title(name, loc="left", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        if task.is_free and horizon <= len(truth):
            panel.axvline(horizon, color="black", linestyle=":", linewidth=1)
    panels[0].set(ylim=(low, high), xlim=(0, len(truth)))
    panels[-1].set_xlabel("steps into the test part")
    how = f"left to itself; dotted: {horizon} steps" if task.is_free else "one step ahead"
    figure.suptitle(f"{task.name}, {how}; grey: the truth", x=0.01, ha="left", fontsize=11)
    return figure


if __name__ == "__main__":
    main()
