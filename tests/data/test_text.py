"""Characters and windows: nothing lost, nothing moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import CharVocabulary, ContinuousBatches
from minigrad.errors import ArgumentError, OutOfRangeError, ShapeError


@given(st.text())
def test_decoding_what_was_encoded_gives_the_text_back(text):
    vocabulary = CharVocabulary(text)
    numbers = vocabulary.encode(text)
    assert vocabulary.decode(numbers) == text
    assert numbers.dtype == np.int64
    assert numbers.shape == (len(text),)
    assert set(numbers.tolist()) == set(range(len(vocabulary)))  # every number is in use, and there are no others


@given(st.text(), st.randoms())
def test_the_order_and_repetition_of_characters_do_not_change_a_vocabulary(text, random):
    other = list(text * 2)
    random.shuffle(other)
    vocabulary = CharVocabulary(text)
    assert CharVocabulary(other).characters == vocabulary.characters
    assert [vocabulary.encode(c).item() for c in sorted(set(text))] == list(range(len(vocabulary)))
    assert CharVocabulary(vocabulary.characters).characters == vocabulary.characters


@given(known=st.text(), text=st.text(min_size=1))
def test_characters_that_are_not_in_the_vocabulary_are_all_named(known, text):
    vocabulary = CharVocabulary(known)
    unknown = set(text) - set(known)
    assert {c for c in text if c not in vocabulary} == unknown
    if not unknown:
        vocabulary.encode(text)
        return
    with pytest.raises(ArgumentError) as found:
        vocabulary.encode(text)
    assert all(repr(c) in str(found.value) for c in unknown)


@pytest.mark.parametrize("number", [3, 99, -1])
def test_a_number_that_is_no_character_is_refused(number):
    with pytest.raises(OutOfRangeError, match=f"{number} is not in 0 ... 2"):
        CharVocabulary("abc").decode([0, number])


BATCHES = {"n": st.integers(0, 60), "batch_size": st.integers(1, 7), "length": st.integers(1, 9)}


@given(**BATCHES)
def test_windows_continue_one_another_with_targets_one_step_ahead_and_only_the_documented_tail_is_lost(
    n, batch_size, length
):
    tokens = np.arange(n)
    if n - 1 < batch_size:
        with pytest.raises(ShapeError, match=f"{n} tokens are too few for {batch_size} rows"):
            ContinuousBatches(tokens, batch_size=batch_size, length=length)
        return
    batches = ContinuousBatches(tokens, batch_size=batch_size, length=length)
    windows = list(batches)
    assert len(windows) == len(batches)
    for inputs, targets in windows:
        assert inputs.shape == targets.shape == (len(inputs), batch_size)
        assert (targets == inputs + 1).all()
    assert {len(inputs) for inputs, _ in windows[:-1]} <= {length}
    assert 1 <= len(windows[-1][0]) <= length
    rows = np.concatenate([inputs for inputs, _ in windows]).T  # each row of all windows in turn
    assert rows.ravel().tolist() == list(range(rows.size))  # row after row, this is the sequence from its beginning
    assert n - (rows.size + 1) < batch_size


def test_batches_can_be_read_many_times():
    batches = ContinuousBatches(np.arange(20), batch_size=2, length=4)
    first, second = ([(a.tolist(), b.tolist()) for a, b in batches] for _ in range(2))
    assert first == second


def test_batches_keep_the_dtype_and_are_contiguous():
    for inputs, targets in ContinuousBatches(np.arange(20, dtype="int32"), batch_size=3, length=4):
        for array in (inputs, targets):
            assert array.dtype == "int32"
            assert array.flags.c_contiguous


@pytest.mark.parametrize("sizes", [{"batch_size": 0, "length": 1}, {"batch_size": 1, "length": 0}])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ArgumentError, match="positive"):
        ContinuousBatches(np.arange(9), **sizes)
