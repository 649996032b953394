"""Learning rate schedules: their formulas, their ends, and how an optimiser reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from minigrad.errors import ArgumentError

RATES = st.floats(1e-6, 10)
COUNTS = st.integers(1, 100)


@given(start=RATES, end=RATES, steps=COUNTS)
def test_cosine_goes_from_start_to_end_through_their_middle_and_stays(start, end, steps):
    rate = optim.cosine(start, steps, end=end)
    assert rate(0) == pytest.approx(start)
    assert rate(steps) == pytest.approx(end)
    assert rate(steps + 5) == rate(steps)
    for step in range(steps):  # sin^2 of half the angle: the same curve in another form
        s = math.sin(math.pi * step / steps / 2) ** 2
        assert rate(step) == pytest.approx((1 - s) * start + s * end)


@given(start=RATES, factor=st.floats(0.1, 1), every=COUNTS)
def test_exponential_multiplies_each_time_so_many_steps_are_done(start, factor, every):
    rate, expected = optim.exponential(start, factor, every=every), start
    for step in range(3 * every + 1):
        if step and step % every == 0:
            expected *= factor
        assert rate(step) == pytest.approx(expected)


@given(start=RATES, end=RATES, steps=COUNTS)
def test_linear_goes_from_start_to_end_by_equal_steps_and_stays(start, end, steps):
    rate = optim.linear(start, steps, end=end)
    assert rate(0) == pytest.approx(start)
    assert rate(steps) == rate(steps + 5) == pytest.approx(end)
    for step in range(steps):
        assert rate(step + 1) - rate(step) == pytest.approx((end - start) / steps, abs=1e-12 * (start + end))


@given(scale=st.floats(1, 1e6), step=st.integers(0, 10**6))
def test_inverse_sigmoid_is_the_formula_of_scheduled_sampling_wherever_it_does_not_overflow(scale, step):
    rate = optim.inverse_sigmoid(scale)
    assert 0 <= rate(step + 1) <= rate(step) < 1
    assert rate(round(scale * math.log(scale))) == pytest.approx(0.5, abs=0.26 / scale)
    if step / scale < 700:
        assert rate(step) == pytest.approx(scale / (scale + math.exp(step / scale)))


def test_inverse_sigmoid_needs_a_scale_from_1():
    with pytest.raises(ArgumentError, match=r"at least 1, got 0.5"):
        optim.inverse_sigmoid(0.5)


@given(steps=COUNTS, then=RATES)
def test_warmup_rises_in_a_straight_line_and_never_takes_a_step_of_zero(steps, then):
    rate = optim.warmup(steps, then)
    for step in range(steps):
        assert rate(step) == pytest.approx(then * (step + 1) / steps)
        assert rate(step) > 0
    assert rate(steps) == rate(10 * steps) == then


@given(steps=COUNTS, later=st.integers(0, 50))
def test_what_follows_a_warmup_starts_counting_when_it_ends(steps, later):
    then = optim.exponential(1.0, 0.9)
    assert optim.warmup(steps, then)(steps + later) == then(later)


@pytest.mark.parametrize(
    "wrong", [lambda: optim.cosine(1.0, 0), lambda: optim.exponential(1.0, 0.5, every=0), lambda: optim.warmup(-1, 1.0)]
)
def test_a_schedule_over_no_steps_is_refused(wrong):
    with pytest.raises(ArgumentError, match="positive"):
        wrong()


def test_an_optimizer_asks_its_schedule_with_the_number_of_steps_done():
    p = mg.tensor([0.0], requires_grad=True)
    asked = []
    optimizer = optim.SGD([p], lambda step: asked.append(step) or 2.0**-step)
    for _ in range(3):
        p.grad = mg.ones((1,))
        optimizer.step()
    assert asked == [0, 1, 2]
    assert p.tolist() == [-1.75]
    assert optimizer.rate == 0.125


def test_by_default_a_cosine_ends_at_zero_and_an_exponential_falls_at_every_step():
    assert optim.cosine(1.0, 4)(4) == 0
    assert [optim.exponential(1.0, 0.5)(step) for step in range(3)] == [1.0, 0.5, 0.25]
