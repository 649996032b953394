"""Examples in batches: padded to one length, in a new order each time; and examples parted for training and tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import backends, random
from ..errors import ArgumentError, DtypeError, ShapeError

POOL = 20  # so many batches' examples are sorted by length together: similar lengths, and still much left to chance


def pad(sequences: Sequence[Any], value: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences side by side, time first: an array (T, B, ...), `value` behind their ends, and lengths, int64 (B,).

    sequences: B lists or arrays of numbers (T_b,) or of frames (T_b, D), also of length 0; T is that of the longest.

    Integers become int64, floats float32, and booleans stay what they are. Raises ArgumentError if there is no sequence
    or if `value` is no integer where they are, ShapeError for frames of different sizes, and DtypeError for what is no
    sequence of numbers.

    >>> tokens, lengths = pad([[5, 6, 7], [8], []])
    >>> tokens
    array([[5, 8, 0],
           [6, 0, 0],
           [7, 0, 0]])
    >>> lengths
    array([3, 1, 0])
    """
    arrays = [_array(i, sequence) for i, sequence in enumerate(sequences)]
    if not arrays:
        raise ArgumentError("pad: there is no sequence")
    full = [array for array in arrays if len(array)] or arrays  # an empty one does not say of what
    frames = {array.shape[1:] for array in full}
    if len(frames) > 1:
        raise ShapeError(f"pad: expected sequences (T, ...) that differ in T alone, got {[a.shape for a in full[:9]]}")
    kind = np.result_type(*{array.dtype for array in full}).kind
    dtype = {"b": np.bool_, "f": np.float32}.get(kind, np.int64)
    if kind != "f" and not float(value).is_integer():
        raise ArgumentError(f"pad: {value!r} is no value to put behind sequences of {np.dtype(dtype)}")
    lengths = np.array([len(array) for array in arrays], np.int64)
    padded = np.full((int(lengths.max()), len(arrays), *frames.pop()), value, dtype)
    for row, array in enumerate(arrays):
        if len(array):
            padded[: len(array), row] = array
    return padded, lengths


def _array(place: int, sequence: Any) -> np.ndarray:
    """A sequence as an array. Python's empty list is one of integers: NumPy would take it for floats."""
    empty = not hasattr(sequence, "dtype") and hasattr(sequence, "__len__") and len(sequence) == 0
    try:
        array = np.asarray(sequence, np.int64 if empty else None)
    except ValueError as error:
        raise ShapeError(f"pad: sequence {place} has frames of different sizes: {error}") from error
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"pad: expected sequences of numbers, sequence {place} is {str(sequence)[:40]!r}; "
            "a vocabulary's encode makes numbers of tokens"
        )
    if array.ndim == 0:
        raise ShapeError(f"pad: expected sequences (T, ...), sequence {place} is the number {sequence!r}")
    return array


class Batches:
    """Examples in batches of `batch_size`, the last one smaller if it does not come out even; every example in one.

    examples: anything that `list` makes a list of.
    collate: makes a batch of a list of examples, such as `pad` of sequences. It is called when a batch is read.
    shuffle: in a new order for each pass.
    length: `length(example)`, a number: batches hold examples of similar length, so that little is padded. Shuffled,
        the examples of 20 batches are sorted together, and the batches shuffled again; else all examples are sorted.

    It can be iterated over many times; its length is the number of batches. The order is drawn from
    `mg.random.generator()` when a pass begins, and never later: whoever sets the stream back to where it then was, and
    leaves out as many batches as were read, goes on where a pass was broken off.

    Raises ArgumentError if there are no examples.

    >>> batches = Batches([[1, 2, 3], [4], [5, 6]], 2)
    >>> for tokens, lengths in batches:
    ...     print(tokens.tolist(), lengths)
    [[1, 4], [2, 0], [3, 0]] [3 1]
    [[5], [6]] [2]
    >>> batches = Batches(range(5), 2, collate=list, shuffle=True)
    >>> sorted(sum(batches, [])), sorted(sum(batches, []))
    ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        examples: Iterable[Any],
        batch_size: int,
        collate: Callable[[list[Any]], Any] = pad,
        shuffle: bool = False,
        length: Callable[[Any], float] | None = None,
    ):
        self.examples = list(examples)
        if not self.examples:
            raise ArgumentError("Batches: there are no examples")
        self.batch_size = backends.as_count("Batches", "batch_size", batch_size)
        self.collate, self.shuffle = collate, shuffle
        self._lengths = None if length is None else np.array([length(example) for example in self.examples])

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        order = self._order()  # here, so that it is drawn now; in a generator it would be when the first batch is read
        return (self.collate([self.examples[i] for i in rows]) for rows in order)

    def _order(self) -> list[np.ndarray]:
        """The places of the examples, batch by batch."""
        count, lengths = len(self.examples), self._lengths
        order = random.generator().permutation(count) if self.shuffle else np.arange(count)
        if lengths is not None:
            pool = POOL * self.batch_size if self.shuffle else count
            parts = [order[i : i + pool] for i in range(0, count, pool)]
            order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
        batches = [order[i : i + self.batch_size] for i in range(0, count, self.batch_size)]
        if self.shuffle and lengths is not None:
            batches = [batches[i] for i in random.generator().permutation(len(batches))]
        return batches


class Drawn:
    """`count` batches of fresh data for each pass: `draw()` again and again. For data that is made by a process.

    It can be iterated over many times, and every pass is new; `list(Drawn(...))` keeps one, to validate on.

    >>> import minigrad as mg
    >>> batches = Drawn(lambda: mg.data.tasks.adding(steps=10, batch_size=32), 100)
    >>> len(batches), sum(xs.shape == (10, 32, 2) for xs, ys in batches)
    (100, 100)
    """

    def __init__(self, draw: Callable[[], Any], count: int):
        self.draw, self.count = draw, backends.as_count("Drawn", "count", count)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return (self.draw() for _ in range(self.count))


def split(examples: Iterable[Any], *shares: float, key: Callable[[Any], Any] | None = None) -> tuple[list[Any], ...]:
    """The examples shuffled by `mg.random`, then cut into parts of these shares: every example in exactly one part.

    shares: positive numbers whose sum is 1. A part has its share of the examples to within 1 example, and 1 at least.
    key: examples of one key, such as rows of the same text, come into the same part, as they would give away what is
        asked in a test; the shares are then those of the different keys.

    Raises ArgumentError for other shares, and if there are fewer examples, or keys, than parts.

    >>> train, valid, test = split(range(50), 0.8, 0.1, 0.1)
    >>> len(train), len(valid), len(test)
    (40, 5, 5)
    """
    groups: list[list[Any]] = [[example] for example in examples]
    if key is not None:
        by_key: dict[Any, list[Any]] = {}
        for (example,) in groups:
            by_key.setdefault(key(example), []).append(example)
        groups = list(by_key.values())
    if not shares or not all(share > 0 for share in shares) or abs(math.fsum(shares) - 1) > 1e-6:
        raise ArgumentError(f"split: shares must be positive numbers whose sum is 1, got {shares}")
    count, parts = len(groups), len(shares)
    if count < parts:
        what = "examples" if key is None else "different examples"
        raise ArgumentError(f"split: {count} {what} are too few for {parts} parts of 1 at least")
    ends, end = [0], 0
    for i in range(1, parts + 1):
        wanted = round(count * math.fsum(shares[:i]))
        end = min(max(wanted, end + 1), count - (parts - i))  # each part has one, and leaves one for each after it
        ends.append(end)
    order = random.generator().permutation(count)
    return tuple([e for i in order[a:b] for e in groups[i]] for a, b in itertools.pairwise(ends))
