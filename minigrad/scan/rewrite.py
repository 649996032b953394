"""Better ways to write an instruction, tried as it is written down: more of it outside the loop, less inside.

A rule is given the recorder, the inputs and the static arguments of an instruction; it answers with what shall stand
in its place, or None. The results are the same but for rounding. Levels say where a value can be computed: see
`symbols`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, groupby, pairwise
from typing import TYPE_CHECKING, Any

from .symbols import CARRIED, FIXED, Symbol

if TYPE_CHECKING:
    from .record import Recorder

Rule = Callable[["Recorder", tuple[Any, ...], dict[str, Any]], Any]


def made_by(value: Any, name: str) -> Any:
    """The inputs of the instruction called `name` that made this value; None if another did."""
    if isinstance(value, Symbol) and value.instruction is not None and value.instruction.name == name:
        return value.instruction.inputs
    return None


def level(value: Any) -> int:
    """The level of a symbol; a number is the same at every step."""
    return value.level if isinstance(value, Symbol) else FIXED


def _in_loop(value: Any, others: Sequence[Any]) -> bool:
    """Whether this is computed in the loop, from floats, and the others can be computed before it."""
    return (
        level(value) == CARRIED
        and all(level(other) < CARRIED for other in others)
        and len({v.dtype for v in (value, *others) if isinstance(v, Symbol)}) == 1
        and value.dtype.kind == "f"
    )


def _chain(name: str) -> Rule:
    """(c * a) * b = c * (a * b), where a and b are known before the loop; likewise for sums."""

    def rule(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
        for x, b in (inputs, inputs[::-1]):
            for c, a in (pair for pair in [made_by(x, name)] if pair for pair in (pair, pair[::-1])):
                if _in_loop(c, (a, b)) and (isinstance(a, Symbol) or isinstance(b, Symbol)):
                    early = recorder.emit(name, (a, b), {})
                    if len(early.shape) <= len(c.shape):
                        return recorder.emit(name, (c, early), {})
        return None

    return rule


def _factors(x: Any) -> list[tuple[Any, Any]]:
    """The ways to read x as a product c * a: x = x * 1, and both orders of a multiplication."""
    pair = made_by(x, "multiply")
    return [(x, 1.0), *((pair, pair[::-1]) if pair else ())]


def _factor(name: str) -> Rule:
    """c * a - c * b = c * (a - b), where a and b are known before the loop: the slope of tanh, c - c * y**2, is one."""

    def rule(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
        for c, a in _factors(inputs[0]):
            for d, b in _factors(inputs[1]):
                if c is d and _in_loop(c, (a, b)) and (isinstance(a, Symbol) or isinstance(b, Symbol)):
                    early = recorder.emit(name, (a, b), {})
                    if len(early.shape) <= len(c.shape):
                        return recorder.emit("multiply", (c, early), {})
        return None

    return rule


def _factor_within(name: str) -> Rule:
    """(c * a + q) - c * b = c * (a - b) + q, where a and b are known before the loop."""

    def rule(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
        outer, last = inputs
        for kind in ("add", "subtract"):
            terms: tuple[Any, ...] = made_by(outer, kind) or ()
            for k, term in enumerate(terms[: 2 if kind == "add" else 1]):
                if isinstance(term, Symbol) and _common(term, last):
                    joined = recorder.emit(name, (term, last), {})
                    pair = (joined, terms[1]) if k == 0 else (terms[0], joined)
                    return recorder.emit(kind, pair, {})
        return None

    return rule


def _common(x: Any, y: Any) -> bool:
    """Whether x and y are multiples of the same value of the loop, by what is known before it."""
    return any(
        c is d
        and _in_loop(c, (a, b))
        and (isinstance(a, Symbol) or isinstance(b, Symbol))
        and x.shape == y.shape == c.shape
        for c, a in _factors(x)
        for d, b in _factors(y)
    )


def add_negative(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """a + -b = a - b."""
    for a, b in (inputs, inputs[::-1]):
        negated = made_by(b, "negative")
        if negated:
            return recorder.emit("subtract", (a, negated[0]), {})
    return None


def transposed_twice(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """The transpose of a transpose is the matrix itself."""
    before = made_by(inputs[0], "matrix_transpose")
    return before[0] if before else None


def product_of_parts(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """concat(a, b) @ W = a @ W_1 + b @ W_2, where a is known before the loop and b is not.

    So a cell that is written `W [x, h]` has its input projection outside of the loop. The gradient of W comes in the
    same parts.
    """
    x, weight = inputs
    parts = made_by(x, "concat")
    if parts and weight.level == FIXED and weight.ndim == 2 and x.instruction.static["axis"] % x.ndim == x.ndim - 1:
        groups = [list(group) for _, group in groupby(parts, level)]
        if len(groups) > 1:
            joined = [g[0] if len(g) == 1 else recorder.emit("concat", tuple(g), {"axis": -1}) for g in groups]
            sizes = tuple(part.shape[-1] for part in joined)
            recorder.cut[x] = joined
            recorder.cut[weight] = joined
            rows = recorder.emit("split", (weight,), {"sizes": sizes, "axis": 0})
            products = [recorder.emit("matmul", pair, {}) for pair in zip(joined, rows)]
            return list(accumulate(products, lambda a, b: recorder.emit("add", (a, b), {})))[-1]
    # The gradient of W: x^T g, or (for `linear`, whose weight lies the other way) g^T x.
    before = made_by(x, "matrix_transpose")
    if before and before[0] in recorder.cut:
        turned = [recorder.emit("matrix_transpose", (part,), {}) for part in recorder.cut[before[0]]]
        return recorder.emit("concat", tuple(recorder.emit("matmul", (p, weight), {}) for p in turned), {"axis": 0})
    if before and weight in recorder.cut and weight.instruction.name == "concat":
        products = [recorder.emit("matmul", (x, part), {}) for part in recorder.cut[weight]]
        return recorder.emit("concat", tuple(products), {"axis": 1})
    return None


def parts_of_product(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """split(g @ W^T) = g @ W_1^T, g @ W_2^T: the gradients of the parts, each by itself, if W was cut above."""
    factors = made_by(inputs[0], "matmul")
    if not factors:
        return None
    g, turned = factors
    weight = recorder.emit("matrix_transpose", (turned,), {})
    if weight not in recorder.cut or static["axis"] != inputs[0].ndim - 1:
        return None
    joined = recorder.cut[weight]
    columns = recorder.emit("split", (turned,), {"sizes": tuple(part.shape[-1] for part in joined), "axis": 1})
    answers: list[Any] = []
    for part, column in zip(joined, columns):
        product = recorder.emit("matmul", (g, column), {})
        inner = made_by(part, "concat") if len(answers) + 1 < len(static["sizes"]) else None
        sizes = tuple(p.shape[-1] for p in inner or (part,))
        if tuple(static["sizes"][len(answers) : len(answers) + len(sizes)]) != sizes:
            return None
        options = {"sizes": sizes, "axis": product.ndim - 1}
        answers.extend(recorder.emit("split", (product,), options) if len(sizes) > 1 else [product])
    return answers


def _columns(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The columns that an index selects, from start to stop, if that is all it does."""
    if not any(isinstance(k, slice) for k in key):
        return None
    *rows, last = (k for k in key if k is not Ellipsis)
    if len(rows) + 1 != len(shape) and not (key[:1] == (Ellipsis,) and not rows):
        return None
    if any(k != slice(None) for k in rows) or not isinstance(last, slice):
        return None
    start, stop, step = last.indices(shape[-1])
    return (start, stop) if step == 1 and start < stop else None


