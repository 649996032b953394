"""Losses and their gradients by hand, in NumPy and float64, one row at a time. Nothing of minigrad is imported here."""

from __future__ import annotations

from math import exp, log1p
from typing import Any

import numpy as np


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) / sum(exp(x)) along the last axis; an element shifted by the largest, which cancels."""
    y = np.zeros(x.shape)
    for row in np.ndindex(x.shape[:-1]):
        e = [exp(v - max(x[row])) for v in x[row]]
        y[row] = [v / sum(e) for v in e]
    return y


def log_softmax(x: np.ndarray) -> np.ndarray:
    y = np.zeros(x.shape)
    for row in np.ndindex(x.shape[:-1]):
        largest = max(x[row])
        y[row] = [v - largest - np.log(sum(exp(w - largest) for w in x[row])) for v in x[row]]
    return y


def softmax_gradient(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dy_i/dx_j = y_i (1[i = j] - y_j)."""
    y, gradient = softmax(x), np.zeros(x.shape)
    for row in np.ndindex(x.shape[:-1]):
        gradient[row] = (np.diag(y[row]) - np.outer(y[row], y[row])) @ g[row]
    return gradient


def log_softmax_gradient(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """d log y_i/dx_j = 1[i = j] - y_j."""
    y, gradient = softmax(x), np.zeros(x.shape)
    for row in np.ndindex(x.shape[:-1]):
        gradient[row] = (np.eye(x.shape[-1]) - y[row][None, :]).T @ g[row]
    return gradient


def reduced(losses: np.ndarray, reduction: str, count: Any = None) -> Any:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / (losses.size if count is None else max(count, 1))


def cross_entropy(
    logits: np.ndarray, targets: np.ndarray, reduction: str = "mean", ignore_index: int | None = None
) -> tuple[Any, np.ndarray]:
    """The loss, and the gradient of it (of the sum of the losses, for "none"): softmax(logits) - one_hot(target)."""
    losses, gradient, count = np.zeros(targets.shape), np.zeros(logits.shape), 0
    for row in np.ndindex(targets.shape):
        if targets[row] != ignore_index:
            losses[row] = -log_softmax(logits[row])[targets[row]]
            gradient[row] = softmax(logits[row]) - np.eye(logits.shape[-1])[targets[row]]
            count += 1
    return reduced(losses, reduction, count), gradient / (max(count, 1) if reduction == "mean" else 1)


def soft_cross_entropy(logits: np.ndarray, targets: np.ndarray, reduction: str = "mean") -> tuple[Any, np.ndarray]:
    """-sum_c t_c log p_c, with 0 log 0 = 0; by the logits its gradient is (sum_c t_c) p - t."""
    losses, gradient = np.zeros(logits.shape[:-1]), np.zeros(logits.shape)
    for row in np.ndindex(losses.shape):
        log_p = log_softmax(logits[row])
        losses[row] = -sum(t * lp for t, lp in zip(targets[row], log_p) if t != 0)
        gradient[row] = targets[row].sum() * softmax(logits[row]) - targets[row]
    return reduced(losses, reduction), gradient / (losses.size if reduction == "mean" else 1)


def binary_cross_entropy(x: np.ndarray, t: np.ndarray, reduction: str = "mean") -> tuple[Any, np.ndarray]:
    """-t log(s) - (1 - t) log(1 - s), where -log(s) = log(1 + exp(-x)) and -log(1 - s) = log(1 + exp(x))."""
    losses, gradient = np.zeros(x.shape), np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        softplus = max(x[i], 0) + log1p(exp(-abs(x[i])))
        losses[i] = t[i] * (softplus - x[i]) + (1 - t[i]) * softplus
        s = 1 / (1 + exp(-x[i])) if x[i] > 0 else exp(x[i]) / (1 + exp(x[i]))
        gradient[i] = s - t[i]
    return reduced(losses, reduction), gradient / (x.size if reduction == "mean" else 1)


def mse(x: np.ndarray, t: np.ndarray, reduction: str = "mean") -> tuple[Any, np.ndarray]:
    return reduced((x - t) ** 2, reduction), 2 * (x - t) / (x.size if reduction == "mean" else 1)


def one_hot(indices: np.ndarray, size: int) -> np.ndarray:
    y = np.zeros((*indices.shape, size))
    for place in np.ndindex(indices.shape):
        y[place][indices[place]] = 1
    return y
