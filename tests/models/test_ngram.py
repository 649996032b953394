"""The Markov models against the formula, computed slowly with dictionaries."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ngram import bits_per_symbol

from ..strategies import SEEDS


def probability(train: list[int], context: tuple[int, ...], symbol: int, size: int) -> float:
    """Witten-Bell, one probability at a time: Chen and Goodman 1998, eqs. 14 to 16, with 1 / size at the bottom.

        P(c | h) = (count(h c) + N(h) P(c | h')) / (count(h) + N(h)),    N(h): kinds of symbols that follow h,

    where count(h) = sum_c count(h c), h' is h without its oldest symbol, and a context never seen counts for nothing.
    """
    lower = probability(train, context[1:], symbol, size) if context else 1 / size
    n = len(context)
    followers = Counter(train[i + n] for i in range(len(train) - n) if tuple(train[i : i + n]) == context)
    if not followers:
        return lower
    kinds = len(followers)
    return (followers[symbol] + kinds * lower) / (followers.total() + kinds)


def slowly(train, test, before, size, order) -> float:
    text = list(before) + list(test)
    start, train = len(before), list(train)
    bits = [
        -math.log2(probability(train, tuple(text[start + i - order : start + i]), text[start + i], size))
        for i in range(len(test))
    ]
    return sum(bits) / len(bits)


@given(size=st.integers(1, 5), n=st.integers(4, 40), m=st.integers(1, 8), order=st.integers(0, 3), seed=SEEDS)
def test_every_order_needs_the_bits_of_the_witten_bell_formula(size, n, m, order, seed):
    rng = np.random.default_rng(seed)
    train, test, before = rng.integers(0, size, n), rng.integers(0, size, m), rng.integers(0, size, order + 2)
    found = bits_per_symbol(train, test, before, size, order)
    assert len(found) == order + 1
    for k in range(order + 1):
        assert found[k] == pytest.approx(slowly(train, test, before, size, k), rel=1e-12, abs=1e-12)


@given(size=st.integers(1, 5), n=st.integers(4, 30), order=st.integers(0, 3), seed=SEEDS)
def test_the_probabilities_of_all_symbols_after_a_context_sum_to_one(size, n, order, seed):
    rng = np.random.default_rng(seed)
    train, before = rng.integers(0, size, n), rng.integers(0, size, order)
    by_symbol = [bits_per_symbol(train, np.array([c]), before, size, order) for c in range(size)]
    for bits in zip(*by_symbol):
        assert sum(2.0**-b for b in bits) == pytest.approx(1, rel=1e-12)


def test_a_worked_example():
    """After "abab": of order 0, P(a) = (2 + 2 * 1/3) / (4 + 2) = 4/9 with 3 symbols; of order 1, after b (followed by
    an a, once) P(a) = (1 + 1 * 4/9) / (1 + 1) = 13/18."""
    train = np.array([0, 1, 0, 1])
    found = bits_per_symbol(train, np.array([0]), train, 3, 1)
    assert found == pytest.approx([-math.log2(4 / 9), -math.log2(13 / 18)], rel=1e-14)


def test_the_first_symbols_are_predicted_from_what_precedes_them():
    train = np.array([0, 1] * 20)
    after_0, after_1 = (bits_per_symbol(train, np.array([1]), np.array([c]), 2, 1)[1] for c in (0, 1))
    assert after_0 < 0.1 < 2 < after_1


@pytest.mark.parametrize("size", [600, 5000, 1_100_000])
def test_large_alphabets_are_counted_too(size):
    """600 ** 7 contexts do not fit 64 bits; a text in Chinese has thousands of characters, Unicode a million."""
    rng = np.random.default_rng(0)
    train = rng.choice(np.array([0, 1, size // 2, size - 1]), 300)
    test = np.array([0, size - 1, 7])
    found = bits_per_symbol(train, test, train, size, 6)
    for k in range(7):
        assert found[k] == pytest.approx(slowly(train, test, train, size, k), rel=1e-12)


@given(n=st.integers(1, 6), before=st.integers(0, 6), order=st.integers(0, 5), seed=SEEDS)
def test_short_texts_are_predicted_from_the_context_there_is(n, before, order, seed):
    """Where less precedes a symbol than the order, or less was learned, a shorter context has to do."""
    rng = np.random.default_rng(seed)
    train, history, test = rng.integers(0, 2, n), rng.integers(0, 2, before), rng.integers(0, 2, 3)
    found = bits_per_symbol(train, test, history, 2, order)
    text = [*history, *test]
    for k in range(order + 1):
        bits = 0.0
        for i in range(3):
            at = before + i
            bits -= math.log2(probability(list(train), tuple(text[max(at - k, 0) : at]), text[at], 2))
        assert found[k] == pytest.approx(bits / 3, rel=1e-12, abs=1e-12)


def test_an_order_that_the_text_follows_is_far_better_than_the_one_below():
    """Each symbol is the sum of the last two modulo 3: order 1 sees chance, order 2 everything."""
    text = [0, 1]
    for _ in range(500):
        text.append((text[-1] + text[-2] + (len(text) % 97 == 0)) % 3)
    tokens = np.array(text)
    bits = bits_per_symbol(tokens[:400], tokens[400:], tokens[:400], 3, 2)
    assert bits[2] < bits[1] / 4
