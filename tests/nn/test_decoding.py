"""Decoding against enumeration of all sequences, a beam search without states, and frequencies."""

from __future__ import annotations

import functools
import itertools
from math import exp, inf, log, nan
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import graph, nn
from minigrad.errors import AnomalyError, ArgumentError, DtypeError, OutOfRangeError, ShapeError
from minigrad.nn.decoding import Hypothesis, beam_search, greedy, log_probability, sample

from ..conftest import BACKENDS
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import close, in_float64

EVERY_BACKEND = st.sampled_from(BACKENDS)


class Memory(NamedTuple):
    """The state of the model below: parts of several ranks and dtypes, with rows and without."""

    h: mg.Tensor  # (B, 3), turned by every token read, so that it tells histories apart
    rest: dict


class Oracle:
    """Predicts from all tokens read so far and from what is peculiar to each row, in NumPy and as a step."""

    def __init__(self, seed: int, rows: int, vocabulary: int):
        rng = np.random.default_rng(seed)
        self.rows, self.vocabulary, self.calls = rows, vocabulary, 0
        self.turn, self.own = rng.normal(size=(vocabulary, 3)), rng.normal(size=(rows, 2, 3))
        self.out = 2 * rng.normal(size=(3, vocabulary))
        self.first = rng.integers(vocabulary, size=rows).tolist()

    def log_probabilities(self, row: int, history: tuple[int, ...]) -> np.ndarray:
        """Of what follows the first token and this history (V,)."""
        h = np.zeros(3)
        for age, token in enumerate((self.first[row], *history)):
            h = np.sin(2 * h + self.turn[token] + self.own[row, 1] + 0.3 * age)
        p = np.exp(h @ self.out)
        return np.log(p / p.sum())

    def of(self, row: int, tokens: tuple[int, ...]) -> float:
        return sum(self.log_probabilities(row, tokens[:t])[token] for t, token in enumerate(tokens))

    def all_sequences(self, steps, stop, forbidden) -> list[tuple[int, ...]]:
        """Those that end with stop, and those of so many steps without."""
        found = []
        for length in range(steps + 1):
            for tokens in itertools.product(range(self.vocabulary), repeat=length):
                if stop in tokens[:-1] or set(tokens) & set(forbidden):
                    continue
                if length == steps or (tokens and tokens[-1] == stop):
                    found.append(tokens)
        return found

    def state(self, backend: str) -> Memory:
        ages = mg.zeros((self.rows,), dtype="int64", backend=backend)
        start = mg.zeros((self.rows, 3), dtype="float64", backend=backend)
        own = as_tensor(self.own, backend, requires_grad=True)
        rate = mg.tensor(2.0, dtype="float64", backend=backend)
        return Memory(start, {"ages": ages, "fixed": [own, (rate, None, 0.3)]})

    def step(self, tokens, state):
        self.calls += 1
        (own, (rate, nothing, pace)), ages = state.rest["fixed"], state.rest["ages"]
        turn, out = as_tensor(self.turn, tokens.backend), as_tensor(self.out, tokens.backend)
        years = mg.expand_dims(ages, axis=1).astype("float64")
        h = mg.sin(rate * state.h + mg.take(turn, tokens, axis=0) + own[:, 1] + pace * years)
        assert tokens.dtype == ages.dtype and not h.requires_grad
        return h @ out, Memory(h, {"ages": ages + 1, "fixed": [own, (rate, nothing, pace)]})


def without(stop, tokens):
    return [token for token in tokens if token != stop]


def naive_beams(oracle, row, steps, width, penalty, stop, forbidden):
    """Beam search by its definition: histories instead of states, and all steps, however hopeless."""
    live, done = [()], []
    for _ in range(steps):
        longer = [(*tokens, new) for tokens in live for new in range(oracle.vocabulary) if new not in forbidden]
        best = sorted(longer, key=lambda tokens: -oracle.of(row, tokens))[:width]
        live = [tokens for tokens in best if tokens[-1] != stop]
        done += [tokens for tokens in best if tokens[-1] == stop]
    return ranked(oracle, row, live + done, penalty, stop)[:width]


def ranked(oracle, row, sequences, penalty, stop):
    found = [
        Hypothesis(
            without(stop, tokens), oracle.of(row, tokens), oracle.of(row, tokens) / max(len(tokens), 1) ** penalty
        )
        for tokens in sequences
    ]
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    np.testing.assert_allclose([h[1:] for h in found], [h[1:] for h in expected], rtol=1e-12, atol=1e-12)


@st.composite
def tasks(draw, max_vocabulary=4, max_steps=4):
    """A model, and the arguments all decoders share."""
    vocabulary = draw(st.integers(2, max_vocabulary))
    oracle = Oracle(draw(SEEDS), draw(st.integers(1, 3)), vocabulary)
    stop = draw(st.none() | st.integers(0, vocabulary - 1))
    others = [token for token in range(vocabulary) if token != stop]
    forbidden = draw(st.sets(st.sampled_from(others), max_size=len(others) - (stop is None)))
    return oracle, draw(st.integers(0, max_steps)), stop, forbidden


def asked(oracle, backend):
    return oracle.step, oracle.state(backend), mg.tensor(oracle.first, dtype="int32", backend=backend)


PENALTIES = st.sampled_from([0.0, 0.7, 1.0, 3.0, -1.5])


# greedy


