"""The house style: one font, one map from numbers to ink, and lines that differ without their colours too."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from threading import RLock
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle

SMALL, NORMAL, LARGE = 8, 9, 11  # points
GREY, PALE = "#666666", "#d9d9d9"
ACCENT = "#d55e00"  # on ink
LONGEST = 40  # characters of a label, and the rest is "…"

# The colours of Okabe and Ito, apart for the colour-blind too. As 7, 4 and 9 share no factor, 252 lines differ; no two
# of the first four share a dash, and of the first nine none a marker.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9"]
DASHES: list[Any] = ["-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5))]
DOTTED = (0, (1, 2))  # baselines alone
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]

_WIDE_FONTS = (  # Chinese, Japanese, Korean, where the machine has one
    "Noto Sans CJK SC,Noto Sans CJK JP,Noto Sans SC,Source Han Sans SC,WenQuanYi Zen Hei,WenQuanYi Micro Hei,"
    "PingFang SC,Hiragino Sans,Microsoft YaHei,SimHei,Arial Unicode MS"
).split(",")


@functools.cache
def _fonts() -> list[str]:
    """The names of the fonts, in the order in which a letter is looked for; the first comes with matplotlib."""
    there = set(font_manager.fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in there)]


@functools.cache
def _width(letter: str) -> float | None:
    """How wide a letter is, in parts of the font's size; None if no font has it."""
    for name in _fonts():
        font = font_manager.get_font(font_manager.findfont(FontProperties(family=name)))
        if font.get_char_index(ord(letter)):
            font.set_size(100, 72)
            return font.load_char(ord(letter)).linearHoriAdvance / 65536 / 100
    return None


def _settings() -> dict[str, Any]:
    return {
        "font.family": _fonts(),
        "font.size": NORMAL,
        "text.parse_math": False,  # a dollar in a text is a dollar
        "figure.dpi": 120,
        "figure.titlesize": LARGE,
        "axes.titlesize": NORMAL,
        "axes.titlelocation": "left",
        "axes.labelsize": NORMAL,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.6,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "hatch.linewidth": 0.7,
        "hatch.color": GREY,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "legend.handlelength": 3.4,
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.06,
    }


_one_at_a_time = RLock()  # the settings of matplotlib belong to the process


@contextmanager
def house() -> Iterator[None]:
    """The settings of the house, whatever the user's are, which come back afterwards."""
    with _one_at_a_time, matplotlib.style.context(_settings(), after_reset=True):
        yield


P = ParamSpec("P")
R = TypeVar("R")


