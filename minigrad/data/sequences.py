"""Long sequences in windows, for truncated backpropagation through time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import backends, tree
from ..errors import DtypeError, ShapeError


class windows:
    """Sequences, time first, cut into windows of so many steps, in order: `for part in windows(xs, 64): ...`

    sequences: a tensor or an array (T, ...), or nested tuples, lists or dicts of such, of one T; each window has their
        steps at the same times. The last may be shorter: every step is in exactly one window, so that a loss which is
        a sum over steps is the sum over the windows' losses, exactly, if the state is carried over.

    One long row of tokens becomes B rows side by side by `tokens[: n * B].reshape(B, n).T`; `ContinuousBatches` does
    that too, with targets one step ahead.

    A state that is carried over as it is makes one graph of all; cut by `nn.detach`, no gradient flows from a window
    into those before it. It can be iterated over many times; its length is the number of windows.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net, state, total = nn.Recurrent(nn.GRUCell, 1, 4), None, 0.0
    >>> for xs, ys in windows((mg.ones((10, 2, 1)), mg.zeros((10, 2, 4))), 4):
    ...     outs, state = net(xs, nn.detach(state))
    ...     loss = mg.mse(outs, ys, reduction="sum")
    ...     loss.backward()
    ...     total += loss.item()
    """

    def __init__(self, sequences: Any, length: int):
        length = backends.as_count("windows", "length", length)
        for leaf in tree.leaves(sequences):
            if not hasattr(leaf, "shape"):
                raise DtypeError(
                    f"windows: expected tensors or arrays (T, ...), got a {type(leaf).__name__}; "
                    "CharVocabulary(text).encode(text) makes an array of a text"
                )
        shapes = [tuple(leaf.shape) for leaf in tree.leaves(sequences)]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(f"windows: expected sequences (T, ...) of one T, got the shapes {shapes}")
        self.sequences, self.length, self.steps = sequences, length, int(shapes[0][0])

    def __len__(self) -> int:
        return -(-self.steps // self.length)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self.steps, self.length):
            yield tree.map(lambda leaf: leaf[start : start + self.length], self.sequences)  # noqa: B023