@given(task=tasks(), backend=EVERY_BACKEND)
def test_greedy_makes_the_likeliest_token_at_each_step(task, backend):
    oracle, steps, stop, forbidden = task
    found = greedy(*asked(oracle, backend), steps, stop=stop, forbidden=forbidden)
    for row in range(oracle.rows):
        tokens: tuple[int, ...] = ()
        while len(tokens) < steps and not (tokens and tokens[-1] == stop):
            table = oracle.log_probabilities(row, tokens)
            table[list(forbidden)] = -inf
            tokens += (int(table.argmax()),)
        assert found.tokens[row] == without(stop, tokens)
        assert found.log_probabilities[row] == pytest.approx(oracle.of(row, tokens), abs=1e-12)


def certain(*sequences):
    """A step that gives each row, however many hypotheses it has, its own sequence with certainty, and counts."""

    def step(tokens, count):
        each = tokens.shape[0] // len(sequences)
        rows = [[0.0 if v == s[count] else -inf for v in range(4)] for s in sequences for _ in range(each)]
        return mg.tensor(rows, backend=tokens.backend), count + 1

    return step


def test_rows_end_on_their_own_and_no_step_is_taken_after_the_last(backend):
    read = []

    def step(tokens, count):
        read.append(tokens.tolist())
        return certain([1, 3, 2, 2], [2, 2, 1, 3], [3, 1, 1, 1])(tokens, count)

    first = mg.tensor([0, 0, 0], dtype="int64", backend=backend)
    assert greedy(step, 0, first, 10, stop=3) == ([[1], [2, 2, 1], []], [0.0, 0.0, 0.0])
    assert read == [[0, 0, 0], [1, 2, 3], [3, 2, 3], [3, 1, 3]]


def test_what_an_ended_row_computes_is_ignored_even_nan(backend):
    def step(tokens, count):
        places = tokens.shape[0] // 2
        logits, _ = certain(*[[3, 0, 0]] * places, *[[1, 2, 3]] * places)(tokens, count)
        return (mg.index_update(logits, slice(places), nan) if count else logits), count + 1

    first = mg.tensor([0, 0], dtype="int64", backend=backend)
    assert greedy(step, 0, first, 10, stop=3) == ([[], [1, 2]], [0.0, 0.0])
    with mg.seed(1):
        assert sample(step, 0, first, 10, stop=3) == ([[], [1, 2]], [0.0, 0.0])
    found = beam_search(step, 0, first, 10, stop=3, width=2)
    assert found == [[Hypothesis([], 0.0, 0.0)], [Hypothesis([1, 2], 0.0, 0.0)]]


def test_the_first_of_equally_likely_tokens_is_made():
    def step(tokens, state):
        return mg.tensor([[0.0, 1.0, 1.0, 1.0]]), state

    assert greedy(step, None, [0], 3).tokens == [[1, 1, 1]]
    assert greedy(step, None, [0], 3, forbidden=[1]).tokens == [[2, 2, 2]]
    assert beam_search(step, None, [0], 3, width=1)[0][0].tokens == [1, 1, 1]


# Beam search


@given(task=tasks(max_vocabulary=3, max_steps=3), penalty=PENALTIES, backend=EVERY_BACKEND)
def test_a_width_of_all_sequences_is_exhaustive_enumeration(task, penalty, backend):
    oracle, steps, stop, forbidden = task
    width = oracle.vocabulary**steps
    found = beam_search(
        *asked(oracle, backend), steps, width=width, length_penalty=penalty, stop=stop, forbidden=forbidden
    )
    assert len(found) == oracle.rows
    for row, hypotheses in enumerate(found):
        sequences = oracle.all_sequences(steps, stop, forbidden)
        assert_same(hypotheses, ranked(oracle, row, sequences, penalty, stop))


@given(task=tasks(max_steps=5), width=st.integers(1, 5), penalty=PENALTIES, backend=EVERY_BACKEND)
def test_states_follow_their_hypotheses_and_stopping_early_loses_none(task, width, penalty, backend):
    oracle, steps, stop, forbidden = task
    found = beam_search(
        *asked(oracle, backend), steps, width=width, length_penalty=penalty, stop=stop, forbidden=forbidden
    )
    for row, hypotheses in enumerate(found):
        assert_same(hypotheses, naive_beams(oracle, row, steps, width, penalty, stop, forbidden))


@given(task=tasks(max_steps=6), penalty=PENALTIES)
def test_a_width_of_one_is_greedy(task, penalty):
    oracle, steps, stop, forbidden = task
    options = {"stop": stop, "forbidden": forbidden}
    expected = greedy(*asked(oracle, "numpy"), steps, **options)
    found = beam_search(*asked(oracle, "numpy"), steps, width=1, length_penalty=penalty, **options)
    assert [row[0].tokens for row in found] == expected.tokens
    assert [row[0].log_probability for row in found] == expected.log_probabilities
    assert {len(row) for row in found} == {1}


@given(seed=SEEDS, backend=EVERY_BACKEND)
def test_the_probabilities_of_all_sequences_sum_to_one(seed, backend):
    oracle = Oracle(seed, 2, 3)
    for row in beam_search(*asked(oracle, backend), 4, width=81, stop=1):
        assert sum(exp(h.log_probability) for h in row) == pytest.approx(1.0, abs=1e-12)


