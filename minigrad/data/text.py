"""Characters as integers, and long texts as batches of windows that continue one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..errors import ArgumentError, OutOfRangeError, ShapeError


class CharVocabulary:
    """The distinct characters of a text, in code point order, numbered from 0.

    >>> vocabulary = CharVocabulary("hello")
    >>> vocabulary.encode("hole")
    array([1, 3, 2, 0])
    >>> vocabulary.decode([1, 0, 2, 2, 3])
    'hello'
    """

    def __init__(self, characters: Iterable[str]):
        self.characters = "".join(sorted(set(characters)))
        self._numbers = {character: i for i, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: object) -> bool:
        return character in self._numbers

    def encode(self, text: str) -> np.ndarray:
        """The numbers of the characters, int64. Raises ArgumentError naming those it does not have."""
        unknown = sorted(set(text) - self._numbers.keys())
        if unknown:
            raise ArgumentError(f"not in the vocabulary of {len(self)} characters: {', '.join(map(repr, unknown))}")
        return np.fromiter((self._numbers[c] for c in text), np.int64, len(text))

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of these numbers. Raises OutOfRangeError for one that is no character."""
        text = []
        for i in numbers:
            if not 0 <= i < len(self):
                raise OutOfRangeError(f"decode: {i} is not in 0 ... {len(self) - 1}")
            text.append(self.characters[i])
        return "".join(text)


class ContinuousBatches:
    """A long sequence of tokens as windows for truncated backpropagation through time.

    The sequence is cut into `batch_size` rows of equal length, which are read side by side, `length` steps at a time:
    pairs (inputs, targets), each (length, batch_size), the targets one step ahead. Row b of one window goes on where
    row b of the window before it ended, so that a recurrent state can be carried over. The last window may be
    shorter; fewer than `batch_size` tokens at the end of the sequence are left out.

    It can be iterated over many times; its length is the number of windows. `windows` cuts sequences of any kind that
    are laid out already. Raises ShapeError if the sequence is
    too short for one step of every row.

    >>> for inputs, targets in ContinuousBatches(np.arange(9), batch_size=2, length=3):
    ...     print(inputs.tolist(), targets.tolist())
    [[0, 4], [1, 5], [2, 6]] [[1, 5], [2, 6], [3, 7]]
    [[3, 7]] [[4, 8]]
    """

    def __init__(self, tokens: np.ndarray, *, batch_size: int, length: int):
        if batch_size < 1 or length < 1:
            raise ArgumentError(f"batch_size and length must be positive, got {batch_size} and {length}")
        steps = (len(tokens) - 1) // batch_size
        if steps < 1:
            raise ShapeError(f"{len(tokens)} tokens are too few for {batch_size} rows of at least 1 step and a target")
        self.length, self.steps, self.batch_size = length, steps, batch_size
        cut = steps * batch_size
        self._inputs = np.ascontiguousarray(tokens[:cut].reshape(batch_size, steps).T)
        self._targets = np.ascontiguousarray(tokens[1 : cut + 1].reshape(batch_size, steps).T)

    def __len__(self) -> int:
        return -(-self.steps // self.length)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, self.steps, self.length):
            yield self._inputs[start : start + self.length], self._targets[start : start + self.length]
