"""Interpolated Markov models, of symbols and of sentences: what a recurrent language model has to beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

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


class KneserNey:
    """Predicts a word from the last n - 1 of its sentence, by interpolated Kneser-Ney (Ney et al. 1994).

    sentences: words as integers in [0, size), with `end` as the last of each; it stands before each as well.

        P_k(w | h) = (max(count(h w) - D_k, 0) + D_k kinds(h) P_{k-1}(w | h')) / count(h),    P_{-1}(w) = 1 / words

    h: the last k words; h': without the oldest; kinds(h): how many words followed h. Where h begins with the beginning
    of a sentence or k = n - 1, count(h w) is how often w followed h; else how many words came before h w. D_k =
    n1 / (n1 + 2 n2), where n1 and n2 such counts are 1 and 2. A context never seen counts for nothing.
    """

    def __init__(self, sentences: Iterable[np.ndarray], size: int, n: int, end: int = 0):
        self.end = end
        counts: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(n)]
        for words in sentences:
            text = (self.end, *words.tolist())
            for i in range(1, len(text)):
                longest = min(n - 1, i)
                for k in range(longest, -1, -1):
                    followers = counts[k][text[i - k : i]]
                    followers[text[i]] += 1
                    if followers[text[i]] > 1 and k:
                        break  # h w is not new, so no new word has come before what is left of it
        self.size, self.counts = size, counts
        self.totals = [{h: (f.total(), len(f)) for h, f in by_context.items()} for by_context in counts]
        self.discounts = []
        for by_context in counts:
            kinds = Counter(count for f in by_context.values() for count in f.values())
            self.discounts.append(max(kinds[1], 1) / max(kinds[1] + 2 * kinds[2], 2))

    def probability(self, context: tuple[int, ...], word: int) -> float:
        """P(word | the sentence so far), which begins with `end`, that of the one before it."""
        p = 1 / self.size
        for k in range(min(len(self.counts), len(context) + 1)):
            h = context[len(context) - k :]
            if h not in self.totals[k]:
                break
            total, kinds = self.totals[k][h]
            p = (max(self.counts[k][h][word] - self.discounts[k], 0) + self.discounts[k] * kinds * p) / total
        return p

    def log_probabilities(self, sentences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """log P of each word of each sentence, its end included."""
        found = []
        for words in sentences:
            text = (self.end, *words.tolist())
            found.append(np.log([self.probability(text[:i], text[i]) for i in range(1, len(text))]))
        return found
