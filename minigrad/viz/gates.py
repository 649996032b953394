"""What the gates and the state of a cell do over a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..errors import ShapeError
from . import given, style
from .style import Picture


@style.drawn
def gates(
    values: Mapping[str, Any], tokens: Sequence[str], *, x: str = "token", y: str = "unit", title: str = "Gates"
) -> Picture:
    """Heat maps one above the other, of every unit at every step, over the tokens that were read.

    values: names to arrays (T, H), H not the same for all: gates, states, anything. What lies in [0, 1] is shown on
        this range, what lies in [-1, 1] on that, else up to the largest magnitude. What is not finite is hatched.
    tokens: the T tokens; a string stands for its letters.

    Raises ShapeError for other numbers of steps, ArgumentError where there is nothing to draw.

    >>> import numpy as np
    >>> from minigrad import viz
    >>> figure = viz.gates({"forget": np.full((5, 3), 0.9), "state": np.tanh(np.ones((5, 8)))}, "a cat")
    >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
    ['forget', 'state']
    """
    arrays = {
        name: given.some("gates", f"values {name!r}", given.numbers("gates", f"values {name!r}", value, "(T, H)"))
        for name, value in given.mapping("gates", "values", values, "arrays (T, H)").items()
    }
    steps = {name: len(array) for name, array in arrays.items()}
    first = next(iter(steps))
    for name, count in steps.items():
        if count != steps[first]:
            raise ShapeError(f"gates: values {name!r} has {count} steps, and {first!r} has {steps[first]}")
    words = [style.visible(t) for t in given.names("gates", "tokens", tokens, steps[first], "steps")]
    cell = max(min(0.17, 14 / len(words)), 3.2 / len(words))
    heights = [min(max(0.9, 0.05 * array.shape[1]), 2.6) for array in arrays.values()]
    flat = style.lies_flat(words, cell)
    made = style.picture(
        len(words) * cell + 1.8, sum(heights) + 0.35 * len(heights) + 0.9 + (0 if flat else style.widest(words)), title
    )
    panels = made.subplots(len(arrays), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (name, array) in zip(panels, arrays.items()):
        shown = array[np.isfinite(array)]
        size = float(np.abs(shown).max())
        low, high = (0.0, 1.0) if shown.min() >= 0 and size <= 1 else (-1.0, 1.0) if size <= 1 else (-size, size)
        style.colour_bar(ax, style.heat(ax, array.T, low, high), "value")
        ax.set_title(style.plain(name))
        ax.set_ylabel(style.plain(y, None))
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        if array.shape[1] == 1:
            ax.set_yticks([0])
        ax.tick_params(length=2)
        ax.set_xticks([])  # the tokens stand below the last
    style.name_columns(panels[-1], words, cell)
    panels[-1].set_xlabel(style.plain(x, None))
    return made
