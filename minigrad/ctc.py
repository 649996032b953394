"""Connectionist temporal classification: a loss for labels without times, and the ways back from frames to labels.

A recogniser answers at every frame, T of them; what it should say are L labels, at most T, and nobody knows which frame
belongs to which. CTC adds a class, the blank ("nothing new"), and lets every path of T classes stand for the labelling
that `collapse` makes of it. The probability of a labelling is the sum over all of its paths, and the loss its -log.

Graves, Fernandez, Gomez, Schmidhuber 2006: Connectionist temporal classification.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, inf, isfinite, log1p
from operator import index
from typing import Any

from . import backends, ops
from .errors import AnomalyError, ArgumentError, DtypeError, OutOfRangeError, ShapeError
from .functional import _input, _reduce, log_softmax
from .scan import scan
from .tensor import Tensor, tensor

# The loss


def ctc_loss(
    logits: Tensor,
    targets: Any,
    input_lengths: Any = None,
    target_lengths: Any = None,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """-log p(labelling | logits), in nats: the surprise at the right labels, at whatever frames they are said.

    logits: (T, B, C), before the softmax; C classes, one of them the blank.
    targets: the labels, without blanks: integers (B, L), of which the first `target_lengths` of a row count; or a list
        of B lists of integers, of any lengths. They are read on the CPU, wherever they lie.
    input_lengths: how many frames of each row count: integers (B,) from 0 to T in any order; None: all T. The others
        get a gradient of exactly 0, and may hold anything, NaN too.
    target_lengths: how many labels of each row count: integers (B,); None: all of them. 0 is a row that says nothing.
    blank: the class that is no label.
    zero_infinity: 0 in place of an infinite loss.
    reduction: "none", which gives the losses (B,); "sum", of them; or "mean": each loss divided by its number of labels
        (by 1 if it has none), and of this the mean over rows. This is what PyTorch's "mean" is.

    A row with too few frames for its labels has no path: the loss is inf, and its gradient 0. Labels need a frame each,
    and equal neighbours a blank between them. No label in no frame has the loss 0.

    With l' for the labels with a blank before, between and after them, the sum over paths is (eq. 6 to 8)

        alpha_t(s) = (alpha_{t-1}(s) + alpha_{t-1}(s-1) [+ alpha_{t-1}(s-2)]) y_t(l'_s)
        p = alpha_T(|l'|) + alpha_T(|l'| - 1)

    where the term in brackets, which skips a blank, is there if l'_s is a label other than l'_{s-2}. It is computed in
    logarithms, by `mg.scan`. The gradient by the logits is softmax - occupancy: the probability of each class at each
    frame, less its probability among the paths of the labelling (eq. 16).

    Raises ShapeError, DtypeError for what is no integer, OutOfRangeError for a target or blank that is no class,
    ArgumentError for a target that is the blank and for lengths that do not fit.

    >>> import minigrad as mg
    >>> logits = mg.zeros((2, 1, 3))                # two frames, each of three classes as probable as the others
    >>> ctc_loss(logits, [[1]])                     # paths 11, 1_ and _1: log(9 / 3)
    tensor(1.0986123)
    >>> ctc_loss(logits, [[1, 1]])                  # would need 1_1
    tensor(inf)
    """
    logits = _frames("ctc_loss", logits)
    labelling = _labelling("ctc_loss", logits, targets, input_lengths, target_lengths, blank)
    log_y = log_softmax(ops.where(labelling.counts, logits, 0.0))
    return _reduced("ctc_loss", _losses(log_y, labelling), labelling, zero_infinity, reduction)


def ctc_loss_of_log_probabilities(
    log_probabilities: Tensor,
    targets: Any,
    input_lengths: Any = None,
    target_lengths: Any = None,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`ctc_loss` of log-probabilities (T, B, C), taken as they are; -inf is one.

    They need not sum to 1: each is a variable of its own, and the gradient is the Jacobian of this function, -occupancy
    (eq. 15), which through a log_softmax before it becomes softmax - occupancy. PyTorch's `ctc_loss` takes
    log-probabilities as well, but answers softmax - occupancy for them, which is the gradient by the logits: the same
    after log_softmax, and wrong for anything else that they were made by. The arguments and errors are `ctc_loss`'s.

    >>> import minigrad as mg
    >>> log_y = mg.tensor([[[0.0, 0.0, 1.0]]], requires_grad=True)
    >>> ctc_loss_of_log_probabilities(log_y, [[2]]).backward()
    >>> log_y.grad
    tensor([[[ 0.,  0., -1.]]])
    """
    op = "ctc_loss_of_log_probabilities"
    log_probabilities = _frames(op, log_probabilities)
    labelling = _labelling(op, log_probabilities, targets, input_lengths, target_lengths, blank)
    log_y = ops.where(labelling.counts, log_probabilities, 0.0)
    return _reduced(op, _losses(log_y, labelling), labelling, zero_infinity, reduction)


def _losses(log_y: Tensor, labelling: _Labelling) -> Tensor:
    """-log p of each row (B,), of log-probabilities (T, B, C) that are finite or -inf in the padding too."""
    counts = labelling.counts
    if not log_y.shape[0]:  # where there is no frame, one that does not count keeps the graph whole
        log_y = ops.concat([log_y, ops.zeros((1, *log_y.shape[1:]), dtype=log_y.dtype, backend=log_y.backend)])
        counts = ops.zeros((1, log_y.shape[1], 1), dtype="bool", backend=log_y.backend)
    emitted = ops.take_along_axis(log_y, labelling.extended, axis=2) + labelling.outside
    shifts, alpha = scan(_step, (emitted, counts), labelling.start, context=(labelling.skip, labelling.edge))
    log_p = ops.logsumexp(ops.take_along_axis(alpha, labelling.ends, axis=1), axis=1)
    return 0.0 - log_p - ops.sum(shifts, axis=(0, 2))


def _step(x: Any, alpha: Tensor, skip: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """log alpha_t of log alpha_{t-1}, both (B, 2 + S): before the first position stand two that no path is at.

    alpha is moved to have its largest entry at 0, so that it keeps its digits however long the sequence; how far is the
    step's output (B, 1). A shift has no gradient: what it takes from alpha comes back in the sum.
    """
    emitted, counts = x
    arriving = ops.stack([alpha[:, 2:], alpha[:, 1:-1], alpha[:, :-2] + skip])
    moved = ops.where(counts, ops.logsumexp(arriving, axis=0) + emitted, alpha[:, 2:])
    alpha = ops.concat([edge, moved], axis=1)
    shift = ops.max(alpha.detach(), axis=1, keepdims=True)
    shift = ops.where(ops.isfinite(shift), shift, 0.0)
    return shift, alpha - shift


def _reduced(op: str, losses: Tensor, labelling: _Labelling, zero_infinity: bool, reduction: str) -> Tensor:
    if zero_infinity:
        losses = ops.where(losses == inf, 0.0, losses)
    rows = max(len(labelling.lengths), 1)
    if reduction == "mean":
        each = [max(n, 1) for n in labelling.lengths]
        losses = losses / tensor(each, dtype=losses.dtype, backend=losses.backend)
    return _reduce(op, losses, reduction, rows)


@dataclass
class _Labelling:
    """What is to be said, as tensors beside the logits. S = 2 L + 1 positions, of labels and the blanks around them."""

    lengths: list[int]  # labels in each row
    counts: Tensor  # (T, B, 1), whether the frame counts
    extended: Tensor  # (1, B, S), the class at each position; blanks behind the last one
    outside: Tensor  # (B, S), -inf behind the last position
    skip: Tensor  # (B, S), 0 where a position may be reached from two before it, else -inf
    start: Tensor  # (B, 2 + S), log alpha before the first frame: at the first position, which is no frame's yet
    edge: Tensor  # (B, 2), -inf: what lies before the first position
    ends: Tensor  # (B, 2), where in (B, 2 + S) the last two positions are


def _labelling(
    op: str, logits: Tensor, targets: Any, input_lengths: Any, target_lengths: Any, blank: Any
) -> _Labelling:
    """The arguments of a loss, checked."""
    steps, batch, classes = logits.shape
    blank = _blank(op, blank, classes)
    frames = _lengths(op, "input_lengths", input_lengths, [steps] * batch, "frames")
    rows = _rows(op, targets, batch)
    lengths = _lengths(op, "target_lengths", target_lengths, [len(row) for row in rows], "targets")
    rows = [[_integer(op, "targets", label) for label in row[:n]] for row, n in zip(rows, lengths)]
    for b, row in enumerate(rows):
        for label in row:
            if label == blank:
                raise ArgumentError(
                    f"{op}: targets of row {b} hold {blank}, which is the blank; it comes between labels by itself. "
                    "Leave it out, let target_lengths end before it, or name another class by blank="
                )
            if not 0 <= label < classes:
                raise OutOfRangeError(f"{op}: targets of row {b} hold {label}, which is not in 0 ... {classes - 1}")
    positions = 2 * max(lengths, default=0) + 1
    padded = [[*row, *[blank] * (positions // 2 - len(row))] for row in rows]
    extended = [[blank, *[k for label in row for k in (label, blank)]] for row in padded]
    # no blank is skipped to: two positions before a blank there is a blank
    skip = [[0.0 if s > 1 and k != row[s - 2] else -inf for s, k in enumerate(row)] for row in extended]
    outside = [[0.0 if s <= 2 * n else -inf for s in range(positions)] for n in lengths]
    start = [[0.0 if s == 2 else -inf for s in range(2 + positions)] for _ in rows]

    def beside(values: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
        return ops.reshape(tensor(values, dtype=dtype, backend=logits.backend), shape)

    times = ops.reshape(ops.arange(steps, backend=logits.backend), (steps, 1, 1))
    return _Labelling(
        lengths,
        times < beside(frames, (1, batch, 1), backends.int64),
        beside(extended, (1, batch, positions), backends.int64),
        beside(outside, (batch, positions), logits.dtype),
        beside(skip, (batch, positions), logits.dtype),
        beside(start, (batch, 2 + positions), logits.dtype),
        beside([[-inf, -inf] for _ in rows], (batch, 2), logits.dtype),
        beside([[2 * n + 1, 2 * n + 2] for n in lengths], (batch, 2), backends.int64),
    )


# What is given


def _frames(op: str, x: Any) -> Tensor:
    """Logits or log-probabilities as a tensor (T, B, C) of floats."""
    x = _input(op, x)
    if x.ndim != 3:
        raise ShapeError(
            f"{op}: expected frames, rows and classes (T, B, C), got the shape {x.shape}; one sequence is x[:, None, :]"
        )
    if not backends.is_floating(x.data):
        raise DtypeError(f"{op}: expected floats (T, B, C), got {x.dtype}; .astype(mg.float32) makes them so")
    return x


def _blank(op: str, blank: Any, classes: int) -> int:
    blank = _integer(op, "blank", blank)
    if not 0 <= blank < classes:
        raise OutOfRangeError(f"{op}: blank {blank} is not in 0 ... {classes - 1}; the classes are the last axis")
    return blank


def _plain(value: Any) -> Any:
    """A tensor or an array as lists of numbers; anything else as it is."""
    value = value.data if isinstance(value, Tensor) else value
    return backends.namespace_of(value).to_numpy(value).tolist() if backends.is_array(value) else value


def _integer(op: str, what: str, value: Any) -> int:
    try:
        return index(_plain(value))
    except TypeError:
        kind = type(_plain(value)).__name__
        raise DtypeError(f"{op}: {what} must be integers, got a {kind}: {str(value)[:40]}") from None


def _rows(op: str, targets: Any, batch: int) -> list[list[Any]]:
    """The targets as one list for each row."""
    given = f"shape {tuple(targets.shape)}" if hasattr(targets, "shape") else f"{targets!r:.40}"
    rows = [_plain(row) for row in targets] if isinstance(targets, (list, tuple)) else _plain(targets)
    if not isinstance(rows, list) or not all(isinstance(row, (list, tuple)) for row in rows):
        raise ShapeError(f"{op}: targets must be integers (B, L) or a list of B lists of integers, got {given}")
    if len(rows) != batch:
        raise ShapeError(f"{op}: targets have {len(rows)} rows, the batch has {batch}; got {given}")
    return [list(row) for row in rows]


def _lengths(op: str, what: str, lengths: Any, most: list[int], of: str) -> list[int]:
    """How many of the `most` that each row has count; by default all."""
    if lengths is None:
        return most
    given = _plain(lengths)
    if not isinstance(given, (list, tuple)) or len(given) != len(most):
        raise ShapeError(f"{op}: {what} must be {len(most)} integers, one for each row, got {str(given)[:60]}")
    values = [_integer(op, what, n) for n in given]
    for b, (n, limit) in enumerate(zip(values, most)):
        if not 0 <= n <= limit:
            raise ArgumentError(f"{op}: {what} of row {b} is {n}, and the row has {limit} {of}")
    return values


# Decoding


def collapse(path: Iterable[Any], blank: Any = 0) -> list[Any]:
    """The labelling that a path stands for: repeats merged, then blanks removed (the map B of section 3.1).

    path: one class for each frame, integers or anything else.

    A class that lasts is one label, however many frames it takes. A label that comes twice in a row therefore needs a
    blank in between, which is why there is one:

    >>> "".join(collapse("好好好棒棒棒棒棒", blank="_"))
    '好棒'
    >>> "".join(collapse("好好好棒棒_棒棒", blank="_"))
    '好棒棒'
    """
    classes = list(_plain(path))
    return [k for i, k in enumerate(classes) if k != blank and (i == 0 or k != classes[i - 1])]


def greedy_decode(logits: Tensor, lengths: Any = None, *, blank: int = 0) -> list[list[int]]:
    """The labelling of the most probable path of each row: the largest logit at each frame, collapsed.

    logits: (T, B, C), or log-probabilities. lengths: how many frames of each row count; None: all.

    Quick, and often right; but several paths of another labelling may together be more probable (`beam_decode`).

    Raises AnomalyError for a frame that counts with NaN or +inf, or with -inf alone; ShapeError, DtypeError,
    OutOfRangeError for a blank that is no class, ArgumentError for lengths that do not fit.

    >>> import minigrad as mg
    >>> logits = mg.tensor([[[0.0, 3.0, 0.0]], [[0.0, 2.0, 1.0]], [[5.0, 0.0, 1.0]], [[0.0, 4.0, 2.0]]])
    >>> greedy_decode(logits)
    [[1, 1]]
    >>> greedy_decode(logits, lengths=[2])
    [[1]]
    """
    logits, frames, blank = _decodable("greedy_decode", logits, lengths, blank)
    paths = _plain(ops.matrix_transpose(ops.argmax(logits, axis=2)))
    return [collapse(path[:n], blank) for path, n in zip(paths, frames)]


def beam_decode(
    logits: Tensor, lengths: Any = None, *, width: int = 10, blank: int = 0
) -> list[list[tuple[list[int], float]]]:
    """The most probable labellings of each row with their log-probabilities, best first: a search over prefixes.

    logits: (T, B, C), or log-probabilities. lengths: how many frames of each row count; None: all.
    width: how many prefixes go on from each frame to the next, and so how many labellings are found at most.

    For each prefix two probabilities are kept, of all its paths so far that end in a blank and of those that end in its
    last label. A label equal to the last one makes the prefix longer after a blank only; without, it is the last one
    still being said (Graves 2012, section 7.5; Hannun et al. 2014). The log-probability of a labelling is that of the
    paths that were followed: exact if width is at least the number of prefixes there are, else at most the true one.

    What is raised is as for `greedy_decode`; ArgumentError besides for a width below 1.

    >>> import minigrad as mg
    >>> log_y = mg.log(mg.tensor([[[0.6, 0.4]], [[0.6, 0.4]]]))     # the most probable path is blank, blank: 0.36;
    >>> greedy_decode(log_y)                                        # but 1 is said by three: 0.24 + 0.24 + 0.16
    [[]]
    >>> [(labelling, round(log_p, 3)) for labelling, log_p in beam_decode(log_y)[0]]
    [([1], -0.446), ([], -1.022)]
    """
    logits, frames, blank = _decodable("beam_decode", logits, lengths, blank)
    width = _integer("beam_decode", "width", width)
    if width < 1:
        raise ArgumentError(f"beam_decode: width is how many prefixes are kept, at least 1, not {width}")
    log_y = log_softmax(logits.astype("float64"))
    rows = _plain(ops.permute_dims(log_y, (1, 0, 2)))
    return [_search(row[:n], width, blank) for row, n in zip(rows, frames)]


def _decodable(op: str, logits: Any, lengths: Any, blank: Any) -> tuple[Tensor, list[int], int]:
    """Logits with 0 at frames that do not count, how many of each row do, and the blank, all checked.

    Of NaN nothing is the largest, and of -inf alone nothing is possible: a labelling would be made up.
    """
    logits = _frames(op, logits).detach()
    steps, batch, classes = logits.shape
    blank = _blank(op, blank, classes)
    frames = _lengths(op, "lengths", lengths, [steps] * batch, "frames")
    counts = ops.reshape(ops.arange(steps, backend=logits.backend), (steps, 1, 1)) < ops.reshape(
        tensor(frames, dtype="int64", backend=logits.backend), (1, batch, 1)
    )
    logits = ops.where(counts, logits, 0.0)
    largest = _plain(ops.matrix_transpose(ops.max(logits, axis=2)))
    for b, row in enumerate(largest):
        for t, found in enumerate(row):
            if not isfinite(found):
                what = "are all -inf" if found == -inf else "hold NaN or inf"
                raise AnomalyError(
                    f"{op}: at frame {t} the logits of row {b} {what}, so there is no likeliest class; with "
                    "mg.detect_anomaly(): finds the operation that made them"
                )
    return logits, frames, blank


def _search(log_y: list[list[float]], width: int, blank: int) -> list[tuple[list[int], float]]:
    """Prefix beam search in one row, log_y (T, C)."""
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -inf)}  # ending in a blank, and in the last label
    for now in log_y:
        found: dict[tuple[int, ...], list[float]] = {}

        def add(prefix: tuple[int, ...], in_label: bool, log_p: float, found: Any = found) -> None:
            both = found.setdefault(prefix, [-inf, -inf])
            both[in_label] = _log_add(both[in_label], log_p)

        said = [(k, log_p) for k, log_p in enumerate(now) if k != blank]
        for prefix, (in_blank, in_label) in beam.items():
            both = _log_add(in_blank, in_label)
            add(prefix, False, both + now[blank])
            if prefix:
                add(prefix, True, in_label + now[prefix[-1]])
            for k, log_p in said:
                repeats = prefix[-1:] == (k,)
                add((*prefix, k), True, (in_blank if repeats else both) + log_p)
        best = sorted(found, key=lambda prefix: (-_log_add(*found[prefix]), prefix))
        beam = {prefix: tuple(found[prefix]) for prefix in best[:width]}  # type: ignore[misc]
    return [(list(prefix), _log_add(*both)) for prefix, both in beam.items() if max(both) > -inf]


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    larger, smaller = (a, b) if a >= b else (b, a)
    return larger if smaller == -inf else larger + log1p(exp(smaller - larger))
