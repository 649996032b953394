"""Where the boxes of an unrolled graph stand and how its lines run: steps are columns, what depends on more is higher.

Within a column the boxes are drawn in levels, after Sugiyama, Tagawa and Toda (1981): every line goes up from level to
level, the boxes of a level are ordered so that few lines cross, and then moved to where their neighbours are. Lines
between columns run in the gap to the left of the column where they end, so that no box is ever crossed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .unrolled import Unrolled, Vertex

APART, GAP, LANE, PORT = 7.0, 12.0, 5.0, 7.0  # pixels: boxes of a level, columns, lines in a gap, lines into a box
FAR_LEFT = -4.0  # in boxes, from the middle of a level


@dataclass
class Box:
    """Where a vertex is: its centre and its size, in pixels; y runs down, as in SVG."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass
class Line:
    """From a vertex to one that is computed from it: the corners it passes. straight: it turns at right angles."""

    parent: Vertex
    child: Vertex
    points: list[tuple[float, float]]
    straight: bool


@dataclass
class Drawing:
    """columns: where each step begins and ends, in x. The lowest level is above y = 0, what is shared below it."""

    boxes: dict[Vertex, Box]
    lines: list[Line]
    columns: dict[int, tuple[float, float]]


def arrange(found: Unrolled, sizes: Mapping[Vertex, tuple[float, float]]) -> Drawing:
    """Where the vertices stand, whose boxes are of these sizes."""
    vertices = found.vertices
    shared = [v for v in vertices if v.step is None]
    steps = sorted({v.step for v in vertices if v.step is not None})
    level = _levels(vertices, found.behind)
    columns = {step: _Column([v for v in vertices if v.step == step], level, sizes) for step in steps}

    heights = [0.0] * (max(level.values(), default=0) + 1)
    for v, k in level.items():
        heights[k] = max(heights[k], sizes[v][1])
    lanes = {step: _sources(vertices, step) for step in steps}
    across = max((len(sources) for sources in lanes.values()), default=0)
    band = 20.0 + 3 * min(across, 6)  # between two levels: lines go along here, each at a height of its own
    spans, y = [], 0.0  # from where to where each level reaches
    for height in heights:
        spans.append((y, y - height))
        y -= height + band

    boxes: dict[Vertex, Box] = {}
    x = max((sizes[v][0] for v in shared), default=0.0)
    rail = band
    for v in shared:
        rail += sizes[v][1] / 2 + 3
        boxes[v] = Box(sizes[v][0] / 2, rail, *sizes[v])
        rail += sizes[v][1] / 2 + 3
    extents: dict[int, tuple[float, float]] = {}
    for step, column in columns.items():
        x += GAP + LANE * len(lanes[step])
        for v in column.members:
            boxes[v] = Box(x + column.places[v], sum(spans[level[v]]) / 2, *sizes[v])
        extents[step] = (x, x + column.width)
        x += column.width
    lines = _lines(vertices, level, columns, lanes, extents, spans, boxes)
    return Drawing(boxes, lines, extents)


def _levels(vertices: Sequence[Vertex], behind: int | None) -> dict[Vertex, int]:
    """How high each vertex stands: above its parents in the same column; behind the steps, above all its parents.

    The lowest level is that of constants and leaves. A chain that nothing else hangs on, as from x_t to W x_t, stands
    as near as it can to where it leads.
    """
    level: dict[Vertex, int] = {}
    children: dict[Vertex, list[Vertex]] = {}
    free: set[Vertex] = set()
    for v in vertices:
        children[v] = []
        if v.step is None:
            continue
        inside = [p for p in dict.fromkeys(v.parents) if p.step == v.step]
        above = [p for p in v.parents if p in level] if v.step == behind else inside
        level[v] = max((level[p] + 1 for p in above), default=int(v.kind == "operation"))
        for p in inside:
            children[p].append(v)
    for v in vertices:
        if all(p in free and len(children[p]) == 1 for p in v.parents if p.step == v.step) and v.step != behind:
            free.add(v)
    for v in reversed(vertices):
        if v in free:
            level[v] = min((level[c] - 1 for c in children[v]), default=level.get(v, 0))
    return {v: k for v, k in level.items() if v.step is not None}


def _sources(vertices: Sequence[Vertex], step: int) -> list[Vertex]:
    """From where lines come into a column; each has a lane in the gap before it."""
    return list(dict.fromkeys(p for v in vertices if v.step == step for p in v.parents if p.step != step))


@dataclass(eq=False)
class _Bend:
    """Where a line passes through a level."""

    level: int


