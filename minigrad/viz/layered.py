"""Where the boxes of an unrolled graph stand and how its lines run: steps are columns, what depends on more is higher.

Within a column the boxes are drawn in levels, after Sugiyama, Tagawa and Toda (1981): every line goes up from level to
level, the boxes of a level are ordered so that few lines cross, and then moved to where their neighbours are. Lines
between columns run in the gap to the left of the column where they end, so that no box is ever crossed.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .columns import Columns
from .unrolled import Vertex

# pixels: between boxes of a level, columns, lines in a gap, lines along a level, and lines into a box
APART, GAP, LANE, TRACK, PORT = 7.0, 12.0, 5.0, 3.5, 7.0
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
    """columns: where each begins and ends, in x. The lowest level is above y = 0, what columns share below it."""

    boxes: dict[Vertex, Box]
    lines: list[Line]
    columns: dict[int, tuple[float, float]]


def arrange(vertices: Sequence[Vertex], columns: Columns, sizes: Mapping[Vertex, tuple[float, float]]) -> Drawing:
    """Where the vertices stand, whose boxes are of these sizes."""
    of = columns.of
    level = _levels(vertices, columns)
    stacks = {k: _Stack([v for v in vertices if of[v] == k], of, level, sizes) for k in sorted(columns.steps)}
    lanes = {k: _sources(vertices, of, k) for k in stacks}
    boxes: dict[Vertex, Box] = {}
    extents: dict[int, tuple[float, float]] = {}
    x = max((sizes[v][0] for v in vertices if of[v] is None), default=0.0)
    for k, stack in stacks.items():
        x += GAP + LANE * len(lanes[k])
        for v in stack.members:
            boxes[v] = Box(x + stack.places[v], 0.0, *sizes[v])
        extents[k] = (x, x + stack.width)
        x += stack.width
    routes = _Routes(vertices, of, level, stacks, lanes, extents, boxes)
    spans, y = [], 0.0  # from where to where each level reaches
    for k in range(max(level.values(), default=0) + 1):
        height = max((sizes[v][1] for v, j in level.items() if j == k), default=0.0)
        spans.append((y, y - height))
        y -= height + routes.room(k)
    for v, k in level.items():
        boxes[v].y = sum(spans[k]) / 2
    rail = routes.room(-1)
    for v in vertices:
        if of[v] is None:
            boxes[v] = Box(sizes[v][0] / 2, rail + sizes[v][1] / 2 + 3, *sizes[v])
            rail += sizes[v][1] + 6
    return Drawing(boxes, routes.lines(spans), extents)


def _levels(vertices: Sequence[Vertex], columns: Columns) -> dict[Vertex, int]:
    """How high each vertex stands: above its parents in the same column; of what belongs to all steps, above all.

    The lowest level is that of constants and leaves. A chain that nothing else hangs on, as from x_t to W x_t, stands
    as near as it can to where it leads.
    """
    of = columns.of
    level: dict[Vertex, int] = {}
    children: dict[Vertex, list[Vertex]] = {}
    free: set[Vertex] = set()
    for v in vertices:
        children[v] = []
        k = of[v]
        if k is None:
            continue
        inside = [p for p in dict.fromkeys(v.parents) if of[p] == k]
        above = inside if columns.steps[k] else [p for p in v.parents if p in level]
        level[v] = max((level[p] + 1 for p in above), default=int(v.kind == "operation"))
        for p in inside:
            children[p].append(v)
        if columns.steps[k]:
            free.add(v)
    for v in vertices:
        if not all(p in free and len(children[p]) == 1 for p in v.parents if of[p] == of[v]):
            free.discard(v)
    for v in reversed(vertices):
        if v in free:
            level[v] = min((level[c] - 1 for c in children[v]), default=level[v])
    return level


def _sources(vertices: Sequence[Vertex], of: Mapping[Vertex, int | None], column: int) -> list[Vertex]:
    """From where lines come into a column; each has a lane in the gap before it."""
    return list(dict.fromkeys(p for v in vertices if of[v] == column for p in v.parents if of[p] != column))


@dataclass(eq=False)
class _Bend:
    """Where a line passes through a level."""

    level: int


@dataclass
class _Stack:
    """The boxes of one column. places: the x of each vertex and bend; bends: those of each line, upwards."""

    members: list[Vertex]
    of: Mapping[Vertex, int | None]
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
                if self.of[p] != self.of[v]:
                    continue
                bends: list[Any] = [_Bend(k) for k in range(self.level[p] + 1, self.level[v])]
                for k, bend in enumerate(bends, self.level[p] + 1):
                    rows[k].append(bend)
                self.bends[p, v] = bends
                for a, b in pairwise([p, *bends, v]):
                    above.setdefault(a, []).append(b)
                    below.setdefault(b, []).append(a)
        entered = {v for v in self.members if any(self.of[p] != self.of[v] for p in v.parents)}
        rows = _ordered(rows, below, above, entered)
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
    """How many pairs of lines cross: in the order of their upper ends, which end left of one before them."""
    place = {item: k for row in rows for k, item in enumerate(row)}
    found = 0
    for row in rows:
        ends: list[int] = []
        for item in row:
            lower = sorted(place[b] for b in below.get(item, ()))
            found += sum(len(ends) - bisect_right(ends, end) for end in lower)
            for end in lower:
                insort(ends, end)
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
    for sweep in range(24):
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


class _Routes:
    """The ways of all lines.

    Between two levels lie tracks, below each level those of what comes in there, above it those of what goes out. Two
    lines have one track only if they are of one parent, or one ends before the other begins.
    """

    def __init__(
        self,
        vertices: Sequence[Vertex],
        of: Mapping[Vertex, int | None],
        level: Mapping[Vertex, int],
        stacks: Mapping[int, _Stack],
        lanes: Mapping[int, Sequence[Vertex]],
        extents: Mapping[int, tuple[float, float]],
        boxes: Mapping[Vertex, Box],
    ):
        self.of, self.level, self.stacks, self.extents, self.boxes = of, level, stacks, extents, boxes
        self.ends: list[tuple[Vertex, Vertex, float, float]] = []  # of each line: parent, child, its lane, its port
        coming: dict[int, dict[Any, tuple[float, float]]] = {}  # by level: the extent of each line on its track
        going: dict[int, dict[Any, tuple[float, float]]] = {}
        for v in vertices:
            k = of[v]
            if k is None:
                continue
            entries = [(self._from(p, v, lanes[k]), i, p) for i, p in enumerate(v.parents)]
            apart = min(PORT, (boxes[v].width - 8) / len(entries)) if entries else 0.0
            for i, (x, _, p) in enumerate(sorted(entries, key=lambda entry: entry[:2])):
                port = boxes[v].x + (i - (len(entries) - 1) / 2) * apart
                self.ends.append((p, v, x, port))
                if of[p] != k:
                    _widen(coming.setdefault(level[v], {}), (p, k), x, port)
                    if p in level:
                        _widen(going.setdefault(level[p], {}), p, x, boxes[p].x)
        self.coming = {k: _tracks(extent) for k, extent in coming.items()}
        self.going = {k: _tracks(extent) for k, extent in going.items()}

    def _from(self, p: Vertex, v: Vertex, lanes: Sequence[Vertex]) -> float:
        """From which x a line comes to its child: the last bend or the parent; else its lane before the column."""
        k = self.of[v]
        assert k is not None
        left = self.extents[k][0]
        if self.of[p] != k:
            return left - GAP / 2 - LANE * lanes.index(p)
        bends = self.stacks[k].bends[p, v]
        return left + self.stacks[k].places[bends[-1]] if bends else self.boxes[p].x

    def room(self, level: int) -> float:
        """How high the space above a level is; above -1: below the lowest."""
        tracks = (self.going.get(level, {}), self.coming.get(level + 1, {}))
        return 20.0 + TRACK * sum(max(numbers.values(), default=-1) + 1 for numbers in tracks)

    def lines(self, spans: Sequence[tuple[float, float]]) -> list[Line]:
        """All lines, where these are the heights of the levels."""
        found = []
        for p, v, x, port in self.ends:
            k, above, below = self.of[v], self.boxes[p], self.boxes[v]
            begin, end, floor = (above.x, above.top), (port, below.bottom), spans[self.level[v]][0]
            if self.of[p] == k:
                assert k is not None
                left, places = self.extents[k][0], self.stacks[k].places
                through = [(left + places[b], y) for b in self.stacks[k].bends[p, v] for y in spans[b.level]]
                points = [begin, (above.x, spans[self.level[p]][1]), *through, (port, floor), end]
                found.append(Line(p, v, list(dict.fromkeys(points)), straight=False))
                continue
            low = floor + 7 + TRACK * self.coming[self.level[v]][p, k]
            turn = [(x, above.y)]
            if p in self.level:
                high = spans[self.level[p]][1] - 5 - TRACK * self.going[self.level[p]][p]
                turn = [begin, (above.x, high), (x, high)]
            found.append(Line(p, v, [*turn, (x, low), (port, low), end], straight=True))
        return found


def _widen(extents: dict[Any, tuple[float, float]], key: Any, *places: float) -> None:
    """Let an extent hold these places too."""
    extents[key] = (min(*places, *extents.get(key, places)), max(*places, *extents.get(key, places)))


def _tracks(extents: Mapping[Any, tuple[float, float]]) -> dict[Any, int]:
    """A track for each extent, the lowest that is free."""
    ends: list[float] = []
    found = {}
    for key, (left, right) in sorted(extents.items(), key=lambda item: item[1]):
        free = next((k for k, end in enumerate(ends) if end + TRACK < left), len(ends))
        ends[free:] = [right, *ends[free + 1 :]]
        found[key] = free
    return found
