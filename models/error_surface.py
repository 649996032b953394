"""The error surface of one recurrent unit: why gradients explode, what the cliff does to descent, what clipping saves.

    python -m models.error_surface                       both experiments: 1000 steps of w, and the cliff at 50 steps
    python -m models.error_surface --steps 5             a shorter network has a gentler cliff
    python -m models.error_surface --rate 0.1 --clip 1   other descents

First the toy: a linear unit y_t = w y_{t-1} with y_0 = 1. After 1000 steps y is w^1000: 1 for w = 1, about 20,000 for
w = 1.01, nothing for 0.99, and its gradient is 1000 times larger still. No learning rate suits both sides.

Then the unit of Pascanu, Mikolov and Bengio (2013, figure 6): h_t = w sigmoid(h_{t-1}) + b from h_0 = 0.5, whose output
sigmoid(h_T) is to be 0.7 after T = 50 steps. Its error over (w, b) is two plains with a cliff between them: where the
unit goes over from one stable state to another. Gradient descent comes down the gentle plain to the edge and goes along
it, from one side to the other; where a step happens to end on the cliff itself, the gradient there throws it out of
sight, unless it is clipped. Descents from many places show how often.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn, optim, viz
from models.command_line import CommandLine, fail, positive, table

H0, TARGET = 0.5, 0.7
W, B = (4.4, 7.0), (-3.4, -2.0)  # the part of the plane that is shown
CLIPPING: dict[str, Callable[[list[mg.Tensor], float], object]] = {
    "no clipping": lambda parameters, limit: None,
    "clipped by value": optim.clip_by_value,
    "clipped by norm": optim.clip_by_norm,
}

command = CommandLine("error_surface", __doc__)
command.add_argument("--steps", type=positive(int), default=50, metavar="T", help="of the unit with the cliff")
command.add_argument("--toy-steps", type=positive(int), default=1000, metavar="T", help="of the linear unit")
command.add_argument("--descents", type=positive(int), default=12, metavar="N", help="from places drawn at random")
command.add_argument("--rate", type=positive(float), default=0.5, metavar="R", help="of gradient descent")
command.add_argument("--clip", type=positive(float), default=0.1, metavar="C", help="the largest gradient, if clipped")
command.add_argument("--updates", type=positive(int), default=300, metavar="N", help="steps of gradient descent")
command.add_argument("--points", type=positive(int), default=160, metavar="N", help="of the grid, in each direction")


def power(w: mg.Tensor, steps: int) -> mg.Tensor:
    """y_T of the linear unit, y_t = w y_{t-1} from y_0 = 1: w (N,) to (N,), float64, as a recurrent network does it."""

    def step(x: mg.Tensor, y: mg.Tensor, w: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        y = w * y + x
        return y, y

    return mg.scan(step, mg.zeros((steps, 1), dtype="float64"), mg.ones(w.shape, dtype="float64"), context=(w,))[1]


def error(w: mg.Tensor, b: mg.Tensor, steps: int) -> mg.Tensor:
    """(sigmoid(h_T) - 0.7)^2 of as many units as w (N,) and b (N,) have values, side by side: (N,), float64."""

    def step(x: mg.Tensor, h: mg.Tensor, w: mg.Tensor, b: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = w * mg.sigmoid(h) + b + x
        return h, h

    h0 = mg.full(w.shape, H0, dtype="float64")
    _, h = mg.scan(step, mg.zeros((steps, 1), dtype="float64"), h0, context=(w, b))
    return (mg.sigmoid(h) - TARGET) ** 2


def surface(steps: int, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The error and the norm of its gradient on the grid w (N,) by b (M,), each (M, N): every point is a unit."""
    ws, bs = (mg.tensor(part.ravel(), requires_grad=True) for part in np.meshgrid(w, b))
    errors = error(ws, bs, steps)
    errors.sum().backward()  # each unit's error depends on its own w and b alone
    assert ws.grad is not None and bs.grad is not None
    shape = (len(b), len(w))
    return errors.numpy().reshape(shape), np.hypot(ws.grad.numpy(), bs.grad.numpy()).reshape(shape)


class Descent(NamedTuple):
    """The points (N + 1, 2) of a descent of N updates; the error and the gradient's norm at all but the last."""

    points: np.ndarray
    errors: np.ndarray
    norms: np.ndarray


