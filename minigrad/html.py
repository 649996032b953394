"""How arrays and weights show themselves in a notebook: HTML of tables and text, without colours of its own.

It knows arrays only. `Tensor` and `Module` hand in theirs, and what is to be said about them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import islice, product
from typing import Any

from . import backends

ROWS, COLUMNS, SLICES, NAMES = 10, 10, 2, 60  # the most that is shown of each; of more, the two ends, or the first
LOOKED_THROUGH = 2**22  # elements: in larger arrays nobody looks for NaN
FROZEN, KEPT = "parameters that are not trained", "kept with them, not learned"

_TABLE = '<table style="font-variant-numeric: tabular-nums; text-align: right">'
_LEFT = 'style="text-align: left"'

Array = Any


def of_array(kind: str, array: Array, note: str = "", grad: Array | None = None) -> str:
    """An array: what it is, some of its values, and the shape and the norm of its gradient if there is one.

    kind: the name of the class that shows itself. note: where it stands in the graph; "" for nowhere.

    Only what is shown is copied out of the array. Where values are left out, it is said how many of all are NaN or
    infinite, unless they are more than LOOKED_THROUGH.

    >>> import numpy as np
    >>> print(of_array("Tensor", np.array([1.5, np.nan]), "made by log"))  # doctest: +ELLIPSIS
    <div><p><strong>Tensor</strong> (2,), float64, numpy, made by log</p>
    <table ...><thead><tr><th scope="col">0</th><th scope="col">1</th></tr></thead>
    <tbody><tr><td>1.5</td><td><strong>nan</strong></td></tr></tbody></table></div>
    """
    xp = backends.namespace_of(array)
    facts = [_shape(array), _dtype(array), xp.name_of(array), *([note] if note else [])]
    parts = [f"<p><strong>{_plain(kind)}</strong> {_plain(', '.join(facts))}</p>"]
    if xp.symbolic:
        parts.append("<p>a symbol, which has no values</p>")
    elif not math.prod(array.shape):
        parts.append("<p>no values</p>")
    elif not array.shape:
        parts.append(f"<p>{_cell(xp.to_numpy(array).item(), exact=True)}</p>")
    else:
        parts += _values(xp, array)
    if grad is not None:
        parts.append(f"<p>gradient: {_shape(grad)}, norm {_cell(norm(grad))}</p>")
    return f"<div>{chr(10).join(parts)}</div>"


def of_weights(kind: str, total: int, tensors: Iterable[tuple[str, Array, bool, bool]]) -> str:
    """Arrays by name: the shape, dtype and size of each. Their values are not looked at.

    kind: the name of the class that shows itself. total: how many numbers its parameters hold. tensors: name, array,
    whether it is a parameter, and whether it needs a gradient. The parameters, those that need no gradient and what is
    no parameter are told apart; of a long list the middle is left out.

    >>> import numpy as np
    >>> print(of_weights("Linear", 6, [("weight", np.ones((2, 3)), True, True)]))  # doctest: +ELLIPSIS
    <div><p><strong>Linear</strong> 6 parameters, numpy</p>
    <table ...>...<th scope="row" ...>weight</th><td>(2, 3)</td><td>float64</td><td>6</td>...
    """
    groups: dict[str, list[tuple[str, Array]]] = {title: [] for title in ("parameters", FROZEN, KEPT)}
    for name, array, is_parameter, needs_gradient in tensors:
        groups[KEPT if not is_parameter else "parameters" if needs_gradient else FROZEN].append((name, array))
    arrays = [array for members in groups.values() for _, array in members]
    homes = sorted({_home(array) for array in arrays})
    facts = [f"{total:,} parameter{'' if total == 1 else 's'}", *([" and ".join(homes)] if homes else [])]
    parts = [f"<p><strong>{_plain(kind)}</strong> {_plain(', '.join(facts))}</p>"]
    if arrays:
        columns = ["shape", "dtype", *(["backend"] if len(homes) > 1 else []), "numbers"]
        head = "".join(f'<th scope="col">{column}</th>' for column in columns)
        parts.append(f'{_TABLE}<thead><tr><th scope="col" {_LEFT}>name</th>{head}</tr></thead>')
        told_apart = any(groups[title] for title in (FROZEN, KEPT))
        for title, members in groups.items():
            if members:
                rows = _rows(members, columns)
                name = f'<tr><th scope="rowgroup" colspan="{len(columns) + 1}" {_LEFT}>{title}</th></tr>'
                parts.append(f"<tbody>{chr(10).join([name, *rows] if told_apart else rows)}</tbody>")
        parts.append(
            f'<tfoot><tr><th scope="row" colspan="{len(columns)}" {_LEFT}>parameters in all</th>'
            f"<td><strong>{total:,}</strong></td></tr></tfoot></table>"
        )
    return f"<div>{chr(10).join(parts)}</div>"


def _rows(members: Sequence[tuple[str, Array]], columns: Sequence[str]) -> list[str]:
    """A row for each array, or for the first and the last of many and one for those between."""
    rows: list[str] = []
    for part in _kept(len(members), NAMES):
        if rows:
            hidden = [array for _, array in members[len(rows) : part.start]]
            empty = "<td></td>" * (len(columns) - 1)
            numbers = sum(math.prod(array.shape) for array in hidden)
            rows.append(f"<tr><td {_LEFT}>⋮ {len(hidden):,} more</td>{empty}<td>{numbers:,}</td></tr>")
        for name, array in members[part]:
            known = {"shape": _shape(array), "dtype": _dtype(array), "backend": _home(array)}
            known["numbers"] = f"{math.prod(array.shape):,}"
            cells = "".join(f"<td>{_plain(known[column])}</td>" for column in columns)
            rows.append(f'<tr><th scope="row" {_LEFT}>{_plain(name)}</th>{cells}</tr>')
    return rows


def _values(xp: backends.Namespace, array: Array) -> Iterator[str]:
    """Tables of an array with at least one axis: of a vector, a matrix, or the first matrices of it."""
    *outer, width = array.shape[-2:]
    columns = _kept(width, COLUMNS)
    rows = _kept(outer[0], ROWS) if outer else [None]
    count = math.prod(array.shape[:-2])
    for lead in islice(product(*(range(min(n, SLICES)) for n in array.shape[:-2])), SLICES):
        caption = f"<caption {_LEFT}>[{', '.join(map(str, lead))}, :, :]</caption>" if lead else ""
        yield _TABLE + caption + _table(xp, array, lead, rows, columns)
    if count > SLICES:
        yield f"<p>and {count - SLICES:,} more such table{'' if count - SLICES == 1 else 's'}</p>"
    if len(columns) > 1 or len(rows) > 1 or count > SLICES:
        yield from _not_finite(xp, array)


def _table(xp: backends.Namespace, array: Array, lead: tuple[int, ...], rows: Sequence[Any], columns: Any) -> str:
    """The inside of a table of one vector (rows is [None]) or matrix. What is shown is copied out block by block."""
    corner = "" if rows == [None] else "<td></td>"
    gap = "<td>⋯</td>"
    head = "<th>⋯</th>".join("".join(f'<th scope="col">{j}</th>' for j in range(c.start, c.stop)) for c in columns)
    body: list[str] = []
    for part in rows:
        if body:
            body.append("<tr><th>⋮</th>" + gap.join("<td>⋮</td>" * (c.stop - c.start) for c in columns) + "</tr>")
        blocks = []
        for c in columns:
            key = (*lead, c) if part is None else (*lead, part, c)
            blocks.append(xp.to_numpy(array[key]).reshape(-1, c.stop - c.start).tolist())
        for i, pieces in enumerate(zip(*blocks)):
            name = "" if part is None else f'<th scope="row">{part.start + i}</th>'
            cells = gap.join("".join(f"<td>{_cell(value)}</td>" for value in piece) for piece in pieces)
            body.append(f"<tr>{name}{cells}</tr>")
    return f"<thead><tr>{corner}{head}</tr></thead>\n<tbody>{chr(10).join(body)}</tbody></table>"


def _kept(length: int, most: int) -> list[slice]:
    """The parts of an axis that are shown: all of it, or its two ends."""
    return [slice(0, length)] if length <= most else [slice(0, most // 2), slice(length - most // 2, length)]


def _not_finite(xp: backends.Namespace, array: Array) -> Iterator[str]:
    """A line on the values that are NaN or infinite, for an array that is not shown whole."""
    if array.dtype not in xp.floating:
        return
    size = math.prod(array.shape)
    if size > LOOKED_THROUGH:
        yield f"<p>{size:,} values, not searched for NaN</p>"
        return
    finite = xp.sum(xp.astype(xp.isfinite(array), xp.dtype("int64")))
    count = size - int(xp.to_numpy(finite).item())
    if count:
        yield f"<p><strong>{count:,}</strong> of {size:,} values NaN or infinite</p>"


def norm(array: Array) -> float:
    """The Euclidean norm, computed where the array is; no square overflows."""
    xp = backends.namespace_of(array)
    if not math.prod(array.shape):
        return 0.0
    size = xp.abs(array)
    largest = float(xp.to_numpy(xp.max(size)).item())
    if not 0 < largest < math.inf:
        return largest
    parts = size / largest
    return largest * math.sqrt(float(xp.to_numpy(xp.sum(parts * parts)).item()))


def _cell(value: Any, exact: bool = False) -> str:
    """A value as text: floats to four digits unless `exact`; NaN and infinity stand out."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"<strong>{value}</strong>"
        return f"{value:.8g}" if exact else f"{value:.4g}"
    return _plain(str(value))


def _home(array: Array) -> str:
    return backends.namespace_of(array).name_of(array)


def _shape(array: Array) -> str:
    return str(tuple(array.shape))


def _dtype(array: Array) -> str:
    return str(array.dtype).rpartition(".")[2]


def _plain(text: str) -> str:
    """Text as text, whatever stands in it; characters that cannot be seen as their escapes."""
    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
