"""Connectionist temporal classification by hand: Graves et al. 2006, in NumPy and float64, one row, loops over s and t.

The symbols are the paper's, each quantity as its logarithm. y_t(k) is the probability of class k at frame t; l' is the
labelling l with blanks between its labels and at both ends; s counts the positions of l', here from 0.

    alpha_0(0) = y_0(blank),  alpha_0(1) = y_0(l_0)                                             (6)
    alpha_t(s) = y_t(l'_s) * (alpha_{t-1}(s) + alpha_{t-1}(s-1)  [+ alpha_{t-1}(s-2)])          (7)
                 the last only if l'_s is no blank and differs from l'_{s-2}
    p(l|x) = alpha_T(|l'|) + alpha_T(|l'| - 1), at the last frame                               (8)
    beta: the same from the end, eq. 9 to 11; it counts y_t(l'_s) too
    p(l|x) = sum_s alpha_t(s) beta_t(s) / y_t(l'_s), at each frame t                            (14)

The share of class k in the last sum is its occupancy: how probable it is, in a path of l, that class k is at frame t.
By the logits the gradient of -log p(l|x) is y_t(k) - occupancy_t(k) (eq. 16); by the log-probabilities, each of them
free, it is -occupancy_t(k) (eq. 15, and d log y = dy / y). Where no path leads to l, the loss is infinite and the
gradient 0.
"""

from __future__ import annotations

from itertools import product
from math import exp, inf, log

import numpy as np


def log_sum(values: list[float]) -> float:
    """log(sum(exp(v)))."""
    largest = max(values, default=-inf)
    return largest if largest == -inf else largest + log(sum(exp(v - largest) for v in values))


def log_softmax(row: np.ndarray) -> np.ndarray:
    return row - log_sum(list(row))


def with_blanks(labelling: list[int], blank: int) -> list[int]:
    """l'."""
    extended = [blank]
    for label in labelling:
        extended += [label, blank]
    return extended


def forward(log_y: np.ndarray, extended: list[int], blank: int) -> np.ndarray:
    """log alpha (T, |l'|)."""
    alpha = np.full((len(log_y), len(extended)), -inf)
    for t in range(len(log_y)):
        for s, label in enumerate(extended):
            if t == 0:
                before = [0.0] if s < 2 else []
            else:
                before = [alpha[t - 1, s]]
                if s >= 1:
                    before.append(alpha[t - 1, s - 1])
                if s >= 2 and label != blank and label != extended[s - 2]:
                    before.append(alpha[t - 1, s - 2])
            alpha[t, s] = log_sum(before) + log_y[t, label]
    return alpha


def backward(log_y: np.ndarray, extended: list[int], blank: int) -> np.ndarray:
    """log beta (T, |l'|)."""
    beta, last = np.full((len(log_y), len(extended)), -inf), len(extended) - 1
    for t in reversed(range(len(log_y))):
        for s, label in enumerate(extended):
            if t == len(log_y) - 1:
                after = [0.0] if s > last - 2 else []
            else:
                after = [beta[t + 1, s]]
                if s + 1 <= last:
                    after.append(beta[t + 1, s + 1])
                if s + 2 <= last and label != blank and label != extended[s + 2]:
                    after.append(beta[t + 1, s + 2])
            beta[t, s] = log_sum(after) + log_y[t, label]
    return beta


def row(log_y: np.ndarray, labelling: list[int], blank: int) -> tuple[float, np.ndarray]:
    """-log p(l|x), and the occupancies (T, C), for one sequence of log-probabilities (T, C)."""
    occupancy = np.zeros(log_y.shape)
    if not len(log_y):
        return (inf if labelling else 0.0), occupancy
    extended = with_blanks(labelling, blank)
    alpha, beta = forward(log_y, extended, blank), backward(log_y, extended, blank)
    log_p = log_sum(list(alpha[-1, -2:]))
    if log_p == -inf:
        return inf, occupancy
    for t in range(len(log_y)):
        for s, label in enumerate(extended):
            if alpha[t, s] > -inf and beta[t, s] > -inf:
                occupancy[t, label] += exp(alpha[t, s] + beta[t, s] - log_y[t, label] - log_p)
    return -log_p, occupancy


def by_logits(logits: np.ndarray, targets: list[list[int]], lengths: list[int], blank: int = 0):
    """The losses (B,) of logits (T, B, C), and the gradient of their sum: softmax - occupancy."""
    losses, gradient = np.zeros(len(targets)), np.zeros(logits.shape)
    for b, (labelling, n) in enumerate(zip(targets, lengths)):
        log_y = np.zeros((n, logits.shape[2]))
        for t in range(n):
            log_y[t] = log_softmax(logits[t, b])
        losses[b], occupancy = row(log_y, labelling, blank)
        if losses[b] < inf:
            gradient[:n, b] = np.exp(log_y) - occupancy
    return losses, gradient


def by_log_probabilities(log_y: np.ndarray, targets: list[list[int]], lengths: list[int], blank: int = 0):
    """The losses (B,) of log-probabilities (T, B, C), and the gradient of their sum: -occupancy."""
    losses, gradient = np.zeros(len(targets)), np.zeros(log_y.shape)
    for b, (labelling, n) in enumerate(zip(targets, lengths)):
        losses[b], occupancy = row(log_y[:n, b], labelling, blank)
        gradient[:n, b] = -occupancy
    return losses, gradient


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """The map B of the paper: repeats merged, then blanks removed."""
    merged = [label for i, label in enumerate(path) if i == 0 or label != path[i - 1]]
    return tuple(label for label in merged if label != blank)


def labellings(log_y: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """The log-probability of every labelling of one sequence (T, C), as a sum over all C**T paths (eq. 2 and 3)."""
    found: dict[tuple[int, ...], list[float]] = {}
    for path in product(range(log_y.shape[1]), repeat=len(log_y)):
        found.setdefault(collapsed(path, blank), []).append(sum(log_y[t, label] for t, label in enumerate(path)))
    return {labelling: log_sum(terms) for labelling, terms in found.items()}
