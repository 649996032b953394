"""Tasks that recurrent networks are measured on, drawn from `mg.random`: arrays of NumPy, sequences time first."""

from __future__ import annotations

import numpy as np

from .. import random
from ..errors import ArgumentError


def adding(steps: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The adding problem (Hochreiter and Schmidhuber 1997): inputs (T, B, 2) and targets (B, 1), float32.

    Each step has a number uniform in [0, 1) and a mark, 0 or 1. Two steps are marked, one in the first half and one in
    the second; the target is the sum of their numbers. Whoever answers 1 always has a mean squared error of 1/6.
    """
    if steps < 2:
        raise ArgumentError(f"adding: two steps are marked, so there must be 2 at least, got {steps}")
    stream = random.generator()
    xs = np.zeros((steps, batch_size, 2), "float32")
    xs[:, :, 0] = stream.random((steps, batch_size))
    rows = np.arange(batch_size)
    for low, high in ((0, steps // 2), (steps // 2, steps)):
        xs[stream.integers(low, high, batch_size), rows, 1] = 1
    return xs, (xs[:, :, 0] * xs[:, :, 1]).sum(axis=0)[:, None]


SYMBOLS, BLANK, GO = 8, 8, 9  # of `copy_memory`: how many there are to remember; the numbers of the other two


def copy_memory(steps: int, batch_size: int, *, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The copying memory problem (Arjovsky et al. 2016, section 5.1): tokens and targets (steps + 2 count, B), int64.

        reads    5 0 3 . . . . ! . . .         count = 3, steps = 5: so far apart are the last symbol and the mark
        writes   . . . . . . . . 5 0 3

    First come `count` symbols, each one of 8, then blanks, the mark as the step-th of them, and as many blanks as there
    were symbols. The targets are blanks, and after the mark the symbols in their order. Symbols are 0 to 7, a blank is
    `BLANK`, the mark is `GO`. Whoever knows when to write, but not what, does best with blanks up to the mark and then
    one of 8 at random: count log 8 / (steps + 2 count) nats a step, 10 log 8 / (T + 20) in the paper.
    """
    if steps < 1:
        raise ArgumentError(f"copy_memory: the mark is one of the steps, so there must be 1 at least, got {steps}")
    if count < 1:
        raise ArgumentError(f"copy_memory: count, of the symbols to remember, must be at least 1, got {count}")
    symbols = random.generator().integers(0, SYMBOLS, (count, batch_size))
    xs = np.full((steps + 2 * count, batch_size), BLANK, "int64")
    ys = xs.copy()
    xs[:count], ys[-count:] = symbols, symbols
    xs[count + steps - 1] = GO
    return xs, ys


ORDER = ("X", "Y", "a", "b", "c", "d", "E", "B")  # the tokens of `temporal_order`


def temporal_order(steps: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The temporal order problem (Hochreiter and Schmidhuber 1997, experiment 6a): tokens (T, B), classes (B,), int64.

        E a X c b Y d a c d B        class 1, of 11 steps

    Between E and B stand a, b, c and d at random, but for two steps: one between a tenth and a fifth of the way, the
    other between a half and three fifths, are X or Y each. Which, in order, is the class: XX 0, XY 1, YX 2, YY 3. (In
    the paper T varies from 100 to 110, and the two steps are those of T = 100.) Tokens are places in `ORDER`.

    Chance has 1/4, at log 4 nats. Whoever counts X and Y but forgets their order has 3/4, at log(2) / 2.
    """
    if steps < 10:
        raise ArgumentError(f"temporal_order: a tenth of the way is a step, so there must be 10 at least, got {steps}")
    stream = random.generator()
    tokens = stream.integers(2, 6, (steps, batch_size))
    tokens[0], tokens[-1] = ORDER.index("E"), ORDER.index("B")
    first, second = stream.integers(0, 2, (2, batch_size))
    rows = np.arange(batch_size)
    tokens[stream.integers(steps // 10, steps // 5 + 1, batch_size), rows] = first
    tokens[stream.integers(steps // 2, 3 * steps // 5 + 1, batch_size), rows] = second
    return tokens, 2 * first + second


NOUNS = ("cat", "dog", "bird", "goat", "bear")
VERBS = ("ran", "sat", "saw", "ate", "slept", "barked")
PLACES = ("garden", "house", "river", "forest")
WORDS = (
    *("the", "which", "already", "in", ",", "was", "were", "full"),
    *(noun + ending for noun in NOUNS for ending in ("", "s")),
    *VERBS,
    *PLACES,
)


def agreement(distance: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences in which a verb agrees with a noun so many words before it: tokens (T, B) and answers (B,), int64.

        the cats , which already ate in the garden ... saw the dog , [were]

    The sentence begins with a noun, singular or plural; between it and its verb stand `distance` words of a clause
    about other nouns, each with a number of its own, and with places. What comes next is "was" if the first noun was
    singular, answer 0, or "were", answer 1. Tokens are places in `WORDS`; T = distance + 2.
    """
    if distance < 1:
        raise ArgumentError(f"agreement: distance must be at least 1, got {distance}")
    stream = random.generator()
    number = {word: i for i, word in enumerate(WORDS)}
    rows, answers = [], stream.integers(0, 2, batch_size)

    def noun(plural: bool) -> str:
        return NOUNS[stream.integers(len(NOUNS))] + "s" * plural

    for plural in answers:
        words = ["the", noun(plural), ",", "which", "already"]
        while len(words) < distance + 1:
            words += [VERBS[stream.integers(len(VERBS))], "the", noun(stream.random() < 0.5)]
            if stream.random() < 0.5:
                words += ["in", "the", PLACES[stream.integers(len(PLACES))]]
        rows.append([number[word] for word in [*words[: distance + 1], ","]])
    return np.array(rows, "int64").T.copy(), answers


def narma10(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The tenth-order nonlinear system (Atiya and Parlos 2000): inputs u and outputs y, each (T, 1, 1), float64.

        y_{t+1} = 0.3 y_t + 0.05 y_t (y_t + ... + y_{t-9}) + 1.5 u_{t-9} u_t + 0.1,   u uniform in [0, 0.5)

    y[t] is what follows from the inputs up to and with u[t]. A rare input sends the system to infinity, and another is
    drawn.
    """
    stream = random.generator()
    while True:
        u, y = stream.uniform(0, 0.5, steps + 10), np.zeros(steps + 10)
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(9, steps + 9):
                y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
        if np.abs(y).max() < 2:
            return u[9 : steps + 9, None, None], y[10:, None, None]


def mackey_glass(
    steps: int, *, tau: float = 17.0, start: float | None = None, washout: int = 1000, substeps: int = 10
) -> np.ndarray:
    """The Mackey-Glass equation (Mackey and Glass 1977), sampled once per unit of time: x (T, 1, 1), float64.

        dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t),    x(0) = start,    x(t) = 0 before

    Up to tau = 4.7 the equation comes to rest at 1, above that it swings, and from 16.8 on it is chaotic. `start` is
    drawn from [0.5, 1.5) if none is given; the first `washout` samples, not yet on the attractor, are left out.

    Integrated by the fourth-order Runge-Kutta method, `substeps` steps to a unit, of which tau must be a multiple. The
    delayed values between two steps are those of the cubic with the same values and slopes at both (Hermite), so that
    the whole is of fourth order too: at 10 steps to a unit, x(300) is right to 1e-9.

    Raises ArgumentError for another tau, and for a negative washout or no steps.

    >>> mackey_glass(3, start=1.2, washout=0).ravel().round(4)
    array([1.2   , 1.0858, 0.9825])
    """
    lag = round(tau * substeps) if substeps >= 1 and tau < 1e6 else 0
    if lag < 1 or abs(lag - tau * substeps) > 1e-6:
        raise ArgumentError(
            f"mackey_glass: tau must be a positive multiple of the step 1 / substeps, got tau={tau} and "
            f"substeps={substeps}"
        )
    if steps < 1 or washout < 0:
        raise ArgumentError(f"mackey_glass: steps must be at least 1 and washout at least 0, got {steps} and {washout}")
    h = 1 / substeps
    x = float(random.generator().uniform(0.5, 1.5) if start is None else start)
    xs = [x]
    middles: list[float] = []  # halfway to the next
    for n in range((washout + steps - 1) * substeps):
        late = (0.0, 0.0, 0.0) if n < lag else (xs[n - lag], middles[n - lag], xs[n - lag + 1])
        first, half, last = (0.2 * d / (1 + d**10) for d in late)
        k1 = first - 0.1 * x
        k2 = half - 0.1 * (x + h / 2 * k1)
        k3 = half - 0.1 * (x + h / 2 * k2)
        k4 = last - 0.1 * (x + h * k3)
        after = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        middles.append((x + after) / 2 + h / 8 * (k1 - (last - 0.1 * after)))
        x = after
        xs.append(x)
    return np.array(xs[washout * substeps :: substeps])[:, None, None]


def sines(steps: int, periods: tuple[float, ...] = (8.0, 21.0, 55.0, 144.0)) -> np.ndarray:
    """A sum of sines of these periods with random phases, scaled to the variance 1: (T, 1, 1), float32."""
    phases = random.generator().uniform(0, 2 * np.pi, len(periods))
    t = np.arange(steps)
    waves = [np.sin(2 * np.pi * t / period + phase) for period, phase in zip(periods, phases)]
    return (np.sum(waves, axis=0) / np.sqrt(len(periods) / 2)).astype("float32")[:, None, None]
