"""How a check of a cell ends when all is not well, and the words for where numbers differ."""

from __future__ import annotations

import numpy as np

from .trial import Run

PURE = (
    "A cell keeps nothing from call to call: what the next step needs belongs in the state that forward returns, "
    "and what a whole sequence needs is made in prepare."
)
TWICE = (
    "A backward rule that is to be differentiated again is written with its arguments, operators and xp, on tensors as "
    "on arrays; .data, .detach() or NumPy in it cut the graph."
)


class Mistake(Exception):
    """What is wrong, and the way out. blocks: whether other checks would only say the same again."""

    def __init__(self, what: str, *notes: str, blocks: bool = False):
        super().__init__(what)
        self.what, self.notes, self.blocks = what, [n for n in notes if n], blocks


class Note(Exception):
    """Something to know, which is no mistake."""


class Skip(Exception):
    """Why there is nothing to check."""


def words_of(error: Exception) -> list[str]:
    """What an error says, if anything, as one note."""
    return [" ".join(str(error).split())[:600]] if str(error).strip() else []


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether all of them are equal, floats to a tolerance of the largest."""
    if a.dtype.kind != "f":
        return bool((a == b).all())
    return bool((np.abs(a - b) <= tolerance * max(1e-3, float(np.abs(b).max(initial=0.0)))).all())


def place(name: str, index: tuple[int, ...]) -> str:
    """An element by its name and index, and the step and row that it stands at."""
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    if name in ("xs", "out") and len(index) > 1:
        return f"{where} (step {index[0]}, row {index[1]})"
    return f"{where} (row {index[0]})" if name.startswith("state") and index else where


def differ(expected: Run, found: Run, tolerance: float) -> tuple[float, str]:
    """How far two runs are apart, of the largest entry, and where that is more than the tolerance."""
    worst, words = 0.0, ""
    for kind, of in (("", "values"), ("the gradient by ", "gradients")):
        a, b = getattr(expected, of), getattr(found, of)
        scale = max([1e-3, *(float(np.abs(x).max(initial=0.0)) for x in a.values() if x.dtype.kind == "f")])
        for name, x in a.items():
            y = b[name]
            if x.shape != y.shape:
                return np.inf, words or f"{kind}{name} has shape {y.shape}, not {x.shape}"
            off = np.abs(np.subtract(y, x, dtype="float64")) / scale
            worst = max(worst, float(off.max(initial=0.0)))
            if not words and not (off <= tolerance).all():
                index = tuple(int(i) for i in np.argwhere(~(off <= tolerance))[0])
                words = f"{kind}{place(name, index)} is {y[index]:.6g}, not {x[index]:.6g}"
    return worst, words
