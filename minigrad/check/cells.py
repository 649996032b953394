"""`check_cell`: whether a recurrent cell, anyone's, keeps the contract of cells, and what it breaks where."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backends, nn, random
from ..errors import ArgumentError, CellcheckError, GraphError, ShapeError
from ..graph import Leaf, enable_grad, watcher
from ..tensor import Tensor
from .differences import gradients, gradients_again, weights_used
from .findings import PURE, TWICE, Mistake, Note, Skip, words_of
from .loops import as_on_numpy, compiled_loop, dtypes, padding, reversal
from .report import CellReport, Finding
from .steps import initial_state, nothing_kept, output, rows_apart
from .trial import Trial


def check_cell(
    cell: nn.Cell,
    *,
    xs: Any = None,
    memory: Any = None,
    steps: int = 4,
    batch_size: int = 3,
    order: int = 2,
    seed: int = 0,
) -> CellReport:
    """Try a built cell in every way that it will be used, and say what does not hold.

    cell: is left as it is, with its weights, gradients and attributes; what is tried is a copy. So is the stream of
        random numbers left.
    xs: a sequence (T, B, ...) that the cell takes, of at least 3 steps and 2 rows, as for tokens; by default normal
        numbers (steps, batch_size, input_size). A few of each are enough. Lists (T, B) of whole numbers are tokens.
    memory: what the cell's `prepare` is given as memory: (B, S, ...) or (S, B, ...), or nested tuples, lists or dicts
        of tensors and arrays. An axis, first or second, of as many as xs has rows is taken to be the rows, and what
        begins with (T, B) of xs to go with its steps: let S differ from both. Tensors of floats are differentiated by.
        A list of numbers, or of such lists, is taken as an array, of int64, float32 or bool.
    order: 2 checks the gradients of gradients as well.
    seed: of all that is drawn: inputs, states, and the small changes to the weights, which are tried in their vicinity.

    What is checked:

    - initial state: for several batch sizes, each row that of batch size 1; structure, shapes and kinds as of a step
    - output: one tensor (B, output_size), finite
    - nothing kept: a call leaves the cell as it was and the next call without effect; no noise is drawn in a step
    - rows apart: no row has an effect on another, forward or backward
    - gradients, gradients again: by inputs, state, memory and every weight, against central differences in float64, in
      training and out of it; of every element, or of some and of random directions, which no wrong element escapes.
      An array must differ at three points to be blamed, since at a kink (of relu) a difference means nothing
    - dtypes: with weights of float32 all is float32, with float64 float64
    - backends: the values and gradients of NumPy on every other backend there is
    - compiled loop: `Recurrent`'s compiled loop equals its eager one, in values and gradients
    - reversal: a reversed loop is that over the flipped sequence
    - padding: with lengths, and NaN in the padding, each row is as it is alone, and the padding's gradient is 0
    - weights used: those whose gradient is 0 everywhere are named, which is no failure; so are tensors that ask for a
      gradient and are no nn.Parameter, which nothing would train

    All but the gradients and the compiled loop are checked out of training, where noise is off. A `prepare` that draws
    some even then draws the same in all runs of one size, but other for a row alone: whether that is as it is among
    others cannot be told, and `padding` says so in a note.

    Returns the report, which is true and prints itself. Raises CellcheckError, whose message is the report, if anything
    failed; ArgumentError if there is no cell to check, or an argument does not fit.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> print(mg.check_cell(nn.ElmanCell(1, 2)))
    check_cell: ElmanCell(1, 2), 8 weights: 12 checks passed
      ok    initial state    1 tensor, each row that of batch size 1; tried with 1, 3 and 5 rows
      ok    output           (B, 2), finite over 4 steps
      ok    nothing kept     a call leaves the cell as it was, and no trace in the next
      ok    rows apart       no row of 3 has an effect on another, forward or backward
      ok    gradients        26 elements, to ... of the largest
      ok    gradients again  56 elements, to ... of the largest
    ...
    """
    _require(cell, xs, memory, steps, batch_size, order)
    sizes = f"{cell.input_size}, {cell.hidden_size}"
    report = CellReport(f"{type(cell).__name__}({sizes}), {cell.num_parameters:,} weights")
    tokens = watcher.set(None)  # an outer detect_anomaly would take the NaN of the padding for one
    try:
        with backends.use("numpy"), random.seed(seed), enable_grad(), np.errstate(all="ignore"):
            trial = _on_trial(cell, xs, memory, steps, batch_size, seed, report)
            if trial is not None:
                _run(trial, report, order)
    finally:
        watcher.reset(tokens)
    if not report:
        raise CellcheckError(str(report))
    return report


def _require(cell: Any, xs: Any, memory: Any, steps: int, batch_size: int, order: int) -> None:
    if not isinstance(cell, nn.Cell):
        got, way_out = f"a {type(cell).__name__}", ""
        if isinstance(cell, type):
            got, way_out = f"the class {cell.__name__}", f"; build one: check_cell({cell.__name__}(3, 4))"
        elif isinstance(cell, nn.Recurrent):
            way_out = "; its cells are net.cells[layer][direction]"
        raise ArgumentError(f"check_cell: expected a built cell, a nn.Cell, got {got}{way_out}")
    for name in ("input_size", "hidden_size"):
        try:
            getattr(cell, name)
        except AttributeError:
            kind = type(cell).__name__
            raise ArgumentError(
                f"check_cell: {kind} has no {name}; its __init__ is to call super().__init__(input_size, hidden_size)"
            ) from None
    if order not in (1, 2):
        raise ArgumentError(f"check_cell: order is 1 or 2, not {order}")
    for name, value, least in (("steps", steps, 3), ("batch_size", batch_size, 2)):
        if type(value) is not int or value < least:
            raise ArgumentError(f"check_cell: {name} must be an integer from {least}, got {value!r}")
    if xs is not None:
        shape = xs.shape if isinstance(xs, Tensor) else np.shape(xs)
        if len(shape) < 2 or shape[0] < 3 or shape[1] < 2:
            raise ShapeError(
                f"check_cell: xs must be (T, B, ...) of at least 3 steps and 2 rows, got the shape {shape}"
            )


def _on_trial(
    cell: nn.Cell, xs: Any, memory: Any, steps: int, batch_size: int, seed: int, report: CellReport
) -> Trial | None:
    """The cell on trial; None, and a finding, if it cannot be copied for a tensor that it keeps."""
    try:
        copy.deepcopy(cell)
    except GraphError:
        kept = [n for n, t in cell.named_tensors().items() if t.node is not None and not isinstance(t.node, Leaf)]
        text = f"`{', '.join(kept) or 'an attribute'}` is a tensor that was computed"
        report.findings.append(Finding("nothing kept", "failed", text, [PURE]))
        return None
    except Exception as error:
        raise ArgumentError(
            f"check_cell: it tries a copy of the cell, and this one cannot be copied: {error}"
        ) from error
    return Trial(cell, xs, memory, steps, batch_size, seed)


# Each is called with the trial, returns what it found, or raises `Mistake`, `Note` or `Skip`. With what it needs first.
_CHECKS: list[tuple[str, Callable[[Trial], str], str]] = [
    ("initial state", initial_state, ""),
    ("output", output, ""),
    ("nothing kept", nothing_kept, ""),
    ("rows apart", rows_apart, ""),
    ("gradients", gradients, ""),
    ("gradients again", gradients_again, "gradients"),
    ("dtypes", dtypes, ""),
    ("backends", as_on_numpy, ""),
    ("compiled loop", compiled_loop, ""),
    ("reversal", reversal, ""),
    ("padding", padding, "rows apart"),
    ("weights used", weights_used, "gradients"),
]


def _run(trial: Trial, report: CellReport, order: int) -> None:
    """Add to the report what each check finds."""
    blocked = ""
    for name, check, needed in _CHECKS:
        if name == "gradients again" and order == 1:
            continue
        first = blocked or (needed if needed and report[needed].mark != "ok" else "")
        mark, text, notes = "skipped", f"not looked at before `{first}` holds", list[str]()
        if not first:
            try:
                mark, text = "ok", check(trial)
            except Mistake as mistake:
                mark, text, notes = "failed", mistake.what, mistake.notes
                blocked = name if mistake.blocks else ""
            except Note as note:
                mark, text = "note", str(note)
            except Skip as skip:
                text = str(skip)
            except Exception as error:  # of the cell, in some use that worked before
                mark, text, notes = "failed", f"{type(error).__name__} was raised", words_of(error)
                notes += [trial.ambiguity] if trial.ambiguity else []
                if name == "gradients again":
                    notes.append(TWICE)
        report.findings.append(Finding(name, mark, text, notes))