def test_beam_search_finds_the_sequence_that_greedy_misses_in_dive_into_deep_learning():
    """Zhang et al., section 10.8.1: the greedy A B C <eos> has probability 0.048, A C B <eos> has 0.054."""
    a, b, c, eos = range(4)
    follows = {
        (): [0.5, 0.2, 0.2, 0.1],
        (a,): [0.1, 0.4, 0.3, 0.2],
        (a, b): [0.2, 0.2, 0.4, 0.2],
        (a, b, c): [0.0, 0.2, 0.2, 0.6],
        (a, c): [0.1, 0.6, 0.2, 0.1],
        (a, c, b): [0.1, 0.2, 0.1, 0.6],
    }

    def step(tokens, read):
        """The state (B, 4) holds the tokens read, with -1 where none has been."""
        read = mg.concat([read[:, 1:], mg.expand_dims(tokens, axis=1)], axis=1)
        rows = [follows.get(tuple(t for t in row if t in (a, b, c)), [0.25] * 4) for row in read.tolist()]
        return mg.log(mg.maximum(mg.tensor(rows), 1e-30)), read

    nothing = mg.full((1, 4), 9, dtype="int64")
    found = greedy(step, nothing, [9], 4, stop=eos)
    assert found.tokens == [[a, b, c]] and exp(found.log_probabilities[0]) == pytest.approx(0.048, rel=1e-6)
    best = beam_search(step, nothing, [9], 4, width=2, length_penalty=1.0, stop=eos)[0][0]
    assert best.tokens == [a, c, b] and exp(best.log_probability) == pytest.approx(0.054, rel=1e-6)


def two_ways(tokens, state):
    """0: stop, with 0.4 at once; else 1 (0.6), and then 1 or 0 (0.5 each)."""
    rows = [[0.4, 0.6] if token == 2 else [0.5, 0.5] for token in tokens.tolist()]
    return mg.log(mg.tensor(rows, dtype="float64", backend=tokens.backend)), state


def test_length_normalisation_changes_the_winner(backend):
    first = mg.tensor([2], dtype="int64", backend=backend)
    short, long = log(0.4), log(0.6) + log(0.5)
    plain = beam_search(two_ways, None, first, 2, width=2, stop=0)[0]
    assert_same(plain[:1], [Hypothesis([], short, short)])
    mean = beam_search(two_ways, None, first, 2, width=2, stop=0, length_penalty=1.0)[0]
    assert_same(mean[:1], [Hypothesis([1], long, long / 2)])  # log(0.3) / 2 > log(0.4)
    assert [h.tokens for h in plain[:2]] == [[], [1]]
    assert [h.tokens for h in mean] == [[1], [1, 1]]


@pytest.mark.parametrize(
    "penalty, calls, found", [(0.0, 2, [[1], []]), (-1.0, 2, [[], [1]]), (1.0, 4, [[1, 1, 1], [1]])]
)
def test_the_search_ends_as_soon_as_nothing_live_can_win_and_no_sooner(penalty, calls, found):
    """After two steps 0.3 and 0.42 are put aside, and 0.28 lives, which can only fall.

    A mean of log(0.28) / 10 would still win. At four steps 0.266 is put aside, log(0.266) / 4 = -0.33, beside
    log(0.42) / 2 = -0.43, and what lives has a ten-thousandth of that: a mean of -1.05 at best.
    """
    count = 0

    def step(tokens, state):
        nonlocal count
        count += 1
        p = [0.3, 0.6, 0.05, 0.9999][count - 1]
        return mg.log(mg.tensor([[p, 1 - p]] * tokens.shape[0], dtype="float64")), state

    beams = beam_search(step, None, [1], 10, width=2, length_penalty=penalty, stop=0)
    assert count == calls
    assert [h.tokens for h in beams[0]] == found


@pytest.mark.parametrize(
    "penalty, stops, found",
    [
        # log(0.6), log(0.36) / 2 = -0.51 are put aside; log(0.04) / 3 = -1.07 is worse, log(0.04) / 10 = -0.32 better
        (1.0, [0.6, 0.9] + 8 * [1e-9], [[1] * 10, []]),
        # log(0.4), 2 log(0.12) = -4.24 are put aside; 3 log(0.48) = -2.20 is better, 10 log(0.48) = -7.34 worse
        (-1.0, [0.4, 0.2, 0.99] + 7 * [0.5], [[], [1, 1]]),
    ],
)
def test_the_search_goes_on_for_what_may_win_soon_or_only_at_the_last_step(penalty, stops, found):
    def step(tokens, count):
        rows = [[stops[count], 1 - stops[count]]] * tokens.shape[0]
        return mg.log(mg.tensor(rows, dtype="float64")), count + 1

    beams = beam_search(step, 0, [1], 10, width=2, length_penalty=penalty, stop=0)
    assert [h.tokens for h in beams[0]] == found


def test_rows_of_one_batch_are_searched_as_if_alone(backend):
    oracle = Oracle(7, 3, 4)
    together = beam_search(*asked(oracle, backend), 5, width=3, stop=0)
    step, state, first = asked(oracle, backend)
    for row in range(3):
        h, rest = state
        own, others = rest["fixed"]
        alone = Memory(h[row : row + 1], {"ages": rest["ages"][row : row + 1], "fixed": [own[row : row + 1], others]})
        assert_same(beam_search(step, alone, first[row : row + 1], 5, width=3, stop=0)[0], together[row])


