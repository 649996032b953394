"""The tasks are what they say: their targets follow from their inputs, and their baselines are those published."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import tasks
from minigrad.errors import ArgumentError


def test_adding_sums_two_marked_numbers_one_in_each_half_and_answering_1_costs_a_sixth():
    xs, ys = tasks.adding(101, 4000)
    assert (xs.shape, ys.shape, xs.dtype, ys.dtype) == ((101, 4000, 2), (4000, 1), "float32", "float32")
    values, marks = xs[:, :, 0], xs[:, :, 1]
    assert set(np.unique(marks)) == {0, 1}
    assert (marks[:50].sum(axis=0) == 1).all() and (marks[50:].sum(axis=0) == 1).all()
    for row in range(20):
        first, second = np.flatnonzero(marks[:, row])
        assert ys[row, 0] == pytest.approx(values[first, row] + values[second, row])
    # Of 4000 the mean of (y - 1)^2, of variance 7/180, is off by more than 4 standard errors once in 16,000 draws.
    assert abs(((ys - 1) ** 2).mean() - 1 / 6) < 4 * (7 / 180 / 4000) ** 0.5
    marked = set(np.argmax(marks[:50], axis=0)) | set(50 + np.argmax(marks[50:], axis=0))
    assert marked == set(range(101))


def test_the_verb_of_an_agreement_sentence_agrees_with_its_first_noun_and_with_nothing_else():
    for distance in (1, 7, 50):
        tokens, answers = tasks.agreement(distance, 300)
        assert tokens.shape == (distance + 2, 300) and answers.shape == (300,)
        words = [[tasks.WORDS[t] for t in row] for row in tokens.T]
        assert all(row[0] == "the" and row[-1] == "," for row in words)
        assert [row[1].endswith("s") for row in words] == [answer == 1 for answer in answers]
        assert 0.4 < answers.mean() < 0.6
    others = [[word for word in row[2:] if word.rstrip("s") in tasks.NOUNS] for row in words]
    assert min(map(len, others)) >= 8  # distractors
    agrees = np.mean([row[-1].endswith("s") == (answer == 1) for row, answer in zip(others, answers)])
    assert 0.4 < agrees < 0.6  # the last noun says nothing


def test_narma10_follows_its_equation():
    u, y = tasks.narma10(500)
    assert u.shape == y.shape == (500, 1, 1)
    u, y = u.ravel(), y.ravel()
    assert u.min() >= 0 and u.max() < 0.5
    for t in range(20, 499):
        expected = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t + 1 - 9] * u[t + 1] + 0.1
        assert y[t + 1] == pytest.approx(expected, abs=1e-12)


def test_sines_have_their_periods_and_the_variance_1():
    wave = tasks.sines(20_000).ravel()
    assert wave.var() == pytest.approx(1, abs=0.02)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    peaks = [i for i in range(1, len(spectrum) - 1) if spectrum[i] == spectrum[i - 1 : i + 2].max() > 500]
    assert [round(20_000 / i) for i in peaks] == [144, 55, 21, 8]


@pytest.mark.parametrize("draw", [lambda: tasks.adding(10, 3), lambda: tasks.agreement(9, 3), lambda: tasks.sines(9)])
def test_a_seed_gives_the_same_task(draw):
    with mg.seed(3):
        first = draw()
    with mg.seed(3):
        again = draw()
    with mg.seed(4):
        other = draw()
    pairs = zip(*(found if isinstance(found, tuple) else (found,) for found in (first, again, other)))
    assert all((a == b).all() and (a != c).any() for a, b, c in pairs)


def test_tasks_too_short_are_refused():
    with pytest.raises(ArgumentError, match="2 at least, got 1"):
        tasks.adding(1, 5)
    with pytest.raises(ArgumentError, match="distance must be at least 1"):
        tasks.agreement(0, 5)
