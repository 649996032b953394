"""Interpolated Markov models: the baseline that a recurrent language model has to beat."""

from __future__ import annotations

import numpy as np


def bits_per_symbol(train: np.ndarray, test: np.ndarray, before: np.ndarray, size: int, max_order: int) -> list[float]:
    """How many bits a Markov model of order 0, 1, ... max_order needs for each symbol of `test`, on average.

    train, test: integers in [0, size). before: what precedes `test`, so that its first symbols have a context too.

    A model of order k predicts symbol c from the k symbols h before it (from fewer where there are no more), with the
    smoothing of Witten and Bell (1991; Chen and Goodman 1998, section 2.4), which gives the shorter context h' as much
    weight as there are kinds of symbols seen after h:

        P_k(c | h) = (count(h c) + kinds(h) P_{k-1}(c | h')) / (count(h) + kinds(h)),    P_{-1}(c) = 1 / size
    """
    before = before[max(len(before) - max_order, 0) :]
    symbols = np.concatenate([train, before, test]).astype(np.int64)
    position = np.arange(len(before), len(before) + len(test))
    context = np.zeros(len(symbols), np.int64)  # a number for the symbols before each, as many as the order
    probability = np.full(len(test), 1 / size)
    bits = []
    for order in range(max_order + 1):
        gram = context * size + symbols
        if order < len(train):
            grams, gram_counts = np.unique(gram[order : len(train)], return_counts=True)
            contexts, first = np.unique(grams // size, return_index=True)  # grams are sorted, so by context as well
            kinds = np.diff(first, append=len(grams))
            totals = np.add.reduceat(gram_counts, first)
            queries = gram[len(symbols) - len(test) :]
            count = _lookup(grams, gram_counts, queries)
            kind, total = _lookup(contexts, kinds, queries // size), _lookup(contexts, totals, queries // size)
            seen = (total > 0) & (position >= order)
            probability[seen] = ((count + kind * probability) / np.maximum(total + kind, 1))[seen]
        bits.append(float(-np.log2(probability).mean()))
        context[1:] = np.unique(gram, return_inverse=True)[1][:-1]  # numbered anew, or they would outgrow 64 bits
    return bits


def _lookup(keys: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The values of the queries among sorted keys; 0 for those that are not there."""
    place = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[place] == queries, values[place], 0)
