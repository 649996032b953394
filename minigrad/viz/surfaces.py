"""A function of two numbers as a landscape, and ways through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import LogLocator, MaxNLocator

from ..errors import ArgumentError, ShapeError
from . import given, style
from .lines import log_ticks
from .style import Picture


@style.drawn
def surface(
    x: Any,
    y: Any,
    z: Any,
    *,
    paths: Mapping[str, Any] | None = None,
    x_label: str = "x",
    y_label: str = "y",
    z_label: str = "z",
    title: str = "Surface",
    log: bool = False,
) -> Picture:
    """The values of a function on a grid, as ink with contour lines, and paths of points over it.

    x: (N,), y: (M,), both increasing. z: (M, N), the value at (x[j], y[i]) in z[i, j]. Cells that are not finite are
        hatched. log: whether the ink and the contours are by the logarithm of z.
    paths: names to points (K, 2), of x and y: the way of an optimiser. It begins at an open circle and ends at a filled
        square; an arrow shows its direction. What leaves the grid leaves the picture, and the legend says so.

    Raises ShapeError, ArgumentError for a grid that does not increase, for z without a finite value, and for z that is
    not positive with log=True.

    >>> import numpy as np
    >>> from minigrad import viz
    >>> x, y = np.linspace(-2, 2, 21), np.linspace(-1, 1, 11)
    >>> figure = viz.surface(x, y, x**2 + 4 * y[:, None] ** 2, paths={"descent": [[-1.5, 0.8], [-0.5, 0.1], [0, 0]]})
    >>> figure.axes[0].get_xlabel(), figure.axes[1].get_ylabel()
    ('x', 'z')
    """
    x, y = _grid("x", x, "(N,)"), _grid("y", y, "(M,)")
    z = given.numbers("surface", "z", z, "(M, N)")
    if z.shape != (len(y), len(x)):
        raise ShapeError(
            f"surface: z must have a row for each y and a column for each x, {(len(y), len(x))}, got {z.shape}"
        )
    seen = given.some("surface", "z", z)[np.isfinite(z)]
    low, high = float(seen.min()), float(seen.max())
    if log and low <= 0:
        raise ArgumentError(
            f"surface: log=True takes a positive z, and the smallest is {low:g}; leave log out, or shift z"
        )
    given_paths = given.mapping("surface", "paths", paths, "points (K, 2)") if paths else {}
    ways = {name: _points(name, points) for name, points in given_paths.items()}

    made = style.picture(6.4, 4.8 + 0.17 * len(ways), title)
    ax = made.add_subplot()
    flat = low == high
    norm = (LogNorm if log else Normalize)(low / 2 if flat and log else low, high + 1 if flat else high)
    shown = np.ma.masked_invalid(z)
    mesh = ax.pcolormesh(x, y, shown, cmap=style.INK, norm=norm, shading="nearest", rasterized=True)
    edges = _edges(x), _edges(y)
    missing = style.hatch(ax, ~np.isfinite(z), *edges)
    if not flat:
        _contours(ax, x, y, shown, low, high, log)
    bar = style.colour_bar(ax, mesh, style.plain(z_label, None))
    if log:
        bar.minorticks_off()
        ticks, names = log_ticks(*bar.ax.get_ylim())
        bar.set_ticks(ticks, labels=names)
    limits = tuple(edges[0][[0, -1]]), tuple(edges[1][[0, -1]])
    handles: list[Any] = [_path(ax, i, name, points, limits) for i, (name, points) in enumerate(ways.items())]
    if handles:
        for word, marker, face in (("start", "o", "white"), ("end", "s", "black")):
            handles.append(Line2D([], [], linestyle="", marker=marker, color="black", markerfacecolor=face, label=word))
    if missing:
        handles.append(missing)
    ax.set(xlim=limits[0], ylim=limits[1], xlabel=style.plain(x_label, None), ylabel=style.plain(y_label, None))
    if handles:
        columns = style.legend_columns([str(handle.get_label()) for handle in handles], 6.4)
        made.legend(handles=handles, loc="outside lower center", ncols=min(columns, 3))
    return made


def _grid(name: str, value: Any, shape: str) -> np.ndarray:
    array = given.finite("surface", name, given.numbers("surface", name, value, shape))
    if len(array) < 2 or (np.diff(array) <= 0).any():
        raise ArgumentError(f"surface: {name} must be two or more numbers, each larger than the one before")
    return array


def _points(name: str, value: Any) -> np.ndarray:
    points = given.numbers("surface", f"paths {name!r}", value, "(K, 2)")
    if points.shape[1] != 2:
        raise ShapeError(f"surface: paths {name!r} must be points (K, 2), got {points.shape}")
    whole = np.isfinite(points).all(axis=1, keepdims=True)
    return given.some("surface", f"paths {name!r}", np.where(whole, points, np.nan))


def _edges(centres: np.ndarray) -> np.ndarray:
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def _contours(ax: Axes, x: np.ndarray, y: np.ndarray, z: Any, low: float, high: float, log: bool) -> None:
    if log and high / low >= 100:
        levels = LogLocator(subs=(1.0,) if high / low > 1e4 else (1.0, 3.0), numticks=10).tick_values(low, high)
    else:
        levels = MaxNLocator(9).tick_values(low, high)
    inner = np.array([level for level in levels if low < level < high])
    if inner.size:
        ink = (np.log(inner / low) / np.log(high / low)) if log else (inner - low) / (high - low)
        colours = [style.text_colour(style.INK(float(v))) for v in ink]
        lines = ax.contour(x, y, z, levels=inner, colors=colours, linewidths=0.6, linestyles="solid")
        ax.clabel(lines, fontsize=style.SMALL - 1, fmt="%g")


def _path(ax: Axes, number: int, name: str, points: np.ndarray, limits: Any) -> Line2D:
    """Draw a path; what the legend shows of it."""
    look = style.line_style(number)
    colour = look["color"]
    halo = [Stroke(linewidth=3.2, foreground="white"), Normal()]
    finite = points[np.isfinite(points).all(axis=1)]
    notes = [f"{len(points) - len(finite)} not finite"] if len(finite) < len(points) else []
    (x0, x1), (y0, y1) = limits
    inside = (finite[:, 0] >= x0) & (finite[:, 0] <= x1) & (finite[:, 1] >= y0) & (finite[:, 1] <= y1)
    if not inside.all():
        notes.append("ends outside" if not inside[-1] else "partly outside")
    label = style.plain(name) + (f" ({', '.join(notes)})" if notes else "")
    (line,) = ax.plot(
        *points.T,
        color=colour,
        linestyle=look["linestyle"],
        marker=look["marker"],
        markersize=2.5,
        markevery=style.marks(len(points), number),
        path_effects=halo,
        label=style.in_legend(label),
    )
    begin: dict[str, Any] = {"color": colour, "markerfacecolor": "white", "markersize": 8}
    ax.plot(*finite[-1], linestyle="", marker="s", color=colour, markeredgecolor="white", markersize=7, zorder=4)
    ax.plot(*finite[0], linestyle="", marker="o", zorder=4, **begin)
    _arrow(ax, finite, np.array([x1 - x0, y1 - y0]), colour, halo)
    return line


def _arrow(ax: Axes, points: np.ndarray, size: np.ndarray, colour: str, halo: Any) -> None:
    """An arrow half-way along a path, along its course there: single steps may go to and fro."""
    lengths = np.linalg.norm(np.diff(points, axis=0) / size, axis=1).cumsum()
    if not lengths.size or not lengths[-1] > 0:
        return
    middle = int(np.searchsorted(lengths, lengths[-1] / 2)) + 1
    reach = max(1, len(points) // 40)
    course = points[min(middle + reach, len(points) - 1)] - points[max(middle - reach, 0)]
    if not course.any():
        course = points[middle] - points[middle - 1]
    at = points[middle - 1] if len(points) > 2 else points.mean(axis=0)
    towards = at + course / np.linalg.norm(course / size) * 0.03
    look = {"arrowstyle": "-|>,head_length=1.1,head_width=0.35", "color": colour, "path_effects": halo}
    ax.annotate("", towards, at, arrowprops=look | {"shrinkA": 0, "shrinkB": 0}, annotation_clip=True)
