"""The picture of a graph as SVG: time runs to the right, depth upwards, and a weight is drawn once."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .. import backends, html
from ..errors import ArgumentError
from ..tensor import Tensor
from . import style
from .columns import Columns, unrolled
from .layered import Box, Drawing, arrange
from .unrolled import Vertex

TITLE, LABEL, SMALL, LINE = (
    13.0,
    11.0,
    8.5,
    11.0,
)  # pixels: sizes of the title, a label, what stands under it; its height
MARGIN, HEAD, SHARED = 14.0, 30.0, "3 2"
LEGEND = "grey: a gradient is asked for; dashed: shared by several columns; thick: into another step; dotted: detached"


class Svg:
    """A picture in SVG, which a notebook shows and a browser opens.

    text: the picture itself. `savefig(path)` writes it to a file.
    """

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return f"<a picture in SVG, {len(self.text) / 1000:.0f} kB; savefig writes it to a file>"

    def _repr_svg_(self) -> str:
        return self.text

    def savefig(self, path: Any) -> None:
        """Write the picture to a file NAME.svg."""
        if Path(path).suffix != ".svg":
            raise ArgumentError(f"savefig: this picture is SVG; name the file .svg, not {Path(path).name!r}")
        Path(path).write_text(self.text, encoding="utf-8")


def graph(
    loss: Tensor | Callable[[], Tensor],
    *,
    names: Any = None,
    values: bool = False,
    gradients: bool = False,
    first: int = 0,
    title: str = "Graph",
) -> Svg:
    """The graph that a tensor was computed by, unrolled in time: the picture that backpropagation walks from the top.

    Time runs to the right, a column for each step of a recurrence, and depth upwards: a box stands above what it is
    computed from. A weight that several steps share is drawn once, below, with a line to each of its uses. Thick lines
    lead from one step into the next. Every box holds the operation and the shape of its result.

    loss: a tensor with a graph, before `backward()` has released it; or a function without arguments that computes
        one, which is then called. A compiled loop and what `remat` wraps are drawn as what they do, step by step. Of a
        tensor's graph only that is known which the backward pass needs: constants that no rule reads are missing, and
        some values, and what a compiled loop was cut from by detach. Of a function all is known.
    names: what tensors are called: a dict of names to tensors, leaves or not, or to Modules, or a Module, whose
        parameters have names. It is read after the function has run, which may put tensors of its own into the dict.
    values: write the value into each box, where it is known; of more than 4 numbers the Frobenius norm |x|.
    gradients: write the derivative of the loss by the value, as ∂, the same way. No `.grad` is touched.
    first: the number of the first step.

    The steps of `mg.scan`, `nn.Recurrent` and all that is built on them are known, a reverse one too; of loops in loops
    those of the outermost. In other loops a step begins where a weight is used on what the same weight has been used
    for in the same way. A loop that goes on from another one stands behind it, and counts anew. What joins several
    steps, or serves several, stands in a column of "all steps". In the graph of a recurrence, views of weights and what
    is only reshaped have no boxes of their own.

    A dotted line is where `detach` has cut: the value goes on, and no gradient comes back.

    Returns an `Svg`, made here: no other program is needed. Pointing at a box shows its name, shape, value and
    gradient.

    Raises GraphError for a tensor without a graph, or with one that has been released, and for gradients of what is not
    one number; ArgumentError for what is no tensor or function, and for more nodes than anyone could read.

    >>> import minigrad as mg
    >>> from minigrad import nn, viz
    >>> net = nn.Recurrent(nn.LSTMCell, 3, 4)
    >>> picture = viz.graph(lambda: net(mg.ones((8, 1, 3)))[0].sum(), names=net, title="An LSTM over 8 steps")
    >>> picture.text[:4], "weight_hh" in picture.text
    ('<svg', True)
    """
    if not isinstance(title, str) or not isinstance(first, (int, np.integer)):
        raise ArgumentError(f"graph: title is a text and first an integer, got {title!r} and {first!r}")
    vertices, columns = unrolled(loss, names, gradients)
    texts = {v: _texts(v, values, gradients) for v in vertices}
    drawing = arrange(vertices, columns, {v: _size(text) for v, text in texts.items()})
    return Svg(_Page(vertices, columns, drawing, texts, _readable(title), first).text())


def _texts(v: Vertex, values: bool, gradients: bool) -> list[str]:
    """What stands in a box: what it is, its shape, and on request value and gradient."""
    lines = [_readable(v.label, style.LONGEST)] if v.label else []
    shape = "" if isinstance(v.shape, list) else "×".join(map(str, v.shape))
    lines += [shape] if shape or not lines else []
    lines += [number for number in [_number(v.value)] if values and number]
    lines += [f"∂ {number}" for number in [_number(v.gradient)] if gradients and number]
    return lines


def _number(array: Any) -> str:
    """A number, a few of them, or of more floats the norm; nothing of what is not known, empty, or many integers."""
    if array is None:
        return ""
    numbers = backends.namespace_of(array).to_numpy(array)
    if numbers.size <= 4:
        digits = ".3g" if numbers.ndim else ".4g"
        return ", ".join(f"{x:{digits}}" if isinstance(x, float) else str(x) for x in numbers.reshape(-1).tolist())
    return f"|{html.norm(array):.3g}|" if backends.is_floating(array) else ""


def _readable(text: str, longest: int | None = None) -> str:
    """A text as XML can hold it: what cannot be seen by its number, U+0001; shortened to so many letters."""
    line = "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text)
    return line if longest is None or len(line) <= longest else line[: longest - 1] + "…"


def _width(text: str, size: float) -> float:
    """How wide a text is, in pixels."""
    return 72 * style.width_of(text, size)


def _size(lines: list[str]) -> tuple[float, float]:
    widths = [_width(line, LABEL if not k else SMALL) for k, line in enumerate(lines)]
    return max([22.0, *(1.05 * width + 8 for width in widths)]), 7 + LINE * max(len(lines), 1)


class _Page:
    """The SVG text of a picture."""

    def __init__(
        self,
        vertices: list[Vertex],
        columns: Columns,
        drawing: Drawing,
        texts: dict[Vertex, list[str]],
        title: str,
        first: int,
    ):
        self.vertices, self.columns, self.drawing, self.texts = vertices, columns, drawing, texts
        self.title, self.first = title, first
        boxes = drawing.boxes.values()
        self.top = min([*(box.top for box in boxes), *(y for line in drawing.lines for _, y in line.points)]) - 10
        self.bottom = max([0.0, *(box.bottom for box in boxes)]) + 30
        self.right = max(box.x + box.width / 2 for box in boxes)

    def text(self) -> str:
        many = len(self.drawing.columns) > 1
        width = max(self.right, _width(self.title, TITLE), _width(LEGEND, SMALL) if many else 0) + 2 * MARGIN
        height = self.bottom - self.top + HEAD + MARGIN + LINE * many
        view = f"{-MARGIN:.0f} {self.top - HEAD:.0f} {width:.0f} {height:.0f}"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{width:.0f}" height="{height:.0f}" '
            f'font-family="DejaVu Sans, Verdana, sans-serif" font-size="{SMALL}" text-anchor="middle" role="img">',
            f"<title>{escape(self.title)}</title>",
            f'<rect x="{-MARGIN:.0f}" y="{self.top - HEAD:.0f}" width="100%" height="100%" fill="white"/>',
            f'<text x="0" y="{self.top - 10:.1f}" font-size="{TITLE}" text-anchor="start">{escape(self.title)}</text>',
            *(self._time() if many else []),
            *self._lines(),
            *(self._box(v, box) for v, box in self.drawing.boxes.items()),
            "</svg>",
        ]
        return "\n".join(parts)

    def _time(self) -> list[str]:
        """A strip for each column, the axis of time below, and what the lines mean."""
        parts = []
        for k, (column, (left, right)) in enumerate(self.drawing.columns.items()):
            if k % 2 == 0:
                parts.append(
                    f'<rect x="{left - 4:.1f}" y="{self.top + 4:.1f}" width="{right - left + 8:.1f}" '
                    f'height="{-self.top + 6:.1f}" fill="#f4f4f4"/>'
                )
            steps = [str(step + self.first) for step in self.columns.steps[column]]
            name = f"t = {', '.join(steps)}" if steps else "all steps"
            parts.append(f'<text x="{(left + right) / 2:.1f}" y="{self.bottom - 8:.1f}" fill="#333">{name}</text>')
        begin = min(left for left, _ in self.drawing.columns.values())
        below = self.bottom + 12
        parts.append(_path([(begin, self.bottom), (self.right, self.bottom)], "#333", 1))
        parts.append(f'<path d="M{self.right:.1f} {self.bottom:.1f}l-6 -2.5v5z" fill="#333"/>')
        parts.append(f'<text x="{self.right:.1f}" y="{below:.1f}" text-anchor="end" fill="#333">time, in steps</text>')
        parts.append(f'<text x="0" y="{below + LINE:.1f}" text-anchor="start" fill="#333">{LEGEND}</text>')
        return parts

    def _lines(self) -> list[str]:
        of, steps, parts = self.columns.of, self.columns.steps, []
        reach: dict[Vertex, float] = {}
        for line in self.drawing.lines:
            (x, y), parent = line.points[0], line.parent
            column = of[parent]
            if column is None:
                reach[parent] = max(x, reach.get(parent, 0.0))
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="#777"/>')
            through_time = column is not None and line.straight and bool(steps[column])
            colour, thick = ("#888", 0.8) if column is None else ("black", 1.7) if through_time else ("#333", 1.0)
            dashes = "1.5 3" if parent in line.child.cut else SHARED if column is None else ""
            parts.append(_path(line.points, colour, thick, dashes, curved=not line.straight))
            tip_x, tip_y = line.points[-1]
            parts.append(f'<path d="M{tip_x:.1f} {tip_y:.1f}l-2.2 5h4.4z" fill="{colour}"/>')
        for v, x in reach.items():
            box = self.drawing.boxes[v]
            parts.append(_path([(box.x + box.width / 2, box.y), (x, box.y)], "#888", 0.8, SHARED))
        return parts

    def _box(self, v: Vertex, box: Box) -> str:
        fill, stroke, thick = {
            "operation": ("white", "#333", 1.0),
            "leaf": ("#dcdcdc", "black", 1.3),
            "constant": ("white", "#bbb", 0.8),
        }[v.kind]
        thick = 2.2 if v is self.vertices[-1] else thick
        radius = 2 if v.kind == "leaf" else 6
        lines = self.texts[v]
        y = box.y - LINE * (len(lines) - 1) / 2 + 3.5
        words = []
        for k, line in enumerate(lines):
            named = v.label and not k
            look = f' font-size="{LABEL}" fill="black"' if named else ' fill="#444"'
            look += ' font-style="italic"' if line.startswith("∂") else ""
            words.append(f'<text x="{box.x:.1f}" y="{y + k * LINE:.1f}"{look}>{escape(line)}</text>')
        return (
            f"<g><title>{escape(_about(v))}</title>"
            f'<rect x="{box.x - box.width / 2:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}" rx="{radius}" fill="{fill}" stroke="{stroke}" stroke-width="{thick}"/>'
            f"{''.join(words)}</g>"
        )


def _about(v: Vertex) -> str:
    """All that is known of a vertex, for who points at it."""
    lines = [f"{v.kind} {_readable(v.label)}".strip(), f"shape {v.shape}"]
    lines += [f"value {number}" for number in [_number(v.value)] if number]
    lines += [f"gradient {number}" for number in [_number(v.gradient)] if number]
    lines += ["detached from " + ", ".join(_readable(p.label) for p in v.parents if p in v.cut)] if v.cut else []
    return "\n".join(lines)


def _path(points: list[tuple[float, float]], colour: str, thick: float, dashes: str = "", curved: bool = False) -> str:
    """A line through points: with round corners, or curved upwards from one to the next."""
    d = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    if curved:
        for (x, y), (u, v) in pairwise(points):
            d.append(f"C{x:.1f} {(y + v) / 2:.1f} {u:.1f} {(y + v) / 2:.1f} {u:.1f} {v:.1f}")
    else:
        for (a, b), (x, y), (u, v) in zip(points, points[1:], points[2:]):
            r = min(4.0, max(abs(x - a), abs(y - b)) / 2, max(abs(u - x), abs(v - y)) / 2)
            sign = lambda n: (n > 0) - (n < 0)
            d.append(
                f"L{x - r * sign(x - a):.1f} {y - r * sign(y - b):.1f}"
                f"Q{x:.1f} {y:.1f} {x + r * sign(u - x):.1f} {y + r * sign(v - y):.1f}"
            )
        d.append(f"L{points[-1][0]:.1f} {points[-1][1]:.1f}")
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{"".join(d)}" fill="none" stroke="{colour}" stroke-width="{thick}"{extra}/>'