def zeros_around(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """The gradient through x[:, a:b] is that of these columns between zeros."""
    shape = tuple(static["shape"])
    columns = _columns(static["key"], shape) if len(inputs) == 1 and shape else None
    if columns is None or inputs[0].shape != (*shape[:-1], columns[1] - columns[0]):
        return None
    return _padded(recorder, shape, inputs[0].dtype, [(columns[0], inputs[0])])


def _padded(recorder: Recorder, shape: tuple[int, ...], dtype: Any, parts: list[tuple[int, Symbol]]) -> Symbol:
    """An array of zeros but for some columns: parts, from where they begin, in order."""
    pieces, end = [], 0
    for start, part in [*parts, (shape[-1], None)]:
        if start > end:
            pieces.append(recorder.zeros((*shape[:-1], start - end), dtype))
        if part is not None:
            pieces.append(part)
            end = start + part.shape[-1]
    whole = pieces[0] if len(pieces) == 1 else recorder.emit("concat", tuple(pieces), {"axis": len(shape) - 1})
    recorder.padded[whole] = parts
    return whole


def add_side_by_side(recorder: Recorder, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """Columns between zeros, added up, stand side by side: so the gradients of gates that were cut out by slices."""
    if not all(isinstance(x, Symbol) and x in recorder.padded for x in inputs) or inputs[0].shape != inputs[1].shape:
        return None
    parts = sorted([*recorder.padded[inputs[0]], *recorder.padded[inputs[1]]], key=lambda part: part[0])
    if any(start + part.shape[-1] > after for (start, part), (after, _) in pairwise(parts)):
        return None
    return _padded(recorder, inputs[0].shape, inputs[0].dtype, parts)


RULES: dict[str, Sequence[Rule]] = {
    "add": [add_side_by_side, add_negative, _chain("add"), _factor("add"), _factor_within("add")],
    "multiply": [_chain("multiply")],
    "subtract": [_factor("subtract"), _factor_within("subtract")],
    "matrix_transpose": [transposed_twice],
    "matmul": [product_of_parts],
    "split": [parts_of_product],
    "scatter": [zeros_around],
}
