"""The cells learn what they are known to learn, beside those that do not. The table: `python -m tests.learning`."""

from __future__ import annotations

import pytest

from . import experiments as e

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("cell, bound", [("lstm", 0.01), ("gru", 0.01), ("irnn", 0.05)])
def test_gates_and_identity_weights_learn_to_add_two_numbers_a_hundred_steps_apart(cell, bound):
    assert e.adding(cell, seed=0)[0] < bound


def test_an_elman_network_of_tanh_does_not_learn_to_add_beyond_answering_1():
    assert e.adding("elman", seed=0)[0] > 0.14  # 1/6 knows nothing


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_carry_the_number_of_a_noun_over_fifty_words_to_its_verb(cell):
    assert min(e.agreement(cell, seed=0)) > 0.98


def test_an_elman_network_forgets_the_number_of_a_noun_fifty_words_back():
    assert e.agreement("elman", seed=0)[-1] < 0.75


def test_an_echo_state_network_predicts_a_system_of_tenth_order():
    assert e.narma10(seed=0) < 0.12


def test_a_clockwork_network_keeps_time_where_an_elman_network_of_equal_size_does_not():
    assert e.sines("clockwork", seed=0) < 0.05 < 0.5 < e.sines("elman", seed=0)