def descend(start: tuple[float, float], steps: int, updates: int, rate: float, clip: float, kind: str) -> Descent:
    """Gradient descent from (w, b), with gradients clipped in one of the kinds."""
    w, b = (nn.Parameter(mg.tensor([value], dtype="float64")) for value in start)
    optimizer = optim.SGD([w, b], rate)
    points, errors, norms = [start], [], []
    for _ in range(updates):
        optimizer.zero_grad()
        loss = error(w, b, steps).sum()
        loss.backward()
        errors.append(loss.item())
        norms.append(optim.clip_by_norm([w, b], np.inf).item())
        CLIPPING[kind]([w, b], clip)
        optimizer.step()
        points.append((w.item(), b.item()))
    return Descent(np.array(points), np.array(errors), np.array(norms))


def longest_step(descent: Descent) -> float:
    """The largest distance between two points of a descent that follow each other."""
    return float(np.linalg.norm(np.diff(descent.points, axis=0), axis=1).max())


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if options.points < 2:
        fail("--points: a grid has 2 or more in each direction, got 1")
    show_toy(options)
    show_cliff(options)


def show_toy(options: argparse.Namespace) -> None:
    """A table and a picture of w^T and its gradient."""
    steps = options.toy_steps

    def values_and_gradients(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = mg.tensor(values, requires_grad=True)
        y = power(w, steps)
        y.sum().backward()
        assert w.grad is not None
        return y.numpy(), w.grad.numpy()

    ws = np.array([0.01, 0.9, 0.99, 1.0, 1.01, 1.1])
    print(f"a linear unit after {steps:,} steps: y = w^{steps}\n")
    rows = [[w, f"{y:.3g}", f"{g:.3g}"] for w, y, g in zip(ws, *values_and_gradients(ws))]
    print(table(["w", "y", "dy/dw"], rows))
    near = np.exp(np.linspace(-20, 20, 401) / steps)
    y, g = values_and_gradients(near)
    title = f"A linear unit after {steps:,} steps"
    series = {"output y": (near, y), "gradient dy/dw": (near, g)}
    command.show(options, "toy.png", viz.curves(series, x="weight w", y="value", title=title, log=True))


def show_cliff(options: argparse.Namespace) -> None:
    """The surface, three descents on it, their table and their pictures."""
    w, b = np.linspace(*W, options.points), np.linspace(*B, options.points)
    errors, norms = surface(options.steps, w, b)
    print(f"\none sigmoid unit after {options.steps} steps: {errors.size:,} units at once, forward and backward")
    print(f"gradient norm: median {np.median(norms):.3g}, largest {norms.max():.3g}\n")

    where = mg.random.generator()
    starts = [(where.uniform(5.6, 6.5), where.uniform(-2.7, B[1])) for _ in range(options.descents)]  # on the plain
    found = {
        kind: [descend(at, options.steps, options.updates, options.rate, options.clip, kind) for at in starts]
        for kind in CLIPPING
    }
    print(f"gradient descent from {len(starts)} places on the plain, {options.updates:,} updates each\n")
    rows = []
    for kind, descents in found.items():
        leaps, ends = [longest_step(d) for d in descents], [d.errors[-1] for d in descents]
        thrown = sum(leap > 1 for leap in leaps)
        largest = max(d.norms.max() for d in descents)
        rows.append(
            [kind, f"{largest:.3g}", f"{max(leaps):.3g}", f"{thrown}", f"{np.median(ends):.2g}", f"{max(ends):.2g}"]
        )
    print(table(["", "largest gradient", "longest step", "thrown by more than 1", "median error", "worst error"], rows))
    worst = max(range(len(starts)), key=lambda i: longest_step(found["no clipping"][i]))
    print(
        "\nwithout clipping a descent meets the cliff once, and is gone; clipped, it comes back to it again and again"
    )
    print(f"the pictures show the descents from w = {starts[worst][0]:.2f}, b = {starts[worst][1]:.2f}")
    paths = {kind: descents[worst].points for kind, descents in found.items()}

    title = f"Error of one unit after {options.steps} steps, and descents from one place"
    figure = viz.surface(w, b, errors, paths=paths, x_label="weight w", y_label="bias b", z_label="error", title=title)
    command.show(options, "cliff.png", figure)
    across, level = np.linspace(*W, 20_001), float(np.mean(B))  # fine enough to meet the cliff
    errors, norms = surface(options.steps, across, np.array([level]))
    series = {"error": (across, errors[0]), "norm of the gradient": (across, np.maximum(norms[0], 1e-12))}
    title = f"Across the cliff, after {options.steps} steps, at b = {level:g}"
    command.show(options, "gradient.png", viz.curves(series, x="weight w", y="value", title=title, log=True))


if __name__ == "__main__":
    main()
