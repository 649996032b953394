"""Matrices with names at their rows and columns: what was taken for what, and where a network looked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from . import given, style
from .style import Picture

_LARGEST = 16.0  # inches of cells; then they become smaller, and their names fewer


@style.drawn
def confusion(counts: Any, labels: Sequence[str], *, title: str = "Confusion") -> Picture:
    """How often each class was taken for each.

    counts: (C, C), rows the true class, columns the predicted one; not negative. labels: the C names.

    The ink is the share of the true class, so that rare classes are as visible as frequent ones; up to 15 classes have
    their counts written into the cells. The row of a class that never occurs is hatched.

    Raises ShapeError, ArgumentError for a negative or infinite count, and if there are none.

    >>> from minigrad import viz
    >>> figure = viz.confusion([[48, 2], [5, 45]], ["noun", "verb"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['48', '2', '5', '45']
    """
    counts = given.finite("confusion", "counts", given.numbers("confusion", "counts", counts, "(true, predicted)"))
    size = len(counts)
    if counts.shape != (size, size):
        raise ShapeError(f"confusion: counts must be as many rows as columns, got {counts.shape}")
    if (counts < 0).any():
        raise ArgumentError(f"confusion: counts must not be negative, and hold {counts.min():g}")
    if not counts.any():
        raise ArgumentError("confusion: counts are all 0, so there is nothing to draw")
    names = [style.plain(name) for name in given.names("confusion", "labels", labels, size, "classes")]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    whole = (counts == np.round(counts)).all()
    written = [[f"{v:.0f}" if whole else f"{v:.2f}" for v in row] for row in counts] if size <= 15 else []
    cell = max(0.4, 0.16 + style.widest([text for row in written for text in row])) if written else 0.2
    cell = min(cell, _LARGEST / size)
    made = _table(shares, names, names, cell, title, 1.0, "share of the true class")
    ax = made.axes[0]
    ax.set(xlabel="predicted class", ylabel="true class")
    for i, row in enumerate(written):
        for j, text in enumerate(row):
            look: dict[str, Any] = {"color": "black", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}}
            if totals[i]:
                look = {"color": style.text_colour(style.INK(shares[i, j]))}
            ax.text(j, i, text, ha="center", va="center", fontsize=style.SMALL, **look)
    return made


@style.drawn
def attention(weights: Any, sources: Sequence[str], targets: Sequence[str], *, title: str = "Attention") -> Picture:
    """Where a network looks while it writes: a row for each target token, over the columns of the source tokens.

    weights: (targets, sources), not negative. sources, targets: the tokens; a space among them is shown as an open box.

    Raises ShapeError if the tokens are not as many as columns and rows, ArgumentError for a weight that is negative,
    infinite or NaN.

    >>> from minigrad import viz
    >>> figure = viz.attention([[0.9, 0.1, 0.0], [0.1, 0.2, 0.7]], ["a", " ", "b"], ["x", "y"])
    >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    ['a', '␣', 'b']
    """
    weights = given.finite("attention", "weights", given.numbers("attention", "weights", weights, "(targets, sources)"))
    rows, columns = weights.shape
    if (weights < 0).any():
        raise ArgumentError(
            f"attention: weights must not be negative, and hold {weights.min():g}; softmax makes them so"
        )
    above = [style.visible(t) for t in given.names("attention", "sources", sources, columns, "columns of weights")]
    beside = [style.visible(t) for t in given.names("attention", "targets", targets, rows, "rows of weights")]
    cell = min(0.24, _LARGEST / max(rows, columns))
    made = _table(weights, beside, above, cell, title, float(weights.max()) or 1.0, "weight")
    ax = made.axes[0]
    ax.set(xlabel="source", ylabel="target")
    ax.xaxis.set_label_position("top")
    ax.xaxis.tick_top()
    return made


def _table(
    values: np.ndarray, beside: list[str], below: list[str], cell: float, title: str, high: float, what: str
) -> Picture:
    """A matrix as ink, in a picture as large as its cells and names ask for."""
    rows, columns = values.shape
    across = 0 if style.lies_flat(below, cell) else style.widest(below)
    width = max(columns * cell, 1.2) + style.widest(beside) + 1.6
    height = max(rows * cell, 1.2) + across + 1.0
    made = style.picture(max(width, 3.2), height, title)
    ax = made.add_subplot()
    style.colour_bar(ax, style.heat(ax, values, 0.0, high), what)
    style.name_rows(ax, beside, cell)
    style.name_columns(ax, below, cell)
    ax.tick_params(length=2)
    return made
