"""Hand-written backward formulas of the ops, in NumPy and float64. Nothing of minigrad is imported here.

`oracle(g, *inputs, **static)` answers for every input with the *terms* of its gradient: an array with one more axis in
front, whose sum over that axis is the gradient. A test sums the terms, and knows from their sizes what rounding may do.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

Terms = np.ndarray


def back(x: np.ndarray, *terms: Any) -> Terms:
    """Terms in the shape of the output, as those of an input x broadcast to it: what its copies got is summed."""
    found = []
    for term in terms:
        term = np.asarray(term)
        lead = term.ndim - x.ndim
        copied = [i for i in range(term.ndim) if i < lead or (x.shape[i - lead] == 1 and term.shape[i] != 1)]
        kept = [i for i in range(term.ndim) if i not in copied]
        found.append(term.transpose(copied + kept).reshape(prod(term.shape[i] for i in copied), *x.shape))
    return np.concatenate(found)


# Elementwise: the cotangent times the partial derivative


def add(g, x1, x2):
    return back(x1, g), back(x2, g)


def subtract(g, x1, x2):
    return back(x1, g), back(x2, -g)


def multiply(g, x1, x2):
    return back(x1, g * x2), back(x2, g * x1)


def divide(g, x1, x2):
    return back(x1, g / x2), back(x2, -g * x1 / x2 / x2)


def negative(g, x):
    return (back(x, -g),)


def power(g, x, exponent):
    """d x**n = n x**(n-1); x**0 is constant."""
    return (back(x, g * exponent * x ** (exponent - 1.0) if exponent else g * 0),)


def exponentiate(g, x1, x2):
    """d x1**x2 = x2 x1**(x2-1) dx1 + x1**x2 log(x1) dx2, from x1**x2 = exp(x2 log x1)."""
    return back(x1, g * x2 * np.exp((x2 - 1) * np.log(x1))), back(x2, g * np.exp(x2 * np.log(x1)) * np.log(x1))


def exp(g, x):
    return (back(x, g * np.exp(x)),)


def log(g, x):
    return (back(x, g / x),)


def log1p(g, x):
    return (back(x, g / (1 + x)),)


def sqrt(g, x):
    return (back(x, g / np.sqrt(x) / 2),)


def sin(g, x):
    return (back(x, g * np.cos(x)),)


def cos(g, x):
    return (back(x, -g * np.sin(x)),)


def tanh(g, x):
    """1 - tanh(x)**2: two terms, as the difference is what rounding spoils at saturation."""
    return (back(x, g, -g * np.tanh(x) ** 2),)


def logistic(x: np.ndarray) -> np.ndarray:
    """The sigmoid, as exp(-log(1 + exp(-x)))."""
    return np.exp(-np.logaddexp(0, -x))


def sigmoid(g, x):
    return (back(x, g * logistic(x), -g * logistic(x) ** 2),)


def softplus(g, x):
    return (back(x, g * logistic(x)),)


def relu(g, x):
    return (back(x, np.where(x > 0, g, 0)),)


def absolute(g, x):
    return (back(x, g * ((x > 0) * 1.0 - (x < 0))),)


def maximum(g, x1, x2):
    """All to the larger, half each to two that are equal."""
    share = (x1 > x2) + 0.5 * (x1 == x2)
    return back(x1, g * share), back(x2, g * (1 - share))


def remainder(g, x1, x2):
    """x1 - k x2, where the whole number k does not change in a neighbourhood."""
    return back(x1, g * np.ones_like(x1 + x2)), back(x2, -g * np.floor(x1 / x2))


def minimum(g, x1, x2):
    return maximum(g, -x1, -x2)


def clip(g, x, min=None, max=None):
    inside = np.ones(x.shape)
    inside *= 1 if min is None else x >= min
    inside *= 1 if max is None else x <= max
    return (back(x, g * inside),)


def where(g, x1, x2, condition):
    return back(x1, np.where(condition, g, 0)), back(x2, np.where(condition, 0, g))


def identity(g, x, **static):
    return (back(x, g),)


# Reductions: each output has a group of inputs


def _groups(shape: tuple[int, ...], axis: Any) -> np.ndarray:
    """The flat positions that each output of a reduction comes from: one row for each output, in order."""
    ndim = len(shape)
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    reduced = [i % ndim for i in axes]
    kept = [i for i in range(ndim) if i not in reduced]
    positions = np.arange(prod(shape)).reshape(shape).transpose(kept + reduced)
    return positions.reshape(prod(shape[i] for i in kept), prod(shape[i] for i in reduced))


def _reduction(slopes: Callable[[np.ndarray], Any]) -> Callable[..., tuple[Terms]]:
    """The oracle of a reduction whose derivatives by a group of values are `slopes(values)`."""

    def oracle(g, x, axis=None, keepdims=False):
        gradient = np.zeros(x.size)
        for g_of_one, group in zip(np.ravel(g), _groups(x.shape, axis)):
            if len(group):
                gradient[group] = g_of_one * slopes(x.reshape(-1)[group])
        return (gradient.reshape(1, *x.shape),)

    return oracle


sum = _reduction(lambda values: 1.0)
mean = _reduction(lambda values: 1.0 / len(values))
max = _reduction(lambda values: (values == values.max()) / np.count_nonzero(values == values.max()))
min = _reduction(lambda values: (values == values.min()) / np.count_nonzero(values == values.min()))
logsumexp = _reduction(lambda values: np.exp(values - values.max()) / np.exp(values - values.max()).sum())


def cumulative_sum(g, x, axis):
    """x[i] is in y[i], y[i+1], ...: a term for each."""
    along = np.moveaxis(g, axis, 0)
    terms = np.zeros((len(along), *along.shape))
    for j in range(len(along)):
        for i in range(j + 1):
            terms[j, i] = along[j]
    return (np.moveaxis(terms, 1, axis % x.ndim + 1),)


# Rearrangements: every element of the output is some element of the inputs, or a constant


def rearrangement(f: Callable[..., Any]) -> Callable[..., Iterator[Terms]]:
    """The oracle of any `f` that only moves elements: f of the *numbers* of the elements says where each came from."""

    def oracle(g, *xs, **static):
        ends = np.cumsum([x.size for x in xs])
        numbers = [np.arange(end - x.size, end).reshape(x.shape) for x, end in zip(xs, ends)]
        origins = f(*numbers, **static)
        if isinstance(origins, (list, tuple)):
            pairs = [pair for o, part in zip(origins, g) for pair in zip(np.ravel(o), np.ravel(part))]
        else:
            pairs = list(zip(np.ravel(origins), np.ravel(g)))
        came: dict[int, list[float]] = {}
        for origin, value in pairs:
            came.setdefault(int(origin), []).append(value)
        terms = np.zeros((builtins.max([1, *map(len, came.values())]), ends[-1]))
        for origin, values in came.items():
            terms[: len(values), origin] = values
        return [part.reshape(len(terms), *x.shape) for part, x in zip(np.split(terms, ends[:-1].tolist(), axis=1), xs)]

    return oracle


def index_add(g, x, values, key):
    """x gets all of g; a value gets what stands where it was added, from each place that it was broadcast to."""
    return back(x, g), back(values, g[key])


def scatter(g, values, key, shape):
    return (back(values, g[key]),)


# Matrix products


def matmul(g, x1, x2):
    """y[n, m] = sum_k x1[n, k] x2[k, m], so x1[n, k] gets g[n, m] x2[k, m] for every m, and x2[k, m] likewise for n."""
    a, b, d = x1, x2, np.asarray(g)
    if x1.ndim == 1:
        a, d = a[None, :], d[..., None, :] if x2.ndim > 1 else d[..., None]
    if x2.ndim == 1:
        b, d = b[:, None], d[..., None]
    for_a = np.moveaxis(d[..., :, None, :] * b[..., None, :, :], -1, 0)  # (m, ..., n, k)
    for_b = np.moveaxis(a[..., :, :, None] * d[..., :, None, :], -3, 0)  # (n, ..., k, m)
    to_a = np.concatenate([np.zeros((1, *a.shape)), *(back(a, term) for term in for_a)])
    to_b = np.concatenate([np.zeros((1, *b.shape)), *(back(b, term) for term in for_b)])
    return to_a.reshape(len(to_a), *x1.shape), to_b.reshape(len(to_b), *x2.shape)


def linear(g, x, weight):
    """y[n, m] = sum_k x[n, k] weight[m, k]: the product with the transpose, so weight gets the transposed gradient."""
    to_x, to_transpose = matmul(g, x, weight.T)
    return to_x, np.swapaxes(to_transpose, -1, -2)