def test_impossible_hypotheses_are_not_made():
    found = beam_search(certain([1, 3], [2, 2]), 0, [0, 0], 2, width=1)
    assert [[h.tokens for h in row] for row in found] == [[[1, 3]], [[2, 2]]]

    def step(tokens, state):
        return mg.tensor([[0.0, -inf, 0.0]] * tokens.shape[0]), state

    found = beam_search(step, None, [0], 2, width=9)
    assert sorted(h.tokens for h in found[0]) == [[0, 0], [0, 2], [2, 0], [2, 2]]


# Sampling


def chi_square(counts: np.ndarray, p: np.ndarray) -> None:
    """The counts are as drawn from p: the statistic is below its mean by 6 standard deviations more."""
    assert counts[p == 0].sum() == 0
    counts, p = counts[p > 0], p[p > 0] / p.sum()
    expected = counts.sum() * p
    freedom = len(p) - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 6 * (2 * freedom) ** 0.5


LOGITS = np.array([0.3, 1.2, -0.7, 0.9, -inf, -2.0])


def drawn(backend, rows=20_000, **options):
    def step(tokens, state):
        return mg.broadcast_to(mg.tensor(LOGITS, backend=backend), (rows, len(LOGITS))), state

    first = mg.zeros((rows,), dtype="int64", backend=backend)
    found = sample(step, None, first, 1, **options)
    tokens = [row[0] for row in found.tokens]
    own = LOGITS - np.log(np.exp(LOGITS).sum())
    np.testing.assert_allclose(found.log_probabilities, own[tokens], rtol=1e-12)
    return np.bincount(tokens, minlength=len(LOGITS))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_tokens_are_drawn_from_the_softmax_of_logits_over_temperature(temperature, backend):
    chi_square(drawn(backend, temperature=temperature), np.exp(LOGITS / temperature))


