"""Vocabularies: numbered by how often, cut where told, and inverse to themselves."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import Vocabulary, letter_trigrams
from minigrad.errors import ArgumentError, DtypeError, OutOfRangeError

TOKENS = st.lists(st.sampled_from(["a", "b", "c", "dog", "é", "", "<PAD>", "<UNK>"]) | st.text(max_size=2))
SPECIALS = st.lists(st.sampled_from(["<PAD>", "<UNK>", "<BOS>", "a"]), unique=True)


@given(TOKENS, SPECIALS)
def test_specials_come_first_then_tokens_by_falling_count_and_ties_in_their_order(tokens, specials):
    found = Vocabulary(tokens, specials=specials).tokens
    assert found[: len(specials)] == specials
    rest = found[len(specials) :]
    assert set(rest) == set(tokens) - set(specials) and len(set(found)) == len(found)
    ranks = [(-tokens.count(token), token) for token in rest]
    assert ranks == sorted(ranks)


@given(TOKENS, SPECIALS)
def test_decoding_what_was_encoded_gives_the_tokens_back(tokens, specials):
    vocabulary = Vocabulary(tokens, specials=specials)
    numbers = vocabulary.encode(tokens)
    assert numbers.dtype == np.int64 and numbers.shape == (len(tokens),)
    assert vocabulary.decode(numbers) == vocabulary.decode(numbers.tolist()) == tokens
    assert vocabulary.encode(vocabulary.tokens).tolist() == list(range(len(vocabulary)))
    assert all(token in vocabulary for token in tokens + specials) and "never there" not in vocabulary


@given(TOKENS, SPECIALS, st.integers(1, 9))
def test_a_size_keeps_the_first_and_what_is_cut_off_is_unknown(tokens, specials, size):
    specials = list(dict.fromkeys(["<UNK>", *specials]))[:size]
    whole, cut = Vocabulary(tokens, specials=specials), Vocabulary(tokens, size, specials)
    assert cut.tokens == whole.tokens[:size] and len(cut) == min(size, len(whole))
    kept = [token if token in cut else "<UNK>" for token in tokens]
    assert cut.decode(cut.encode(tokens)) == kept


@given(TOKENS, st.integers(1, 9), st.sampled_from([[], ["<PAD>"], ["<PAD>", "<UNK>"]]), st.randoms())
def test_the_order_of_the_text_does_not_matter_and_saved_tokens_make_the_same_vocabulary(
    tokens, size, specials, random
):
    size = max(size, len(specials))
    first = Vocabulary(tokens, size, specials)
    shuffled = list(tokens)
    random.shuffle(shuffled)
    assert Vocabulary(iter(shuffled), size, specials).tokens == first.tokens
    again = Vocabulary((), specials=json.loads(json.dumps(first.tokens)))
    assert again.tokens == first.tokens
    words = [*tokens, "never there"]
    if "<UNK>" in first:
        assert (again.encode(words) == first.encode(words)).all()
    else:
        for vocabulary in (first, again):
            with pytest.raises(ArgumentError, match="'never there'"):
                vocabulary.encode(words[-1:])


def test_unknown_tokens_are_all_named_up_to_ten_of_them():
    vocabulary = Vocabulary(["a", "b"])
    with pytest.raises(ArgumentError, match="vocabulary of 2 tokens: 'c', 'd'; with '<UNK>' among its specials"):
        vocabulary.encode(["a", "c", "d", "c"])
    with pytest.raises(ArgumentError, match=r"'0', .*'9' and 2 more;"):
        vocabulary.encode(map(str, range(12)))


def test_tokens_may_be_other_than_texts():
    vocabulary = Vocabulary([(1, 2), (0, 5), (1, 2)])
    assert vocabulary.encode([(0, 5), (1, 2)]).tolist() == [1, 0]


@pytest.mark.parametrize("number", [2, 99, -1])
def test_a_number_that_is_no_token_is_refused(number):
    with pytest.raises(OutOfRangeError, match=f"{number} is not in 0 ... 1"):
        Vocabulary(["a", "b"]).decode([0, number])


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Vocabulary("the cat"), DtypeError, r"tokens must be a list, got the text 'the cat'; text.split\(\)"),
        (lambda: Vocabulary(["a"], specials="<UNK>"), DtypeError, "specials must be a list"),
        (
            lambda: Vocabulary(["the", "cat"]).encode("cat"),
            DtypeError,
            "encode: expected a list of tokens, got the text",
        ),
        (lambda: Vocabulary([["a", "b"]]), DtypeError, "a token cannot be a list; of a list of sentences"),
        (lambda: Vocabulary([], specials=[["a"]]), DtypeError, "a token cannot be a list"),
        (lambda: Vocabulary([], specials=["a", "b", "a"]), ArgumentError, "specials must differ, .* 'a'$"),
        (lambda: Vocabulary(["a"], 1, ["<PAD>", "<UNK>"]), ArgumentError, "a size of 1 has no room for 2 specials"),
        (lambda: Vocabulary(["a"], 0), ArgumentError, "size must be an integer from 1, got 0"),
    ],
)
def test_what_makes_no_vocabulary_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_letter_trigrams_of_short_words():
    assert letter_trigrams("cat") == ["#ca", "cat", "at#"]
    assert letter_trigrams("of") == ["#of", "of#"]
    assert letter_trigrams("a") == ["#a#"]
    assert letter_trigrams("") == []


@given(st.text(st.characters(exclude_characters="#"), min_size=1))
def test_a_word_can_be_put_together_from_its_trigrams(word):
    trigrams = letter_trigrams(word)
    assert "".join(trigram[1] for trigram in trigrams) == word
    assert all(a[1:] == b[:2] for a, b in pairwise(trigrams))
    assert trigrams[0][0] == trigrams[-1][2] == "#"
