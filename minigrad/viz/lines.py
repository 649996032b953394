"""Numbers over time as lines: learning curves, and gradients on their way back."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..errors import ArgumentError, ShapeError
from . import given, style
from .style import Picture

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@style.drawn
def curves(
    series: Mapping[str, Any],
    *,
    x: str = "epoch",
    y: str = "loss (nats)",
    title: str = "Learning curves",
    log: bool = False,
    baseline: Mapping[str, float] | None = None,
) -> Picture:
    """Lines over epochs, steps or times: the training and validation of one network, or of several.

    series: names to values (N,), at 1 ... N; or to a pair (positions (N,), values (N,)). What is not finite is a gap in
        its line, and counted beside its name.
    x, y: what the axes are, with units. log: whether the y axis is logarithmic.
    baseline: names to values, dotted lines across the picture: what is to be beaten.

    Raises ArgumentError for an empty or NaN-only series, and for a value that is not positive on a logarithmic axis;
    ShapeError for what does not fit.

    >>> from minigrad import viz
    >>> figure = viz.curves({"train": [2.1, 1.3, 0.9], "validation": [2.2, 1.6, 1.5]}, baseline={"bigrams": 2.4})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['train', 'validation', 'bigrams']
    """
    values = given.mapping("curves", "series", series, "values")
    lines = {name: _line("curves", f"series {name!r}", value) for name, value in values.items()}
    levels = {}
    for name, value in (given.mapping("curves", "baseline", baseline, "values") if baseline else {}).items():
        what = f"baseline {name!r}"
        levels[name] = float(given.finite("curves", what, given.numbers("curves", what, value, "()")))
    lowest = {f"series {name!r}": np.nanmin(ys) for name, (_, ys) in lines.items()}
    for what, low in (lowest | {f"baseline {name!r}": level for name, level in levels.items()}).items():
        if log and low <= 0:
            raise ArgumentError(f"curves: log=True takes positive values, and {what} holds {low:g}; leave log out")
    return _chart(lines, x, y, title, log, levels=levels)


@style.drawn
def gradient_flow(
    norms: Mapping[str, Any], *, x: str = "step t", y: str = "|dL/ds_t|", title: str = "Gradient through time"
) -> Picture:
    """The norm of the gradient at each step, several networks on one logarithmic axis.

    norms: names to norms (T,), at t = 0 ... T - 1, as `mg.gradient_flow` returns them; or names of networks to what it
        returns for each. Where a norm is 0, which a logarithmic axis does not have, the line has a gap. Parts that run
        in reverse, whose gradient flows forward in time, say so in the legend.

    A straight line is a gradient that shrinks or grows by the same factor in every step.

    Raises ArgumentError for a negative norm, and if none is positive and finite.

    >>> import minigrad as mg
    >>> from minigrad import nn, viz
    >>> xs, loss = mg.ones((30, 2, 3)), lambda outs, state: outs[-1].sum()
    >>> cells = {"Elman": nn.ElmanCell, "GRU": nn.GRUCell}
    >>> flows = {name: mg.gradient_flow(nn.Recurrent(cell, 3, 8), xs, loss) for name, cell in cells.items()}
    >>> figure = viz.gradient_flow(flows)
    >>> figure.axes[0].get_yscale()
    'log'
    """
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    notes: dict[str, str] = {}
    for name, value in given.mapping("gradient_flow", "norms", norms, "norms (T,)").items():
        flow = value if isinstance(value, Mapping) else norms
        parts = value if isinstance(value, Mapping) else {name: value}
        if not parts:
            raise ArgumentError(f"gradient_flow: norms {name!r} is empty")
        for part, values in parts.items():
            full = str(part) if parts is not value else name if len(parts) == 1 else f"{name}: {part}"
            array = given.numbers("gradient_flow", f"norms {full!r}", values, "(T,)")
            if (array < 0).any():
                raise ArgumentError(
                    f"gradient_flow: norms {full!r} holds {np.nanmin(array):g}; a norm is never below 0"
                )
            zeros, others = int((array == 0).sum()), int((~np.isfinite(array)).sum())
            said = ["in reverse"] * (part in getattr(flow, "reverse", ()))
            said += [f"0 at {'every step' if zeros == len(array) else f'{zeros} of {len(array)} steps'}"] * bool(zeros)
            notes[full] = ", ".join(said + [f"{others} not finite"] * bool(others))
            lines[full] = np.arange(len(array)), array
    if not any((np.isfinite(values) & (values > 0)).any() for _, values in lines.values()):
        raise ArgumentError("gradient_flow: norms hold nothing positive and finite, so there is nothing to draw")
    return _chart(lines, x, y, title, True, notes)


def _line(function: str, what: str, value: Any) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values, of values alone or of both."""
    if not (isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0])):
        ys = given.numbers(function, what, value, "(N,)")
        return np.arange(1.0, len(ys) + 1), given.some(function, what, ys)
    where = f"positions of {what}"
    xs = given.finite(function, where, given.numbers(function, where, value[0], "(N,)"))
    ys = given.numbers(function, what, value[1], "(N,)")
    if len(xs) != len(ys):
        raise ShapeError(f"{function}: {what} has {len(xs)} positions and {len(ys)} values")
    return xs, given.some(function, what, ys)