@pytest.mark.slow
def test_only_the_k_likeliest_are_drawn(backend):
    for k, kept in ((1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (100, range(6))):
        p = np.where(np.isin(range(6), kept), np.exp(LOGITS), 0)
        if k > 1:
            chi_square(drawn(backend, top_k=k), p)
        else:
            assert drawn(backend, top_k=k).tolist() == [0, 20_000, 0, 0, 0, 0]


def test_the_rest_shares_the_probability_of_forbidden_tokens_which_do_not_count_among_the_k(backend):
    p = np.exp(LOGITS / 2) * [1, 0, 1, 0, 1, 1]
    chi_square(drawn(backend, forbidden=(1, 3), temperature=2), p)
    chi_square(drawn(backend, forbidden={1, 3}, temperature=2, top_k=2), p * [1, 0, 1, 0, 0, 0])


def test_whole_sequences_are_drawn_with_the_probability_that_is_reported():
    oracle, rows, stop = Oracle(3, 1, 3), 20_000, 2
    oracle.own, oracle.rows, oracle.first = np.repeat(oracle.own, rows, axis=0), rows, oracle.first * rows
    found = sample(*asked(oracle, "numpy"), 3, stop=stop)
    sequences = oracle.all_sequences(3, stop, ())
    keys = [(without(stop, s), len(s)) for s in sequences]
    counts = np.zeros(len(keys))
    for tokens, reported in zip(found.tokens, found.log_probabilities):
        place = keys.index((tokens, min(len(tokens) + 1, 3)))
        counts[place] += 1
        if counts[place] == 1:
            assert reported == pytest.approx(oracle.of(0, sequences[place]), abs=1e-12)
    assert len(keys) == 15
    chi_square(counts, np.exp([oracle.of(0, s) for s in sequences]))


@given(task=tasks(max_steps=6), top_k=st.none() | st.integers(1, 4), temperature=st.sampled_from([0, 1e-300, 5e-324]))
def test_at_temperature_zero_and_next_to_it_sampling_is_greedy(task, top_k, temperature):
    oracle, steps, stop, forbidden = task
    before = mg.random.get_state()
    found = sample(*asked(oracle, "numpy"), steps, temperature=temperature, top_k=top_k, stop=stop, forbidden=forbidden)
    assert found == greedy(*asked(oracle, "numpy"), steps, stop=stop, forbidden=forbidden)
    assert (mg.random.get_state() == before) == (temperature == 0 or steps == 0)


def test_at_a_huge_temperature_all_possible_tokens_are_equally_likely():
    chi_square(drawn("numpy", temperature=1.7e308), np.isfinite(LOGITS).astype(float))


def test_a_seed_decides_what_is_drawn_on_every_backend(backend):
    oracle = Oracle(5, 3, 4)
    with mg.seed(11):
        expected = sample(*asked(oracle, "numpy"), 8, stop=0)
    with mg.seed(11):
        found = sample(*asked(oracle, backend), 8, stop=0)
    with mg.seed(12):
        other = sample(*asked(oracle, backend), 8, stop=0)
    assert found.tokens == expected.tokens != other.tokens


def test_what_a_row_draws_does_not_depend_on_when_others_end():
    def decode(ends_at_once):
        def step(tokens, state):
            own = [[-inf, -inf, -inf, 0.0]] if ends_at_once else [[0.0, 0.0, 0.0, -9.0]]
            return mg.tensor([*own, [0.0, 0.0, 0.0, -1.0]]), state

        with mg.seed(4):
            return sample(step, None, [0, 0], 12, stop=3).tokens

    (short, own), (long, again) = decode(True), decode(False)
    assert own == again and len(own) > 2
    assert short == [] and len(long) > 2


# The log-probability of given sequences


def test_a_log_probability_is_the_logarithm_of_the_product_by_hand(backend):
    p = np.array([[[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], [[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]])
    with np.errstate(divide="ignore"):
        logits = as_tensor(np.log(p) + [[[3.0], [-700.0]], [[5000.0], [0.0]]], backend)
    tokens = mg.tensor([[2, 0], [1, 2]], dtype="int64", backend=backend)
    close(log_probability(logits, tokens), np.log([0.5 * 0.3, 0.8]), 1e-12)
    close(log_probability(logits, tokens, [1, 2]), np.log([0.5, 0.8]))
    close(log_probability(logits, tokens, lengths=mg.tensor([2, 0], dtype="int64")), np.log([0.5 * 0.3, 1.0]), 1e-12)
    assert log_probability(logits, [[2, 1], [1, 2]]).tolist()[1] == -inf


@given(T=st.integers(0, 4), B=st.integers(0, 3), V=st.integers(1, 4), seed=SEEDS, backend=EVERY_BACKEND)
def test_a_log_probability_is_the_sum_over_the_steps_that_count_and_nothing_else_has_an_effect(T, B, V, seed, backend):
    rng = np.random.default_rng(seed)
    logits, tokens = rng.normal(size=(T, B, V)), rng.integers(V, size=(T, B))
    lengths = rng.integers(T + 1, size=B)
    expected, slope = np.zeros(B), np.zeros((T, B, V))
    for b in range(B):
        for t in range(lengths[b]):
            p = np.exp(logits[t, b]) / np.exp(logits[t, b]).sum()
            expected[b] += np.log(p[tokens[t, b]])
            slope[t, b] = (b + 1) * (np.eye(V)[tokens[t, b]] - p)
        logits[lengths[b] :, b], tokens[lengths[b] :, b] = nan, -100
    leaf = as_tensor(logits, backend, requires_grad=True)
    found = log_probability(leaf, as_tensor(tokens, backend), lengths)
    close(found, expected, 1e-12, floor=1.0)
    found.backward(as_tensor(np.arange(1.0, B + 1), backend))
    close(leaf.grad, slope, 1e-12, floor=1.0)
    assert all((as_numpy(leaf.grad)[n:, b] == 0).all() for b, n in enumerate(lengths))


def test_a_log_probability_has_second_derivatives():
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(size=(3, 2, 4)), rng.integers(4, size=(3, 2))
    mg.gradcheck(lambda x: log_probability(x, tokens, [3, 1]), [logits], order=2)


def test_a_language_model_gives_each_decoded_sequence_the_log_probability_that_was_reported(backend):
    """An LSTM, stepped by the decoders, and run over their sequences by nn.Recurrent."""
    V, stop, steps = 5, 0, 6
    net, out = nn.Recurrent(nn.LSTMCell, V, 8), nn.Linear(8, V)
    for module in (net, out):
        in_float64(module, backend)
        for parameter in module.parameters():
            parameter.data = parameter.data * 4

    def read(tokens):
        return mg.one_hot(tokens, V, dtype="float64")

    def step(tokens, state):
        h, state = net.cell(read(tokens), state)
        return out(h), state

    first = mg.tensor([1, 2, 3], dtype="int64", backend=backend)
    start = net.cell.initial_state(3)
    beams = beam_search(step, start, first, steps, width=3, stop=stop)
    results = [greedy(step, start, first, steps, stop=stop), sample(step, start, first, steps, stop=stop)]
    results += [([row[k].tokens for row in beams], [row[k].log_probability for row in beams]) for k in range(3)]
    for rows, reported in results:
        whole = [(tokens + [stop])[:steps] for tokens in rows]
        tokens = np.array([tokens + [stop] * (steps - len(tokens)) for tokens in whole]).T
        fed = np.concatenate([[[1, 2, 3]], tokens[:-1]])
        logits = out(net(read(as_tensor(fed, backend)))[0])
        found = log_probability(logits, as_tensor(tokens, backend), [len(tokens) for tokens in whole])
        close(found, np.array(reported), 1e-12)


# What surrounds them

DECODERS = pytest.mark.parametrize("decode", [greedy, sample, beam_search])


@DECODERS
def test_nothing_is_recorded_and_gradients_are_on_again_after(decode):
    weight = mg.tensor([[1.0, 2.0]], requires_grad=True)
    seen = []

    def step(tokens, state):
        seen.append(graph.grad_enabled.get())
        logits = mg.broadcast_to(weight, (tokens.shape[0], 2)) * 2
        assert not logits.requires_grad
        return logits, state

    decode(step, None, [0], 3)
    assert seen == [False] * 3 and graph.grad_enabled.get()


@DECODERS
def test_no_rows_and_no_steps_give_empty_results(decode, backend):
    def step(tokens, state):
        raise AssertionError("a step was taken")

    state = (mg.zeros((0, 3), backend=backend), 1)
    none = decode(step, state, mg.zeros((0,), dtype="int64", backend=backend), 5)
    assert none == ([] if decode is beam_search else ([], []))
    found = decode(step, None, [1, 2], 0)
    assert found == ([[Hypothesis([], 0.0, 0.0)]] * 2 if decode is beam_search else ([[], []], [0.0, 0.0]))


@DECODERS
def test_the_first_tokens_may_be_a_tensor_an_array_or_a_list_and_go_where_the_state_is(decode, backend):
    def step(tokens, state):
        assert tokens.backend == backend and str(tokens.dtype).endswith("int64")
        return mg.take(state[0], tokens * 0, axis=0), state

    tables = mg.tensor([[0.0, 3.0], [1.0, 0.0]], backend=backend)
    with mg.seed(0):
        expected = decode(step, (tables,), mg.tensor([1, 0], dtype="int32", backend=backend), 2)
    for first in ([1, 0], (1, 0), np.array([1, 0])):
        with mg.seed(0):
            assert decode(step, (tables,), first, 2) == expected


def uniform(vocabulary=3):
    return lambda tokens, state: (mg.zeros((tokens.shape[0], vocabulary)), state)


@DECODERS
@pytest.mark.parametrize(
    "error, match, change",
    [
        (ArgumentError, "all 3 tokens are forbidden", {"forbidden": [0, 1, 2]}),
        (ArgumentError, "stop=1 is among the forbidden", {"forbidden": [1], "stop": 1}),
        (OutOfRangeError, "stop: 3 is no token: the logits are of 0 ... 2", {"stop": 3}),
        (OutOfRangeError, "stop: -1 is no token", {"stop": -1}),
        (OutOfRangeError, "forbidden: 7 is no token", {"forbidden": [0, 7]}),
        (DtypeError, "stop must hold integers", {"stop": 1.0}),
        (DtypeError, "forbidden must hold integers", {"forbidden": ["<UNK>"]}),
        (DtypeError, "forbidden must hold integers", {"forbidden": 1}),
        (ArgumentError, "steps must be an integer from 0, got -1", {"steps": -1}),
        (ArgumentError, "steps must be an integer from 0, got 2.0", {"steps": 2.0}),
        (ArgumentError, "steps must be an integer from 0, got True", {"steps": True}),
        (DtypeError, "first must hold integers", {"first": mg.tensor([1.0, 2.0])}),
        (DtypeError, "first must hold integers", {"first": [0.5, 1]}),
        (DtypeError, "first must hold integers", {"first": 3}),
        (DtypeError, "first must hold integers", {"first": [[1], [2]]}),
        (DtypeError, "first must hold integers", {"first": np.array([True, False])}),
        (ArgumentError, r"step must return \(logits, state\), got one Tensor", {"step": lambda t, s: mg.zeros((2, 3))}),
        (ArgumentError, r"step must return \(logits, state\), got a tuple of 3", {"step": lambda t, s: (t, s, s)}),
        (DtypeError, "logits must be a tensor, got list; mg.tensor makes one", {"step": lambda t, s: ([[1.0]], s)}),
        (
            DtypeError,
            "logits must be a tensor, got ndarray; mg.tensor makes one",
            {"step": lambda t, s: (np.zeros((len(t), 3)), mg.zeros((len(t), 3)))},
        ),
        (
            DtypeError,
            "logits must be a tensor, got tuple; are logits and state in this order?",
            {"step": lambda t, s: ((mg.zeros((len(t), 3)), None), mg.zeros((len(t), 3)))},
        ),
        (
            DtypeError,
            "logits must be a tensor, got NoneType; are logits and state in this order?",
            {"step": lambda t, s: (s, mg.zeros((len(t), 3)))},
        ),
        (DtypeError, "logits that are floats", {"step": lambda t, s: (mg.zeros((2, 3), dtype="int64"), s)}),
        (ShapeError, r"must return logits \(B, V\)", {"step": lambda t, s: (mg.zeros((3,)), s)}),
        (ShapeError, r"must return logits \(B, V\)", {"step": lambda t, s: (mg.zeros((2, 0)), s)}),
        (ShapeError, r"3\) this time, got \(7, 3\)", {"step": lambda t, s: (mg.zeros((7, 3)), s)}),
        (
            ShapeError,
            r"1\) this time, got \(\d+, 2\)",
            {"step": lambda t, s: (mg.zeros((len(t), s)), s + 1), "state": 1},
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(decode, error, match, change):
    arguments = {"step": uniform(), "state": None, "first": [0, 0], "steps": 2, **change}
    with pytest.raises(error, match=f"^{decode.__name__}: .*{match}"):
        decode(**arguments)


@pytest.mark.parametrize("temperature", [-0.1, nan, inf, "hot", None, True])
def test_a_temperature_is_a_finite_number_from_zero(temperature):
    with pytest.raises(ArgumentError, match=r"^sample: temperature must be a finite number from 0, got"):
        sample(uniform(), None, [0], 1, temperature=temperature)


def test_counts_are_integers_from_one():
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ArgumentError, match=r"^sample: top_k must be an integer from 1, got"):
            sample(uniform(), None, [0], 1, top_k=bad)
        with pytest.raises(ArgumentError, match=r"^beam_search: width must be an integer from 1, got"):
            beam_search(uniform(), None, [0], 1, width=bad)
    assert len(beam_search(uniform(), None, [0], np.int64(1), width=np.int64(2))[0]) == 2


def test_a_length_penalty_is_a_finite_number_that_can_be_computed_with():
    for bad in (nan, inf, "long"):
        with pytest.raises(ArgumentError, match=r"^beam_search: length_penalty must be a finite number, got"):
            beam_search(uniform(), None, [0], 1, length_penalty=bad)
    for huge in (1e4, -1e4):
        with pytest.raises(
            ArgumentError, match=r"^beam_search: length_penalty=.* is too large: 5\*\*10000.0 overflows"
        ):
            beam_search(uniform(), None, [0], 5, length_penalty=huge)


@DECODERS
@pytest.mark.parametrize("bad", [[0.0, nan, 0.0], [nan] * 3, [0.0, inf, 0.0], [-inf, nan, -inf], [-inf] * 3])
def test_logits_that_are_not_numbers_are_an_error_and_not_token_zero(decode, bad, backend):
    def step(tokens, count):
        rows = [[0.0] * 3] * (tokens.shape[0] // 2) + [bad if count else [0.0] * 3] * (tokens.shape[0] // 2)
        return mg.tensor(rows, backend=backend), count + 1

    words = "are all -inf" if bad == [-inf] * 3 else "hold NaN or inf"
    first = mg.tensor([0, 0], dtype="int64", backend=backend)
    with pytest.raises(AnomalyError, match=f"^{decode.__name__}: at step 2 the logits of row 1 {words}"):
        decode(step, 0, first, 3)


@DECODERS
def test_a_row_whose_possible_tokens_are_all_forbidden_is_an_error(decode):
    with pytest.raises(ArgumentError, match=r"at step 2 all tokens that are possible in row 1.* are forbidden: "):
        decode(certain([1, 1, 1], [1, 2, 1]), 0, [0, 0], 3, forbidden=[2])


def test_a_hypothesis_that_leads_nowhere_is_dropped():
    """After 1, which is likelier, all is forbidden but 3, which is impossible."""

    def step(tokens, state):
        rows = [[-inf, 0.0, -1.0, -inf] if token == 0 else [-inf] * 3 + [0.0] for token in tokens.tolist()]
        rows = [[0.0] + [-inf] * 3 if token == 1 else row for token, row in zip(tokens.tolist(), rows)]
        return mg.tensor(rows), state

    found = beam_search(step, None, [0], 3, width=2, forbidden=[0])[0]
    assert [h.tokens for h in found] == [[2, 3, 3]]


@pytest.mark.parametrize(
    "state, after, error, match",
    [
        (
            mg.zeros((3, 2)),
            None,
            ShapeError,
            r"the shape \(3, 2\), and its axis 0 is not the rows, of which there are 2",
        ),
        (
            (None, [mg.zeros((1, 2))]),
            None,
            ShapeError,
            r"the shape \(1, 2\), and .* rows, of which there are 2; rows_axis=1",
        ),
        (
            None,
            mg.zeros((2, 2)),
            ShapeError,
            r"the shape \(2, 2\), and its axis 0 is not the rows, of which there are 4",
        ),
        (np.zeros((2, 2)), None, DtypeError, "holds tensors and numbers, got ndarray"),
        ("memory", None, DtypeError, "holds tensors and numbers, got str"),
    ],
)
def test_beam_search_refuses_states_whose_rows_it_cannot_follow(state, after, error, match):
    with pytest.raises(error, match=f"^beam_search: .*{match}"):
        beam_search(lambda tokens, _: (mg.zeros((len(tokens), 3)), after), state, [0, 0], 3, width=2)


STACKED = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
EVERY_STACK = pytest.mark.parametrize(
    "kind, backend", [*(("LSTM", name) for name in BACKENDS), ("GRU", BACKENDS[-1]), ("RNN", "numpy")]
)
LENGTH = 4


@functools.cache
def stacked_model(kind: str, layers: int, backend: str):
    """A step of PyTorch's layout, whose state is (layers, B, 6), and its log-probabilities for given sequences."""
    with mg.seed(layers):
        embedding, out = nn.Embedding(5, 4), nn.Linear(6, 5)
        net = STACKED[kind](4, 6, num_layers=layers)
    for module in (embedding, out, net):
        in_float64(module, backend)
        for parameter in module.parameters():
            parameter.data = parameter.data * 3

    def step(tokens, state):
        y, state = net(mg.expand_dims(embedding(tokens), axis=0), state)
        return out(y)[0], state

    def score(first, sequences):
        tokens = np.array(sequences).T
        logits = out(net(embedding(as_tensor(np.concatenate([[first], tokens[:-1]]), backend)))[0])
        return log_probability(logits, as_tensor(tokens, backend))

    return step, score


def zeros_of(kind: str, layers: int, rows: int, backend: str):
    zero = mg.zeros((layers, rows, 6), dtype="float64", backend=backend)
    return (zero, zero) if kind == "LSTM" else zero


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("layers", [1, 2, 3])
@EVERY_STACK
def test_rows_on_the_second_axis_follow_their_hypotheses(kind, layers, rows, width, backend):
    step, score = stacked_model(kind, layers, backend)
    first = mg.tensor(range(1, rows + 1), dtype="int64", backend=backend)
    for state in (None, zeros_of(kind, layers, rows, backend)):
        found = beam_search(step, state, first, LENGTH, width=width, rows_axis=1)
        every = [(row + 1, h) for row, hypotheses in enumerate(found) for h in hypotheses]
        assert len(every) == rows * width
        expected = score([number for number, _ in every], [h.tokens for _, h in every])
        close(expected, np.array([h.log_probability for _, h in every]), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("layers", [1, 2, 3])
@EVERY_STACK
def test_rows_on_the_second_axis_that_are_taken_for_the_first_are_an_error(kind, layers, rows, width, backend):
    """Also where the layers are as many as the rows, or as the hypotheses. With one for each row nothing moves."""
    step, _ = stacked_model(kind, layers, backend)
    first = mg.tensor(range(1, rows + 1), dtype="int64", backend=backend)
    for state, stop in ((None, None), (zeros_of(kind, layers, rows, backend), 0)):
        if width == 1 and layers == rows:
            found = beam_search(step, state, first, LENGTH, width=width, stop=stop)
            assert found == beam_search(step, state, first, LENGTH, width=width, stop=stop, rows_axis=1)
        else:
            with pytest.raises(ShapeError, match=r"^beam_search: .* axis 0.* is not the rows.* rows_axis=1 .*nn\.LSTM"):
                beam_search(step, state, first, LENGTH, width=width, stop=stop)


@pytest.mark.parametrize("most", [2, 99])
@pytest.mark.parametrize("rows, width", [(1, 2), (1, 3), (2, 2)])
def test_a_memory_may_grow_by_a_step_at_each_step_and_need_not_depend_on_tokens(rows, width, most, backend):
    """A history (B, t), which begins with nothing, of all tokens or the last two, and the times at which they came."""
    oracle = np.random.default_rng(0).normal(size=(4, 4, 4))

    def logits_of(history):
        return oracle[history[-2] if len(history) > 1 else 0, history[-1]] + 0.1 * sum(history)

    def step(tokens, state):
        new = mg.expand_dims(tokens, axis=1)
        history, times = (new, new * 0) if state is None else (
            mg.concat([state[0], new], axis=1)[:, -most:], mg.concat([state[1], state[1][:, -1:] + 1], axis=1)
        )  # fmt: skip
        assert all(t == list(range(len(t))) for t in times.tolist())
        return as_tensor(np.array([logits_of(h) for h in history.tolist()]), tokens.backend), (history, times)

    first = mg.tensor([1, 2][:rows], dtype="int64", backend=backend)
    for row, hypotheses in enumerate(beam_search(step, None, first, 4, width=width)):
        for h in hypotheses:
            history, expected = [row + 1], 0.0
            for token in h.tokens:
                z = logits_of(history[-most:])
                expected += z[token] - np.log(np.exp(z).sum())
                history.append(token)
            assert h.log_probability == pytest.approx(expected, rel=1e-12)


def test_the_first_step_is_taken_with_the_rows_and_the_others_with_all_hypotheses():
    counts = []

    def step(tokens, state):
        counts.append(tokens.shape[0])
        return mg.zeros((tokens.shape[0], 3)), state

    beam_search(step, None, [0, 1], 4, width=3)
    assert counts == [2, 6, 6, 6]


def test_an_error_of_the_step_itself_stays_what_it_is_where_the_rows_are_in_no_doubt():
    def step(tokens, state):
        if tokens.shape[0] > 2:
            raise ShapeError("something else")
        return mg.zeros((2, 3)), state

    with pytest.raises(ShapeError, match=r"^something else$"):
        beam_search(step, mg.zeros((2, 3)), [0, 0], 3, width=2)
    with pytest.raises(ShapeError, match=r"repeated along axis 0 .*: something else\. If .* rows_axis=1") as caught:
        beam_search(step, mg.zeros((2, 2)), [0, 0], 3, width=2)
    assert str(caught.value.__cause__) == "something else"

    def later(tokens, made):
        if made == 2:
            raise ShapeError("something else")
        return mg.zeros((tokens.shape[0], 3)), made + 1

    def beside(tokens, state):
        logits, made = later(tokens, state[1])
        return logits, (state[0], made)

    with pytest.raises(ShapeError, match=r"^something else$"):  # two rows became four, and two columns did not
        beam_search(beside, (mg.zeros((2, 2)), 0), [0, 0], 3, width=2)


def test_the_axis_of_rows_is_an_integer_from_zero():
    for bad in (-1, 0.5, True, None):
        with pytest.raises(ArgumentError, match=r"^beam_search: rows_axis must be an integer from 0, got"):
            beam_search(uniform(), None, [0], 1, rows_axis=bad)
    with pytest.raises(ShapeError, match=r"the shape \(1,\), and its axis 1 is not the rows, .* 1; rows_axis=0"):
        beam_search(uniform(), (mg.zeros((2, 1)), mg.zeros((1,))), [0], 1, rows_axis=1)


def test_log_probability_names_what_does_not_fit():
    logits = mg.zeros((2, 3, 4))
    tokens = [[0, 1, 2], [3, 0, 1]]
    for error, match, arguments in [
        (DtypeError, "logits must be a tensor, got ndarray", (np.zeros((2, 3, 4)), tokens)),
        (DtypeError, "logits must be floats, got int64", (logits.astype("int64"), tokens)),
        (ShapeError, r"logits must be \(T, B, V\)", (logits[0], tokens)),
        (ShapeError, r"V at least 1, got the shape \(2, 3, 0\)", (logits[:, :, :0], tokens)),
        (ShapeError, r"tokens must be \(T, B\) = \(2, 3\), got the shape \(3, 2\)", (logits, mg.tensor(tokens).T)),
        (DtypeError, "tokens must be integers, got float32", (logits, mg.tensor(tokens))),
        (DtypeError, "tokens must be integers, got bool", (logits, np.ones((2, 3), bool))),
        (OutOfRangeError, r"token 4 is not in 0 \.\.\. 3", (logits, [[0, 1, 4], [3, 0, 1]])),
        (OutOfRangeError, "token -1 is not in", (logits, [[0, 1, -1], [3, 0, 1]])),
        (ArgumentError, "lengths must be 3 integers from 0 to 2", (logits, tokens, [1, 2, 3])),
        (ArgumentError, "lengths must be 3 integers from 0 to 2", (logits, tokens, [1, 2])),
    ]:
        with pytest.raises(error, match=f"^log_probability: .*{match}"):
            log_probability(*arguments)
