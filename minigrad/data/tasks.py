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


NOUNS = ("cat", "dog", "bird", "fox", "bear")
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


def sines(steps: int, periods: tuple[float, ...] = (8.0, 21.0, 55.0, 144.0)) -> np.ndarray:
    """A sum of sines of these periods with random phases, scaled to the variance 1: (T, 1, 1), float32."""
    phases = random.generator().uniform(0, 2 * np.pi, len(periods))
    t = np.arange(steps)
    waves = [np.sin(2 * np.pi * t / period + phase) for period, phase in zip(periods, phases)]
    return (np.sum(waves, axis=0) / np.sqrt(len(periods) / 2)).astype("float32")[:, None, None]
