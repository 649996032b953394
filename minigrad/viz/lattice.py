"""CTC: what the network says at each frame, and which alignments of the labels that makes probable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from ..errors import ArgumentError, OutOfRangeError, ShapeError
from . import given, style
from .lines import spread
from .style import Picture

_MOST, _PEAK = 8, 0.1  # symbols that have a line of their own: at most so many, and likelier than this somewhere


class Occupancy(NamedTuple):
    """Where the alignments of a labelling are. S = 2 L + 1 states: the labels, and blanks around them."""

    states: np.ndarray  # (S,), the class of each: blank, l1, blank, ..., lL, blank
    occupancy: np.ndarray  # (T, S), the probability of being in each state at each frame, given the labels
    best: np.ndarray  # (T,), the states of the most probable alignment
    log_probability: float  # of the labelling: of all its alignments together, in nats


def ctc_occupancy(log_probabilities: Any, labels: Sequence[int], *, blank: int = 0) -> Occupancy:
    """The probability of passing through each state of the lattice of alignments, and the most probable alignment.

    log_probabilities: (T, C), of one sequence. labels: L classes, none of them the blank, at most T.

    With alpha_t(s) the probability of all beginnings of alignments that end in state s at frame t, and beta_t(s) of all
    their ends from there on (Graves et al. 2006, section 4.1; beta_t here does not hold frame t itself),

        occupancy_t(s) = alpha_t(s) beta_t(s) / p(labels)

    Each row sums to 1. Summed over the states of a class it is what the gradient of `mg.ctc_loss` subtracts from the
    softmax. A tie of alignments goes to the one that stays longer.

    Raises ShapeError, OutOfRangeError for what is no class, ArgumentError for log-probabilities that are none, and for
    labels that no alignment of T frames says.

    >>> import numpy as np
    >>> found = ctc_occupancy(np.log([[0.5, 0.5], [0.5, 0.5]]), [1])    # the alignments 11, _1 and 1_
    >>> found.occupancy.round(2)
    array([[0.33, 0.67, 0.  ],
           [0.  , 0.67, 0.33]])
    """
    return _occupancy("ctc_occupancy", *_checked("ctc_occupancy", log_probabilities, labels, blank))


def _checked(function: str, log_probabilities: Any, labels: Any, blank: Any) -> tuple[np.ndarray, list[int], int]:
    if np.ndim(log_probabilities) == 3:
        raise ShapeError(
            f"{function}: log_probabilities must be of one sequence (T, C), got {np.shape(log_probabilities)}; "
            "that of row b is x[:, b]"
        )
    log_y = given.numbers(function, "log_probabilities", log_probabilities, "(T, C)")
    if np.isnan(log_y).any():
        raise ArgumentError(f"{function}: log_probabilities hold NaN")
    with np.errstate(over="ignore"):
        sums = np.exp(log_y).sum(axis=1)
    if not np.allclose(sums, 1, atol=1e-3):
        t = int(np.argmax(np.abs(sums - 1)))
        raise ArgumentError(
            f"{function}: log_probabilities must be those of a distribution at each frame; at frame {t} the "
            f"probabilities sum to {sums[t]:.4g}. mg.log_softmax makes them of logits"
        )
    classes = log_y.shape[1]
    listed, (blank,) = given.integers(function, "labels", labels), given.integers(function, "blank", [blank])
    for what, k in [("blank", blank), *(("labels", k) for k in listed)]:
        if not 0 <= k < classes:
            raise OutOfRangeError(f"{function}: {what} must be among the classes 0 ... {classes - 1}, got {k}")
    if blank in listed:
        raise ArgumentError(f"{function}: labels hold {blank}, which is the blank; it comes between labels by itself")
    return log_y, listed, blank


def _occupancy(function: str, log_y: np.ndarray, labels: list[int], blank: int) -> Occupancy:
    steps, size = len(log_y), 2 * len(labels) + 1
    states = np.full(size, blank)
    states[1::2] = labels
    skip = np.full(size, -np.inf)  # 0 where a state may be reached from two before it: another label
    skip[2:][(states[2:] != blank) & (states[2:] != states[:-2])] = 0.0
    emitted = log_y[:, states]

    def arriving(before: np.ndarray) -> np.ndarray:
        """The three ways into each state (3, S): from itself, from the one before, from two before."""
        padded = np.concatenate([[-np.inf, -np.inf], before])
        return np.stack([padded[2:], padded[1:-1], padded[:-2] + skip])

    alpha, back = np.full((steps, size), -np.inf), np.zeros((steps, size), dtype=int)
    alpha[0, :2] = emitted[0, :2]
    best = alpha[0]
    for t in range(1, steps):
        alpha[t] = np.logaddexp.reduce(arriving(alpha[t - 1])) + emitted[t]
        ways = arriving(best)
        back[t] = ways.argmax(axis=0)
        best = ways.max(axis=0) + emitted[t]
    log_p = float(np.logaddexp.reduce(alpha[-1, -2:]))
    if log_p == -np.inf:
        raise ArgumentError(
            f"{function}: no alignment of {steps} frames says these {len(labels)} labels; each needs a frame, equal "
            "neighbours one more between them, and none a probability of 0"
        )
    beta = np.full((steps, size), -np.inf)
    beta[-1, -2:] = 0.0
    for t in range(steps - 2, -1, -1):
        ahead = np.concatenate([beta[t + 1] + emitted[t + 1], [-np.inf, -np.inf]])
        skipped = np.concatenate([skip[2:], [-np.inf] * min(size, 2)])
        beta[t] = np.logaddexp.reduce(np.stack([ahead[:-2], ahead[1:-1], ahead[2:] + skipped[:size]]))
    path = np.empty(steps, dtype=int)
    path[-1] = size - 1 if size == 1 or best[-1] > best[-2] else size - 2
    for t in range(steps - 1, 0, -1):
        path[t - 1] = path[t] - back[t, path[t]]
    return Occupancy(states, np.exp(alpha + beta - log_p), path, log_p)


@style.drawn
def ctc_lattice(
    log_probabilities: Any,
    labels: Sequence[int],
    symbols: Sequence[str],
    *,
    blank: int = 0,
    title: str = "CTC: posteriors and alignments",
) -> Picture:
    """Above, the probability of each symbol at each frame; below, the lattice of alignments of the labels.

    log_probabilities: (T, C), of one sequence. labels: L classes, none of them the blank. symbols: the C names of the
    classes. blank: its class.

    Above: the blank is a grey area. The symbols of the labels have lines, and their names where the most probable
    alignment says them; then come those with the highest peaks above 0.1, as far as eight; the rest is one line, their
    sum. Below: the states blank, l1, blank, ... from top to bottom against time, as ink their `ctc_occupancy`, and as a
    line the most probable alignment.

    What is raised is as for `ctc_occupancy`.

    >>> import numpy as np
    >>> from minigrad import viz
    >>> log_y = np.log([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    >>> figure = viz.ctc_lattice(log_y, [1, 2], ["_", "a", "b"])
    >>> figure.axes[1].lines[0].get_ydata()
    array([1, 2, 3])
    """
    log_y, said, blank = _checked("ctc_lattice", log_probabilities, labels, blank)
    named = given.names("ctc_lattice", "symbols", symbols, log_y.shape[1], "classes")
    found = _occupancy("ctc_lattice", log_y, said, blank)
    steps, size = found.occupancy.shape
    words = [style.visible(name) for name in named]
    across = min(max(6.4, 0.07 * steps), 16.0)
    below = min(max(1.8, 0.18 * size), 14.0)
    made = style.picture(across + 1.6, 2.0 + below + 1.2, title)
    top, bottom = made.subplots(2, 1, sharex=True, height_ratios=[2.0, below])
    _posteriors(top, np.exp(log_y), said, words, blank)
    _say(top, np.exp(log_y), found, words, blank, across)
    image = style.heat(bottom, found.occupancy.T, 0.0, 1.0)
    # an inset, which leaves the room beside the upper axes to its legend
    style.colour_bar(bottom, image, "occupancy (probability)", bottom.inset_axes((1.02, 0.0, 0.2 / across, 1.0)))
    halo = [Stroke(linewidth=2.8, foreground="white"), Normal()]
    bottom.plot(np.arange(steps), found.best, color=style.ACCENT, linewidth=1.4, path_effects=halo)
    bottom.plot(
        np.arange(steps),
        found.best,
        color=style.ACCENT,
        marker="o",
        markersize=min(3.2, 240 / steps),
        linestyle="",
    )
    style.name_rows(bottom, [words[k] for k in found.states], below / size)
    bottom.set(xlabel="frame", ylabel="state")
    surprise = -found.log_probability
    bottom.set_title(f"Alignments of the labels, the likeliest as a line; loss −log p = {surprise:.4g} nats")
    bottom.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    top.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03))
    return made


def _posteriors(ax: Axes, y: np.ndarray, labels: list[int], words: list[str], blank: int) -> None:
    """The posterior of each symbol over time; those that are too many, as one."""
    frames = np.arange(len(y))
    first = list(dict.fromkeys(labels))
    others = [k for k in range(y.shape[1]) if k not in (blank, *first) and y[:, k].max() >= _PEAK]
    others.sort(key=lambda k: (-y[:, k].max(), k))
    own = first + others[: max(_MOST - len(first), 0)]
    rest = [k for k in range(y.shape[1]) if k != blank and k not in own]
    ax.fill_between(
        frames, y[:, blank], color=style.PALE, linewidth=0, label=style.in_legend(f"{words[blank]} (blank)")
    )
    ax.plot(frames, y[:, blank], color=style.GREY, linewidth=0.8)
    for i, k in enumerate(own):
        ax.plot(
            frames, y[:, k], label=style.in_legend(words[k]), markevery=style.marks(len(y), i), **style.line_style(i)
        )
    if rest:
        ax.plot(
            frames, y[:, rest].sum(axis=1), color="black", linestyle=style.DOTTED, label=f"{len(rest)} others, summed"
        )
    ax.set(ylabel="probability", ylim=(-0.03, 1.16), yticks=np.linspace(0, 1, 6))
    ax.set_title("Posteriors")
    ax.grid(True)


def _say(ax: Axes, y: np.ndarray, found: Occupancy, words: list[str], blank: int, width: float) -> None:
    """The labels in a row above the axes' lines, each where it is most probable while the best alignment says it."""
    said = [s for s in range(len(found.states)) if found.states[s] != blank]
    at = []
    for s in said:
        frames = np.flatnonzero(found.best == s)
        at.append(float(frames[np.argmax(y[frames, found.states[s]])]))
    labels = [words[found.states[s]] for s in said]
    gap = min((style.widest(labels) + 0.04) / width, 1 / max(len(labels), 1)) * len(y)
    for label, place in zip(labels, spread(at, gap)):
        ax.text(place, 1.04, label, ha="center", va="bottom", fontsize=style.SMALL)
