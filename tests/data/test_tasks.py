"""The tasks are what they say: their targets follow from their inputs, and their baselines are those published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(steps=st.integers(1, 30), count=st.integers(1, 12), rows=st.integers(1, 5), seed=st.integers(0, 100))
def test_a_copy_is_symbols_blanks_and_a_mark_and_asks_for_the_symbols_after_the_mark(steps, count, rows, seed):
    with mg.seed(seed):
        tokens, targets = tasks.copy_memory(steps, rows, count=count)
    assert tokens.shape == targets.shape == (steps + 2 * count, rows)
    assert tokens.dtype == targets.dtype == "int64"
    symbols = tokens[:count]
    assert (symbols < tasks.SYMBOLS).all() and (symbols >= 0).all()
    blank, mark = [tasks.BLANK] * rows, [tasks.GO] * rows
    asked = [blank] * (steps - 1) + [mark] + [blank] * count
    assert tokens[count:].tolist() == asked
    assert targets[: steps + count].tolist() == [blank] * (steps + count)
    assert targets[steps + count :].tolist() == symbols.tolist()


def test_the_copying_problem_of_the_paper_has_ten_symbols_equally_likely_and_costs_10_log_8_without_memory():
    tokens, targets = tasks.copy_memory(20, 1000)
    assert tokens.shape == (40, 1000)
    shares = np.bincount(tokens[:10].ravel(), minlength=8) / 10_000
    # Of 10,000 a share of 1/8 has the standard deviation 0.0033; 8 shares miss it by 4 of these once in 2,000 draws.
    assert np.abs(shares - 1 / 8).max() < 4 * 0.0033
    after_mark = np.cumsum(tokens == tasks.GO, axis=0) - (tokens == tasks.GO) > 0
    right = np.where(after_mark, np.where(targets < 8, 1 / 8, 0.0), np.where(targets == tasks.BLANK, 1.0, 0.0))
    assert -np.log(right).mean() == pytest.approx(10 * np.log(8) / 40) == pytest.approx(0.5198604)


def test_the_temporal_order_of_a_hundred_steps_is_that_of_the_paper():
    tokens, classes = tasks.temporal_order(100, 3000)
    assert (tokens.shape, classes.shape, tokens.dtype, classes.dtype) == ((100, 3000), (3000,), "int64", "int64")
    letters = np.array(tasks.ORDER)[tokens]
    assert (letters[0] == "E").all() and (letters[-1] == "B").all()
    where = np.isin(letters, ["X", "Y"])
    assert (where.sum(axis=0) == 2).all()
    assert set(letters[1:-1][~where[1:-1]]) == set("abcd")
    first, second = where.argmax(axis=0), 99 - where[::-1].argmax(axis=0)
    assert set(first) == set(range(10, 21)) and set(second) == set(range(50, 61))
    rows = np.arange(3000)
    pairs = np.char.add(letters[first, rows], letters[second, rows])
    assert [("XX", "XY", "YX", "YY").index(pair) for pair in pairs] == classes.tolist()


def test_temporal_order_without_the_order_is_worth_three_quarters_and_without_the_first_symbol_a_half():
    tokens, classes = tasks.temporal_order(20, 4000)

    def best_share(seen: np.ndarray) -> float:
        """Of right answers, by whoever knows what is seen (B,) and answers the likeliest class."""
        return sum(np.bincount(classes[seen == value]).max() for value in np.unique(seen)) / len(classes)

    # A share of 4,000 has a standard deviation of 0.008 at most.
    assert best_share((tokens == 0).sum(axis=0)) == pytest.approx(3 / 4, abs=0.03)
    assert best_share(tokens[10:].min(axis=0)) == pytest.approx(1 / 2, abs=0.03)
    assert best_share(tokens[5:10].max(axis=0)) == pytest.approx(1 / 4, abs=0.03)  # distractors alone


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


def test_mackey_glass_is_the_closed_form_for_as_long_as_there_is_one():
    x = tasks.mackey_glass(35, start=1.2, washout=0).ravel()
    t = np.arange(18)
    # Nothing comes from before time 0. A step of h = 0.1 multiplies by exp(-h / 10) but for (h / 10)^5 / 120, so that
    # after 10 t steps 1.2 (t / 10) exp(-t / 10) (0.01)^4 / 120 is missing, at most 3.7e-11.
    assert np.abs(x[:18] - 1.2 * np.exp(-t / 10)).max() < 4e-11
    # Then 1.2 exp(-t / 10) comes back, whose tenth power falls as exp(-t): what flows in has a logarithm for integral.
    a = 1.2**10
    expected = np.exp(-t / 10) * (1.2 * np.exp(-1.7) + 0.24 * np.log((np.exp(t) + a) / (1 + a)))
    assert np.abs(x[17:] - expected).max() < 1e-8


def test_mackey_glass_is_integrated_to_the_fourth_order_delays_included():
    def at(time: int, substeps: int) -> float:
        return tasks.mackey_glass(1, start=1.2, washout=time, substeps=substeps).item()

    for time in (60, 300):
        exact = at(time, 80)
        coarse, fine = (abs(at(time, substeps) - exact) for substeps in (5, 10))
        assert fine < 1e-9
        assert 14 < coarse / fine < 18  # 2^4 = 16


def test_mackey_glass_rests_at_1_up_to_the_delay_where_its_linear_part_begins_to_swing():
    # About 1 the equation is dz/dt = -0.4 z(t - tau) - 0.1 z. A solution exp(iwt) takes cos(w tau) = -1/4 and
    # w = sqrt(0.4^2 - 0.1^2).
    critical = np.arccos(-0.25) / np.sqrt(0.4**2 - 0.1**2)
    assert 4.6 < critical < 4.8
    distances = {tau: np.abs(tasks.mackey_glass(100, tau=tau, washout=3000) - 1).max() for tau in (2.0, 4.6, 4.8, 6.0)}
    assert distances[2.0] < 1e-12 and distances[4.6] < 1e-4
    assert distances[4.8] > 0.01 and distances[6.0] > 0.1


def test_mackey_glass_at_17_is_sensitive_to_where_it_began_but_slowly():
    one, other = (tasks.mackey_glass(3000, start=start, washout=0).ravel() for start in (1.2, 1.2 + 1e-6))
    apart = np.abs(one - other)
    assert apart[200:300].max() < 1e-4  # so that 84 steps can be forecast
    assert apart[2500:].max() > 0.1
    assert 0.2 < one[500:].min() < one[500:].max() < 1.4


def test_sines_have_their_periods_and_the_variance_1():
    wave = tasks.sines(20_000).ravel()
    assert wave.var() == pytest.approx(1, abs=0.02)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    peaks = [i for i in range(1, len(spectrum) - 1) if spectrum[i] == spectrum[i - 1 : i + 2].max() > 500]
    assert [round(20_000 / i) for i in peaks] == [144, 55, 21, 8]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: tasks.adding(10, 3),
        lambda: tasks.copy_memory(5, 3),
        lambda: tasks.temporal_order(20, 9),
        lambda: tasks.agreement(9, 3),
        lambda: tasks.mackey_glass(9, washout=0),
        lambda: tasks.sines(9),
    ],
)
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
    with pytest.raises(ArgumentError, match="1 at least, got 0"):
        tasks.copy_memory(0, 5)
    with pytest.raises(ArgumentError, match="must be at least 1, got 0"):
        tasks.copy_memory(5, 5, count=0)
    with pytest.raises(ArgumentError, match="10 at least, got 9"):
        tasks.temporal_order(9, 5)
    with pytest.raises(ArgumentError, match="distance must be at least 1"):
        tasks.agreement(0, 5)
    with pytest.raises(ArgumentError, match="steps must be at least 1 and washout at least 0, got 0 and 3"):
        tasks.mackey_glass(0, washout=3)


@pytest.mark.parametrize(("tau", "substeps"), [(17.05, 10), (0, 10), (-1, 10), (17, 0), (float("nan"), 10), (0.1, 5)])
def test_a_delay_that_is_no_multiple_of_the_step_is_refused(tau, substeps):
    with pytest.raises(ArgumentError, match="tau must be a positive multiple of the step"):
        tasks.mackey_glass(5, tau=tau, substeps=substeps)
