"""Words, labels and other tokens as integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import backends
from ..errors import ArgumentError, DtypeError, OutOfRangeError

UNKNOWN = "<UNK>"


class Vocabulary:
    """The distinct tokens of a text, numbered from 0: those that are frequent first.

    tokens: the text, token by token; each as often as it occurs there.
    size: how many tokens are numbered at most, the special ones included; the rarest are left out.
    specials: tokens that come first, in this order, whether they occur or not.

    Of those that occur equally often, the lesser comes first, so that the order of the text does not matter. If "<UNK>"
    is one of the tokens, `encode` gives its number to any that the vocabulary does not have.

    `Vocabulary((), specials=tokens)` numbers a list of tokens as it stands; from `tokens`, saved with a network, it
    makes the same vocabulary again.

    Raises ArgumentError for specials that repeat or are more than `size`.

    >>> vocabulary = Vocabulary("the cat saw the dog".split(), size=4, specials=["<PAD>", "<UNK>"])
    >>> vocabulary.tokens
    ['<PAD>', '<UNK>', 'the', 'cat']
    >>> vocabulary.encode(["the", "dog"])
    array([2, 1])
    >>> vocabulary.decode([3, 2])
    ['cat', 'the']
    """

    def __init__(self, tokens: Iterable[Any], size: int | None = None, specials: Sequence[Any] = ()):
        for name, value in (("tokens", tokens), ("specials", specials)):
            if isinstance(value, str):
                raise DtypeError(f"Vocabulary: {name} must be a list, got the text {value[:20]!r}; {_AS_TOKENS}")
        specials = list(specials)
        counts: Counter[Any] = Counter(map(_checked, tokens))
        if len(set(map(_checked, specials))) < len(specials):
            twice = [repr(token) for token, count in Counter(specials).items() if count > 1]
            raise ArgumentError(f"Vocabulary: specials must differ, got more than once: {', '.join(twice)}")
        if size is not None and backends.as_count("Vocabulary", "size", size) < len(specials):
            raise ArgumentError(f"Vocabulary: a size of {size} has no room for {len(specials)} specials")
        for token in specials:
            counts.pop(token, None)
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        self.tokens: list[Any] = (specials + ranked)[:size]
        self._numbers = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def encode(self, tokens: Iterable[Any]) -> np.ndarray:
        """The numbers of the tokens, int64 (T,). Raises ArgumentError naming those unknown, if there is no "<UNK>"."""
        if isinstance(tokens, str):
            raise DtypeError(f"encode: expected a list of tokens, got the text {tokens[:20]!r}; {_AS_TOKENS}")
        tokens = list(tokens)
        unknown = self._numbers.get(UNKNOWN)
        numbers = [self._numbers.get(token, unknown) for token in tokens]
        if unknown is None and None in numbers:
            missing = list(dict.fromkeys(repr(token) for token in tokens if token not in self._numbers))
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise ArgumentError(
                f"encode: not in the vocabulary of {len(self)} tokens: {', '.join(missing[:10])}{more}; "
                f"with {UNKNOWN!r} among its specials they would become that"
            )
        return np.array(numbers, np.int64)

    def decode(self, numbers: Iterable[int]) -> list[Any]:
        """The tokens of these numbers. Raises OutOfRangeError for one that is no token."""
        found = []
        for i in numbers:
            if not 0 <= i < len(self):
                raise OutOfRangeError(f"decode: {i} is not in 0 ... {len(self) - 1}")
            found.append(self.tokens[i])
        return found


_AS_TOKENS = "text.split() makes words of it, list(text) characters"


def _checked(token: Any) -> Any:
    if not isinstance(token, Hashable):
        raise DtypeError(
            f"Vocabulary: a token cannot be a {type(token).__name__}; of a list of sentences, the tokens are "
            "[word for sentence in sentences for word in sentence]"
        )
    return token


def letter_trigrams(word: str) -> list[str]:
    """The runs of three letters in a word between marks of its ends (Huang et al. 2013, word hashing).

    They are as many as the word has letters; unknown words are made of known ones.

    >>> letter_trigrams("cat")
    ['#ca', 'cat', 'at#']
    """
    marked = f"#{word}#"
    return [marked[i : i + 3] for i in range(len(word))]
