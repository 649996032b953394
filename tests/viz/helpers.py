"""What the tests of pictures share: an example of each, and how one is drawn."""

from __future__ import annotations

import warnings
from io import BytesIO
from itertools import combinations
from typing import Any

import numpy as np

from minigrad import viz


def png(figure: Any) -> bytes:
    """The picture as a file; whatever matplotlib warns of, a glyph that is missing too, is an error."""
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(file, format="png")
    return file.getvalue()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# The arrays that a picture is drawn from come through `array`, so that tensors can take their place.
EXAMPLES = {
    "curves": lambda array: viz.curves(
        {"train": array(np.array([3.0, 2.0, 1.5])), "validation": array(np.array([3.1, 2.4, 2.3]))},
        baseline={"bigrams": 2.45, "uniform": 3.3},
    ),
    "confusion": lambda array: viz.confusion(array(np.array([[5, 2, 0], [1, 9, 1], [0, 0, 0]])), ["a", "b", "c"]),
    "attention": lambda array: viz.attention(array(softmax(normal(3, 5))), "a cat", ["une", " ", "chatte"]),
    "ctc_lattice": lambda array: viz.ctc_lattice(array(np.log(softmax(normal(9, 4)))), [1, 2, 2], ["_", "a", "b", " "]),
    "surface": lambda array: viz.surface(
        array(np.linspace(-1.0, 2.0, 7)),
        array(np.linspace(0.0, 1.0, 5)),
        array(np.where(normal(5, 7) > 1.5, np.nan, 1 + normal(5, 7) ** 2)),
        paths={"descent": array(np.array([[-0.9, 0.1], [0.3, 0.9], [1.5, 0.5]]))},
    ),
    "gradient_flow": lambda array: viz.gradient_flow(
        {"Elman": array(10.0 ** np.arange(-9, 1)), "LSTM": array(2.0 ** np.arange(-9, 1))}
    ),
    "gates": lambda array: viz.gates(
        {"forget": array(softmax(normal(6, 4))), "state": array(3 * normal(6, 9))}, "say it"
    ),
}


def example(name: str, array: Any = lambda x: x) -> Any:
    return EXAMPLES[name](array)


def boxes(texts: Any, renderer: Any) -> list[Any]:
    return [text.get_window_extent(renderer) for text in texts if text.get_visible() and text.get_text()]


def overlapping(texts: Any, figure: Any) -> list[tuple[Any, Any]]:
    """Pairs of texts that cover each other, in a picture that has been drawn."""
    found = boxes(texts, figure.canvas.get_renderer())
    return [(a, b) for a, b in combinations(found, 2) if a.overlaps(b)]