def drawn(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws in the style of the house."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with house():
            return draw(*args, **kwargs)

    return inside


class Picture(Figure):
    """A matplotlib Figure that a notebook shows, without pyplot, and that looks the same under any settings."""

    def draw(self, renderer: Any) -> None:
        """Draw it, ticks that are made only now too, in the style of the house."""
        with house():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def picture(width: float, height: float, title: str) -> Picture:
    """An empty picture, in inches, under its title."""
    made = Picture(figsize=(width, height), layout="constrained")
    if title:
        columns = max(int(width / (0.55 * LARGE / 72)), 20)
        made.suptitle(textwrap.fill(plain(title, None), columns), x=0.01, ha="left")
    return made


# Numbers as ink


def _ink() -> ListedColormap:
    """White to dark blue; the lightness L* of CIELAB falls evenly, so that it is as even when printed in grey."""
    lightness = np.linspace(100, 14, 256)
    anchors = [14, 30, 53, 80, 100]
    a, b = np.interp(lightness, anchors, [5, 3, -3, -7, 0]), np.interp(lightness, anchors, [-26, -37, -40, -17, 0])
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    to_rgb = [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
    linear = np.clip(xyz @ np.array(to_rgb).T, 0, 1)
    rgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return ListedColormap(np.clip(rgb, 0, 1), name="ink")


INK = _ink()


def luminance(colour: Any) -> float:
    """How bright an sRGB colour is, from 0 (black) to 1 (white): its relative luminance."""
    rgb = np.asarray(colour, dtype=float)[:3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def text_colour(background: Any) -> str:
    """Black or white, whichever stands out more: 0.179 is where their contrasts (WCAG 2) are equal."""
    return "black" if luminance(background) > 0.179 else "white"


def heat(ax: Axes, values: np.ndarray, low: float, high: float) -> Any:
    """A matrix as ink, row 0 at the top. Cells that are not finite are hatched."""
    image = ax.imshow(np.ma.masked_invalid(values), INK, aspect="auto", vmin=low, vmax=high, interpolation="nearest")
    for spine in ax.spines.values():
        spine.set_visible(True)
    hatch(ax, ~np.isfinite(values), np.arange(values.shape[1] + 1) - 0.5, np.arange(values.shape[0] + 1) - 0.5)
    return image


def colour_bar(ax: Axes, image: Any, label: str, place: Axes | None = None) -> Any:
    """A bar that says what the ink means, at the right of the axes, or at a given place."""
    where = {"ax": ax, "fraction": 0.05, "pad": 0.02, "aspect": 25} if place is None else {"cax": place}
    bar = ax.figure.colorbar(image, **where)  # type: ignore[arg-type]
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def hatch(ax: Axes, where: np.ndarray, x: np.ndarray, y: np.ndarray) -> Patch | None:
    """Hatch the cells of a grid, whose edges x and y are, where it is true; what a legend would show of it."""
    style: dict[str, Any] = {"hatch": "////", "facecolor": "white", "edgecolor": GREY, "linewidth": 0}
    for j in range(where.shape[0]):
        flips = np.flatnonzero(np.diff(np.concatenate([[0], where[j].astype(int), [0]])))
        for begin, end in zip(flips[::2], flips[1::2]):
            corner, size = (x[begin], y[j]), (x[end] - x[begin], y[j + 1] - y[j])
            ax.add_patch(Rectangle(corner, *size, **style))
    return Patch(**style, label="not finite") if where.any() else None


# Lines


def line_style(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of a line, by its number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markerfacecolor": "white" if number % 2 else COLOURS[number % len(COLOURS)],
    }


def marks(points: int, number: int) -> Any:
    """Which points of a line have a marker: all of a few; else eight or so, elsewhere for each line."""
    every = ceil(points / 8)
    return 1 if points <= 20 else (number * every // 4 % every, every)


# Words


def plain(text: Any, longest: int | None = LONGEST) -> str:
    """A text as it can be drawn: what no font has by its number, U+597D; shortened, unless `longest` is None."""
    line = "".join(c if _width(c) is not None else f"U+{ord(c):04X}" for c in " ".join(str(text).split("\n")))
    return line if longest is None or len(line) <= longest else line[: longest - 1] + "…"


def visible(token: Any) -> str:
    """A token, as `plain`, with the blanks in it as signs: a space as an open box, an empty token as ∅."""
    signs = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\N{NO-BREAK SPACE}": "⍽"}
    return plain("".join(signs.get(c, c) for c in str(token)) or "∅")


def width_of(text: str, size: float = SMALL) -> float:
    """How wide a text is, in inches. Letters that no font at hand has are as wide as they are high."""
    widths = [_width(letter) for letter in text]
    return sum(1.0 if width is None else width for width in widths) * size / 72


def widest(labels: Sequence[str], size: float = SMALL) -> float:
    """The width of the widest label, in inches."""
    return max((width_of(label, size) for label in set(labels)), default=0.0)


def in_legend(label: str) -> str:
    """A label that a legend shows; matplotlib leaves out those that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns a legend may have in a picture of this width in inches."""
    return max(1, min(len(labels), int((width - 0.4) / (widest(labels) + 0.75))))


LINE = 1.3 * SMALL / 72  # how high a label is, in inches, with the room around it


def lies_flat(labels: Sequence[str], cell: float) -> bool:
    """Whether labels stand side by side below cells of this width in inches; else they are turned."""
    return widest(labels) + 0.05 <= cell


def name_columns(ax: Axes, labels: Sequence[str], cell: float) -> None:
    """Labels below (or above) columns that are `cell` inches wide: turned if they are wider; thinned where too many."""
    flat = lies_flat(labels, cell)
    every = 1 if flat else ceil(LINE / cell)
    ax.set_xticks(range(0, len(labels), every), labels[::every], rotation=0 if flat else 90)


def name_rows(ax: Axes, labels: Sequence[str], cell: float) -> None:
    """Labels beside rows that are `cell` inches high, thinned where too many."""
    every = ceil(LINE / cell)
    ax.set_yticks(range(0, len(labels), every), labels[::every])
