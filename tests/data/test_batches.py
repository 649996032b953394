"""Batches: every example exactly once, in an order that a seed reproduces; padding that lengths undo."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from minigrad.errors import ArgumentError, DtypeError, ShapeError

COUNTS = {"count": st.integers(1, 200), "batch_size": st.integers(1, 9), "shuffle": st.booleans()}
LENGTHS = st.sampled_from([None, lambda i: i % 7, lambda i: -i])


def joined(batches):
    return list(chain.from_iterable(batches))


@given(st.lists(st.lists(st.integers(-(2**62), 2**62), max_size=6), min_size=1, max_size=6), st.integers(-9, 9))
@example([[], []], 0)
def test_lengths_undo_padding(sequences, value):
    padded, lengths = data.pad(sequences, value)
    assert padded.shape == (max(map(len, sequences)), len(sequences))
    assert padded.dtype == lengths.dtype == np.int64
    assert [padded[:n, b].tolist() for b, n in enumerate(lengths)] == sequences
    assert all((padded[n:, b] == value).all() for b, n in enumerate(lengths))


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    frame=st.sampled_from([(), (1,), (3,), (2, 2)]),
    dtype=st.sampled_from(["float32", "float64", "int32", "uint8", "bool"]),
)
def test_frames_of_any_shape_are_padded_along_time_and_keep_their_kind(lengths, frame, dtype):
    stream = mg.random.generator()
    sequences = [stream.integers(0, 2, (n, *frame)).astype(dtype) for n in lengths]
    padded, found = data.pad(sequences)
    kept = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
    assert padded.dtype == kept[np.dtype(dtype).kind] and padded.shape == (max(lengths), len(lengths), *frame)
    assert found.tolist() == lengths
    for b, (n, sequence) in enumerate(zip(lengths, sequences)):
        assert (padded[:n, b] == sequence).all() and not padded[n:, b].any()


def test_an_empty_sequence_says_nothing_of_its_frames_and_its_kind():
    padded, lengths = data.pad([[], np.ones((2, 3), "float32")], value=np.nan)
    assert padded.shape == (2, 2, 3) and padded.dtype == np.float32 and lengths.tolist() == [0, 2]
    assert np.isnan(padded[:, 0]).all() and (padded[:, 1] == 1).all()
    assert data.pad([[], [1, 2]])[0].dtype == np.int64
    assert data.pad([[1], [0.5]])[0].dtype == np.float32  # integers beside floats
    assert data.pad([mg.tensor([1.0, 2.0]), mg.tensor([3.0])])[0].tolist() == [[1, 3], [2, 0]]


@pytest.mark.parametrize(
    "sequences, value, error, message",
    [
        ([], 0, ArgumentError, "there is no sequence"),
        ([[1], 2], 0, ShapeError, "sequence 1 is the number 2"),
        ([np.ones((2, 3)), np.ones((2, 4))], 0, ShapeError, r"differ in T alone, got \[\(2, 3\), \(2, 4\)\]"),
        ([[[1, 2], [3]]], 0, ShapeError, "sequence 0 has frames of different sizes"),
        ([["a", "b"]], 0, DtypeError, r"sequence 0 is \"\['a', 'b'\]\"; a vocabulary's encode"),
        (["text"], 0, DtypeError, "sequence 0 is 'text'"),
        ([[1, 2]], 0.5, ArgumentError, "0.5 is no value to put behind sequences of int64"),
        ([[1, 2]], np.nan, ArgumentError, "nan is no value"),
    ],
)
def test_what_cannot_be_padded_is_refused(sequences, value, error, message):
    with pytest.raises(error, match=message):
        data.pad(sequences, value)


@given(**COUNTS, length=LENGTHS)
def test_every_example_is_in_exactly_one_batch_of_every_pass_and_only_the_last_may_be_smaller(
    count, batch_size, shuffle, length
):
    batches = data.Batches(iter(range(count)), batch_size, list, shuffle, length)
    for _ in range(2):
        found = list(batches)
        assert len(found) == len(batches) == -(-count // batch_size)
        assert sorted(joined(found)) == list(range(count))
        sizes = sorted(map(len, found))
        assert set(sizes[1:]) <= {batch_size} and sizes[0] == (count % batch_size or batch_size)
        if not shuffle:
            assert joined(found) == sorted(range(count), key=length or (lambda i: i))


@given(**COUNTS, length=LENGTHS, seed=st.integers(0, 99))
def test_a_seed_reproduces_the_order_and_nothing_is_drawn_once_a_pass_has_begun(
    count, batch_size, shuffle, length, seed
):
    batches = data.Batches(range(count), batch_size, list, shuffle, length)
    with mg.seed(seed):
        first, second = list(batches), list(batches)
        after = mg.random.get_state()
    with mg.seed(seed):
        before = mg.random.get_state()
        one = iter(batches)
        begun = mg.random.get_state()
        assert (begun == before) == (not shuffle or count == 1)  # one example has one order
        found = []
        for batch in one:
            assert mg.random.get_state() == begun
            found.append(batch)
            mg.random.set_state(before)  # whatever is drawn in training
            mg.random.generator().random(7)
            mg.random.set_state(begun)
        assert found == first
        assert list(batches) == second and mg.random.get_state() == after


def test_a_pass_that_was_broken_off_goes_on_bit_for_bit_from_where_the_stream_stood_when_it_began():
    batches = data.Batches(range(100), 7, list, shuffle=True, length=lambda i: i % 5)
    list(batches)
    state = mg.random.get_state()
    one = iter(batches)
    read = [next(one) for _ in range(6)]
    mg.random.generator().random(99)  # dropout and the like, in between
    rest = list(one)
    with mg.seed(0):
        mg.random.set_state(state)
        again = list(batches)
    assert again == read + rest


def test_two_passes_have_two_orders_and_two_at_a_time_do_not_disturb_each_other():
    batches = data.Batches(range(50), 50, list, shuffle=True)
    [[first], [second]] = list(batches), list(batches)
    assert first != second != list(range(50)) != first
    batches = data.Batches(range(50), 5, list, shuffle=True)
    one, two = iter(batches), iter(batches)
    pairs = list(zip(one, two))
    for found in zip(*pairs):
        assert sorted(joined(found)) == list(range(50))


def test_every_example_comes_equally_often_at_every_place():
    counts = np.zeros((6, 6))
    batches = data.Batches(range(6), 2, list, shuffle=True)
    for _ in range(3000):
        counts[range(6), joined(batches)] += 1
    # Of 3000 passes an example is at a place in 500, with a standard deviation of 20.4.
    assert np.abs(counts - 500).max() < 5 * 20.4


def test_batches_by_length_pad_little_and_still_come_in_random_order():
    stream = mg.random.generator()
    examples = [np.ones(n) for n in stream.integers(1, 100, 2000)]
    plain = data.Batches(examples, 10, shuffle=True)
    alike = data.Batches(examples, 10, shuffle=True, length=len)
    whole = data.Batches(examples, 10, length=len)

    def padding(batches):
        """The share of all that is padded that is no example."""
        return 1 - sum(lengths.sum() for _, lengths in batches) / sum(xs.size for xs, _ in batches)

    # Of 10 lengths uniform to 99 the longest is 10/11 of 99 and the mean one half: 45%. In a pool of 200 sorted
    # lengths, 20 batches, a batch spans 5 lengths: a mean of about 2.5 of 50.
    assert padding(plain) > 0.4 and padding(alike) < 0.1 and padding(whole) < 0.02
    longest = [len(xs) for xs, _ in alike]
    assert abs(np.corrcoef(longest, range(200))[0, 1]) < 0.3  # 4 standard errors of 1/sqrt(200)
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.3
    first, second = ({tuple(map(id, batch)) for batch in data.Batches(examples, 10, list, True, len)} for _ in range(2))
    assert len(first & second) < 20  # the batches are other ones in each pass


def test_batches_are_made_when_they_are_read():
    made = []
    batches = iter(data.Batches(range(4), 2, made.append))
    assert made == []
    next(batches)
    assert made == [[0, 1]]


def test_drawn_batches_are_fresh_in_every_pass_and_a_seed_reproduces_them():
    batches = data.Drawn(lambda: mg.random.generator().random(), 5)
    with mg.seed(1):
        first, second = list(batches), list(batches)
    with mg.seed(1):
        assert list(batches) == first
    assert len(batches) == len(first) == len(second) == 5 and len({*first, *second}) == 10


@given(st.integers(1, 60), st.lists(st.integers(1, 20), min_size=1, max_size=5))
@example(3, [20, 1, 1])
@example(50, [8, 1, 1])
def test_a_split_has_every_example_in_exactly_one_part_and_no_part_is_empty(count, weights):
    shares = [weight / sum(weights) for weight in weights]
    if count < len(shares):
        with pytest.raises(ArgumentError, match=f"{count} examples are too few for {len(shares)} parts"):
            data.split(range(count), *shares)
        return
    parts = data.split(range(count), *shares)
    assert len(parts) == len(shares) and sorted(joined(parts)) == list(range(count))
    assert all(parts)
    if count * min(shares) >= 1:
        assert all(abs(len(part) - count * share) <= 1 + 1e-9 for part, share in zip(parts, shares))


def test_a_split_is_shuffled_and_a_seed_reproduces_it():
    with mg.seed(5):
        first = data.split("abcdefghijklmnop", 0.5, 0.5)
    with mg.seed(5):
        again = data.split(list("abcdefghijklmnop"), 0.5, 0.5)
    assert first == again != data.split("abcdefghijklmnop", 0.5, 0.5)
    assert [len(part) for part in data.split(range(1000), 0.8, 0.1, 0.1)] == [800, 100, 100]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: data.split(range(9), 0.8, 0.1), r"shares must be positive numbers whose sum is 1, got \(0.8, 0.1\)"),
        (lambda: data.split(range(9), 0.8, 0.3, -0.1), "positive"),
        (lambda: data.split(range(9), 1.0, 0.0), "positive"),
        (lambda: data.split(range(9), np.nan), "positive"),
        (lambda: data.split(range(9)), r"got \(\)"),
        (lambda: data.split([], 1.0), "0 examples are too few for 1 parts"),
        (lambda: data.Batches([], 3), "Batches: there are no examples"),
        (lambda: data.Batches([[1]], 0), "Batches: batch_size must be an integer from 1, got 0"),
        (lambda: data.Drawn(dict, 0), "Drawn: count must be an integer from 1, got 0"),
    ],
)
def test_what_makes_no_batches_is_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@given(keys=st.lists(st.integers(0, 9), min_size=3), seed=st.integers(0, 99))
def test_examples_of_one_key_come_into_one_part(keys, seed):
    examples = list(enumerate(keys))
    if len(set(keys)) < 3:
        with pytest.raises(ArgumentError, match="different examples are too few"):
            data.split(examples, 0.6, 0.2, 0.2, key=lambda example: example[1])
        return
    with mg.seed(seed):
        parts = data.split(examples, 0.6, 0.2, 0.2, key=lambda example: example[1])
    assert sorted(example for part in parts for example in part) == examples
    found = [{key for _, key in part} for part in parts]
    assert all(found) and not any(a & b for a in found for b in found if a is not b)