@dataclass
class _Column:
    """The boxes of one step. places: the x of each vertex and bend; bends: those of each line, upwards."""

    members: list[Vertex]
    level: Mapping[Vertex, int]
    sizes: Mapping[Vertex, tuple[float, float]]
    places: dict[Any, float] = field(default_factory=dict)
    bends: dict[tuple[Vertex, Vertex], list[Any]] = field(default_factory=dict)
    width: float = 0.0

    def __post_init__(self) -> None:
        rows: list[list[Any]] = [[] for _ in range(max(self.level[v] for v in self.members) + 1)]
        below: dict[Any, list[Any]] = {}
        above: dict[Any, list[Any]] = {}
        for v in self.members:
            rows[self.level[v]].append(v)
            for p in dict.fromkeys(v.parents):
                if p.step != v.step:
                    continue
                bends: list[Any] = [_Bend(k) for k in range(self.level[p] + 1, self.level[v])]
                for k, bend in enumerate(bends, self.level[p] + 1):
                    rows[k].append(bend)
                self.bends[p, v] = bends
                for a, b in pairwise([p, *bends, v]):
                    above.setdefault(a, []).append(b)
                    below.setdefault(b, []).append(a)
        rows = _ordered(rows, below, above, {v for v in self.members if any(p.step != v.step for p in v.parents)})
        width = {item: self.sizes[item][0] if isinstance(item, Vertex) else 2.0 for row in rows for item in row}
        self.places = _moved(rows, below, above, width)
        left = min(x - width[item] / 2 for item, x in self.places.items())
        self.width = max(x + width[item] / 2 for item, x in self.places.items()) - left
        self.places = {item: x - left for item, x in self.places.items()}


def _ordered(rows: list[list[Any]], below: Mapping, above: Mapping, entered: set[Any]) -> list[list[Any]]:
    """The rows, each ordered so that few lines cross: by the mean place of the neighbours, up and down again.

    What is entered from the left stands rather to the left.
    """
    best, fewest = rows, _crossings(rows, below)
    rows = [list(row) for row in rows]
    for sweep in range(8):
        up = sweep % 2 == 0
        place = {item: k - (len(row) - 1) / 2 for row in rows for k, item in enumerate(row)}
        for row in rows if up else reversed(rows):
            wish = {}
            for item in row:
                near = [place[n] for n in (below if up else above).get(item, ())]
                near += [FAR_LEFT] if up and item in entered else []
                wish[item] = sum(near) / len(near) if near else place[item]
            row.sort(key=wish.__getitem__)
            place.update({item: k - (len(row) - 1) / 2 for k, item in enumerate(row)})
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _crossings(rows: Sequence[Sequence[Any]], below: Mapping) -> int:
    """How many pairs of lines cross."""
    place = {item: k for row in rows for k, item in enumerate(row)}
    found = 0
    for row in rows:
        lines = [(place[b], place[item]) for item in row for b in below.get(item, ())]
        found += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(lines) for c, d in lines[:i])
    return found


def _moved(rows: Sequence[Sequence[Any]], below: Mapping, above: Mapping, width: Mapping) -> dict[Any, float]:
    """The x of every item: as near to the mean of its neighbours as its row allows, in which the order stays."""
    x: dict[Any, float] = {}
    for row in rows:
        at = 0.0
        for item in row:
            x[item] = at + width[item] / 2
            at += width[item] + APART
        for item in row:
            x[item] -= at / 2
    for sweep in range(10):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = []
            for item in row:
                near = [x[n] for n in (*below.get(item, ()), *above.get(item, ()))]
                wanted.append(sum(near) / len(near) if near else x[item])
            x.update(zip(row, _apart(wanted, [width[item] for item in row])))
    return x


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones, in least squares, at which boxes of these widths do not touch.

    With the room that each needs taken off, the places must not fall: isotonic regression, by pooling neighbours.
    """
    offsets, at = [], 0.0
    for k, width in enumerate(widths):
        at += 0.0 if not k else (widths[k - 1] + width) / 2 + APART
        offsets.append(at)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets):
        pools.append((place - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    flat = [mean for mean, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets)]


def _lines(
    vertices: Sequence[Vertex],
    level: Mapping[Vertex, int],
    columns: Mapping[int, _Column],
    lanes: Mapping[int, Sequence[Vertex]],
    extents: Mapping[int, tuple[float, float]],
    spans: Sequence[tuple[float, float]],
    boxes: Mapping[Vertex, Box],
) -> list[Line]:
    """A line for every parent of every vertex, each into a port of its own at the lower side."""
    lines = []
    for v in vertices:
        if v.step is None:
            continue
        left, box = extents[v.step][0], boxes[v]
        entries: list[tuple[float, Vertex]] = []  # from where each line comes
        for p in v.parents:
            if p.step == v.step:
                bends = columns[v.step].bends[p, v]
                entries.append((left + columns[v.step].places[bends[-1]] if bends else boxes[p].x, p))
            else:
                entries.append((left - GAP / 2 - LANE * lanes[v.step].index(p), p))
        entries.sort(key=lambda entry: entry[0])
        apart = min(PORT, (box.width - 8) / len(entries)) if entries else 0.0
        for k, (x, p) in enumerate(entries):
            port = box.x + (k - (len(entries) - 1) / 2) * apart
            begin, end = (boxes[p].x, boxes[p].top), (port, box.bottom)
            floor = spans[level[v]][0]
            if p.step == v.step:
                bends = [(left + columns[v.step].places[b], b.level) for b in columns[v.step].bends[p, v]]
                through = [(x, y) for x, k in bends for y in spans[k]]
                through = [(boxes[p].x, spans[level[p]][1]), *through, (port, floor)]
                lines.append(Line(p, v, list(dict.fromkeys([begin, *through, end])), straight=False))
                continue
            lane = lanes[v.step].index(p) % 6
            low, high = floor + 6 + 3 * lane, 0.0 if p.step is None else spans[level[p]][1] - 5 - 3 * lane
            turn = [(x, boxes[p].y)] if p.step is None else [begin, (begin[0], high), (x, high)]
            lines.append(Line(p, v, [*turn, (x, low), (port, low), end], straight=True))
    return lines