def _chart(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x: str,
    y: str,
    title: str,
    log: bool,
    notes: Mapping[str, str] | None = None,
    levels: Mapping[str, float] | None = None,
) -> Picture:
    labels = {}
    for name, (_, ys) in lines.items():
        missing = int((~np.isfinite(ys)).sum())
        note = (notes or {}).get(name) or (f"{missing} not finite" if missing else "")
        labels[name] = style.plain(name) + (f" ({note})" if note else "")
    columns = style.legend_columns(list(labels.values()), 7.2)
    made = style.picture(7.2, 4.0 + 0.17 * ceil(len(lines) / columns), title)
    ax = made.add_subplot()
    for i, (name, (xs, ys)) in enumerate(lines.items()):
        ys = np.where(np.isfinite(ys) & ~(log & (ys == 0)), ys, np.nan)
        ax.plot(xs, ys, label=style.in_legend(labels[name]), markevery=style.marks(len(xs), i), **style.line_style(i))
    ax.set(xlabel=style.plain(x, None), ylabel=style.plain(y, None))
    ax.grid(True)
    if all((xs == np.round(xs)).all() for xs, _ in lines.values()):
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    if log:
        shown = np.concatenate([*(line.get_ydata() for line in ax.lines), list((levels or {}).values())])
        ax.set_ylim(*log_limits(float(np.nanmin(shown)), float(np.nanmax(shown))))
        ax.set_yscale("log")
        ax.set_yticks(*log_ticks(*ax.get_ylim()))
        ax.minorticks_off()
    elif max(np.nanmax(np.abs(ys), initial=0) for _, ys in lines.values()) < 1e5:
        ax.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
    handles = list(ax.lines)
    _baselines(ax, levels or {}, log)
    made.legend(handles=handles, loc="outside lower center", ncols=columns)
    return made


def _baselines(ax: Axes, levels: Mapping[str, float], log: bool) -> None:
    """Dotted lines, each with its name at its right end; names that would overlap move apart."""
    for name, level in levels.items():
        ax.axhline(
            level, color="black", linestyle=style.DOTTED, linewidth=1.4, label=style.in_legend(style.plain(name))
        )
    ax.set_ylim(*ax.get_ylim())  # and so they stay, as places depend on them
    low, high = (log10(v) if log else v for v in ax.get_ylim())
    wanted = [((log10(v) if log else v) - low) / (high - low) for v in levels.values()]
    height = 3.1  # inches, about
    for (name, level), place in zip(levels.items(), spread(wanted, style.LINE / height)):
        ax.annotate(
            f"{style.plain(name)}  {level:.4g}",
            (1, level),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            textcoords="axes fraction",
            va="center",
            fontsize=style.SMALL,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": style.GREY, "shrinkA": 0, "shrinkB": 0},
        )


def spread(wanted: list[float], gap: float) -> list[float]:
    """Places as near to the wanted ones as can be, in the same order, at least `gap` apart.

    Neighbours that are too close become one block around the mean of where they would be; blocks merge as they meet.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[list[float]] = []  # of each: the sum of (wanted - offset in the block), how many
    for i in order:
        blocks.append([wanted[i], 1])
        while len(blocks) > 1 and blocks[-1][0] / blocks[-1][1] < blocks[-2][0] / blocks[-2][1] + gap * blocks[-2][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total - count * blocks[-1][1] * gap
            blocks[-1][1] += count
    places = [total / count + k * gap for total, count in blocks for k in range(int(count))]
    found = [0.0] * len(wanted)
    for i, place in zip(order, places):
        found[i] = place
    return found


def log_limits(low: float, high: float) -> tuple[float, float]:
    """A little more than from low to high, on a logarithmic axis, and no number that floats do not have."""
    a, b = log10(low), log10(high)
    more = max((b - a) / 20, 0.02)
    return 10.0 ** max(a - more, -307.0), 10.0 ** min(b + more, 308.0)


def log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis and their labels: powers of ten, or what lies between where these are few."""
    low, high = low * (1 - 1e-9), high * (1 + 1e-9)  # a tick at the very end is one
    first, last = floor(log10(low)), ceil(log10(high))
    every = max(1, ceil((last - first) / 8))
    powers = [float(f"1e{k}") for k in range(first, last + 1) if k % every == 0]
    powers = [tick for tick in powers if low <= tick <= high]
    if len(powers) >= 3:
        return powers, [power_of_ten(tick) for tick in powers]
    ticks = [float(f"{m}e{k}") for k in range(first, last + 1) for m in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 3:
        ticks = [float(tick) for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    return ticks, [f"{tick:g}" for tick in ticks]


def power_of_ten(value: float) -> str:
    """10 with its exponent above the line, and 1 for 10⁰."""
    exponent = round(log10(value))
    return {-1: "0.1", 0: "1", 1: "10", 2: "100"}.get(exponent) or "10" + str(exponent).translate(_SUPERSCRIPTS)
