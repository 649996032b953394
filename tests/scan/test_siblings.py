"""One instruction for several that do the same to neighbouring parts; what is merged, what is not, and its values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, nn
from minigrad.scan.record import Recorder
from minigrad.scan.siblings import FEW, MOST_ROWS, merge
from minigrad.scan.symbols import CARRIED, FIXED, Symbol, evaluate, symbols

from .helpers import agrees, leaf


class Sketch:
    """A program written by hand: x (rows, 12), y (rows, 12), a state h (rows, 4) and a weight U (4, 12)."""

    def __init__(self, rows: int = 2, width: int = 4):
        self.recorder, dtype = Recorder(backends.numpy), np.dtype("float64")
        self.x, self.y = (self.recorder.symbol((rows, 3 * width), dtype, CARRIED, role) for role in "xy")
        self.h = self.recorder.symbol((rows, width), dtype, CARRIED, "h")
        self.U = self.recorder.symbol((width, 3 * width), dtype, FIXED, "U")

    def merged(self) -> dict[str, int]:
        """How many instructions are left of each name, but for the cuts. Values, of all there is, are as they were."""
        self.recorder.writing = False
        instructions = self.recorder.instructions
        wanted = [s for i in instructions for s in i.outputs]
        found = merge(instructions)
        before, after = self._run(instructions), self._run(found)
        for s in wanted:
            np.testing.assert_allclose(
                after[s], before[s], rtol=0, atol=1e-14 * max(1, np.abs(before[s]).max(initial=0))
            )
        return dict(Counter(i.name for i in found if i.name != "split"))

    def _run(self, instructions: Any) -> dict[Symbol, Any]:
        rng = np.random.default_rng(0)
        values = {s: rng.normal(size=s.shape) for s in (self.x, self.y, self.h, self.U)}
        for i in instructions:
            made = evaluate(backends.numpy, i.name, [values.get(s, s) for s in i.inputs], i.static)  # numbers stay
            for s, value in zip(i.outputs, made if isinstance(made, list) else [made], strict=True):
                assert (value.shape, value.dtype) == (s.shape, s.dtype)
                values[s] = value
        return values


def thirds(x: Any, axis: int = 1) -> Any:
    return symbols.split(x, tuple([x.shape[axis] // 3] * 3), axis=axis)


def test_a_function_of_neighbouring_gates_is_computed_once():
    s = Sketch()
    for part in thirds(s.x):
        symbols.sigmoid(part)
    assert s.merged() == {"sigmoid": 1}


def test_the_result_of_all_is_cut_into_the_results_there_were():
    s = Sketch()
    a, b, _ = thirds(s.x)
    made = symbols.sigmoid(a), symbols.sigmoid(b)
    s.recorder.writing = False
    cut, inner, one, last = merge(s.recorder.instructions)
    assert (cut.name, inner.name, one.name, last.name) == ("split", "split", "sigmoid", "split")
    assert one.inputs[0] is inner.outputs[1] and one.outputs[0].shape == (2, 8)
    assert last.inputs[0] is one.outputs[0] and tuple(last.outputs) == made
    assert all(m.instruction is last for m in made)


def test_products_with_neighbouring_columns_are_one():
    s = Sketch()
    for columns in thirds(s.U):
        symbols.matmul(s.h, columns)
    assert s.merged() == {"matmul": 1}


def test_products_with_neighbouring_rows_stay_apart():
    s = Sketch(width=12)
    for x, rows in zip(thirds(s.h), thirds(s.U, axis=0)):
        symbols.matmul(x, rows)
    assert s.merged() == {"matmul": 3}


def test_products_of_different_factors_stay_apart():
    s = Sketch()
    a, b, _ = thirds(s.U)
    symbols.matmul(s.h, a)
    symbols.matmul(symbols.tanh(s.h), b)
    assert s.merged() == {"matmul": 2, "tanh": 1}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1), (2, 0, 1)])
def test_the_order_in_which_neighbours_appear_does_not_matter(order):
    s = Sketch()
    parts, columns = thirds(s.x), thirds(s.U)
    for k in order:
        symbols.multiply(parts[k], 2.0)
        symbols.matmul(s.h, columns[k])
    one = 1 if order not in [(0, 2, 1), (2, 0, 1)] else 2  # what has been passed over is not filled in
    assert s.merged() == {"multiply": one, "matmul": one}


def test_what_is_computed_from_neighbours_are_neighbours():
    s = Sketch()
    for a, b, columns in zip(thirds(s.x), thirds(s.y), thirds(s.U)):
        symbols.sigmoid((a + symbols.matmul(s.h, columns)) * b)
    assert s.merged() == {"matmul": 1, "add": 1, "multiply": 1, "sigmoid": 1}


@pytest.mark.parametrize(("name", "count"), [("sigmoid", 1), ("tanh", 1), ("exp", 2), ("negative", 2), ("log1p", 2)])
def test_columns_in_between_are_computed_too_only_by_functions_that_take_any_number(name, count):
    """exp might overflow there, and log warn."""
    s = Sketch()
    s.x = symbols.sigmoid(s.x) if name == "log1p" else s.x
    a, _, c = thirds(s.x)
    getattr(symbols, name)(a)
    getattr(symbols, name)(c)
    s.x = s.x if name != "log1p" else s.x.instruction.inputs[0]
    assert s.merged()[name] == count


def test_columns_in_between_are_computed_too_only_if_they_are_few():
    for width, count in [(FEW // 2, 1), (FEW // 2 + 1, 2)]:
        s = Sketch(2, width)
        a, _, c = thirds(s.x)
        symbols.sigmoid(a)
        symbols.sigmoid(c)
        assert s.merged() == {"sigmoid": count}


def test_a_gap_is_no_wider_than_what_comes_after_it():
    for sizes, count in [((4, 4, 4), 1), ((3, 5, 4), 2)]:
        s = Sketch()
        a, _, c = symbols.split(s.x, sizes, axis=1)
        symbols.sigmoid(a)
        symbols.sigmoid(c)
        assert s.merged() == {"sigmoid": count}


def test_parts_of_different_arrays_stay_apart():
    s = Sketch()
    symbols.sigmoid(thirds(s.x)[0])
    symbols.sigmoid(thirds(s.y)[1])
    assert s.merged() == {"sigmoid": 2}


def test_neighbours_of_one_operand_but_not_of_the_other_stay_apart():
    s = Sketch()
    x, y = thirds(s.x), thirds(s.y)
    x[0] * y[0], x[1] * y[2]
    assert s.merged() == {"multiply": 2}


def test_rows_are_no_neighbours():
    s = Sketch(rows=3)
    for part in thirds(s.x, axis=0):
        symbols.sigmoid(part)
    assert s.merged() == {"sigmoid": 3}


def test_different_functions_and_different_numbers_stay_apart():
    s = Sketch()
    a, b, c = thirds(s.x)
    symbols.sigmoid(a), symbols.tanh(b), a * 2.0, b * 3.0, c * 2
    assert s.merged() == {"sigmoid": 1, "tanh": 1, "multiply": 3}
    s = Sketch()
    a, b, c = thirds(s.x)
    symbols.clip(a, 0, 1), symbols.clip(b, 0, 2), symbols.clip(c, 0, 2)
    assert s.merged() == {"clip": 2}


def test_what_all_have_in_common_may_be_one_column_or_a_number_but_not_of_the_width_of_one():
    s = Sketch()
    column = symbols.sum(s.h, axis=1, keepdims=True)
    for part in thirds(s.x):
        part * column
    assert s.merged() == {"sum": 1, "multiply": 1}
    s = Sketch()
    for part in thirds(s.x):
        part * s.h
    assert s.merged() == {"multiply": 3}


def test_with_many_rows_only_products_are_merged():
    for rows, count in [(MOST_ROWS, 1), (MOST_ROWS + 1, 3)]:
        s = Sketch(rows)
        for part, columns in zip(thirds(s.x), thirds(s.U)):
            symbols.sigmoid(part + symbols.matmul(s.h, columns))
        assert s.merged() == {"matmul": 1, "add": count, "sigmoid": count}


def test_a_reduction_or_a_view_of_neighbours_stays_as_it_is():
    s = Sketch()
    for part in thirds(s.x):
        symbols.sum(part, axis=1)
        symbols.reshape(part, (4, 2))
    assert s.merged() == {"sum": 3, "reshape": 3}


def test_parts_of_no_width_and_programs_without_parts_are_left_alone():
    s = Sketch()
    for part in symbols.split(s.x, (0, 12, 0), axis=1):
        symbols.sigmoid(part)
    assert s.merged()["sigmoid"] >= 1
    s = Sketch()
    symbols.sigmoid(s.x), symbols.tanh(s.y)
    assert s.merged() == {"sigmoid": 1, "tanh": 1}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_merged_values_stay(seed):
    rng = np.random.default_rng(seed)
    s = Sketch(rows=int(rng.choice([1, 2, MOST_ROWS + 1])))
    pool: list[Any] = [*thirds(s.x), *thirds(s.y), *symbols.split(s.x, (2, 4, 6), axis=1), s.h]
    for _ in range(20):
        a = pool[rng.integers(len(pool))]
        alike = [b for b in pool if b.shape == a.shape]
        b = alike[rng.integers(len(alike))]
        made = [
            lambda a=a: symbols.sigmoid(a),
            lambda a=a: symbols.tanh(a),
            lambda a=a: symbols.exp(-symbols.abs(a)),
            lambda a=a, b=b: a + b,
            lambda a=a, b=b: a * b,
            lambda a=a, b=b: symbols.concat([a, b], axis=-1),
            lambda: symbols.matmul(s.h, thirds(s.U)[rng.integers(3)]),
            lambda a=a: symbols.split(a, (1, a.shape[1] - 1), axis=1)[1] if a.shape[1] > 1 else a,
        ][rng.integers(8)]()
        pool.append(made)
    assert len(s.merged()) > 0


@pytest.mark.parametrize("batch", [1, 2, MOST_ROWS + 1])
@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_a_cell_has_the_loops_values_and_gradients_with_few_rows_and_with_many(cell, batch):
    cell = cell(3, 4)
    for p in cell.parameters():
        p.data = p.data.astype("float64")
    xs, state = leaf(4, batch, 3), (leaf(batch, 4), leaf(batch, 4, seed=1))
    leaves = {"xs": xs, "h": state[0], **dict(cell.named_parameters())}
    agrees(cell, xs, state if isinstance(cell, nn.LSTMCell) else state[0], leaves=leaves)


@pytest.mark.parametrize("batch", [2, MOST_ROWS + 1])
def test_a_cell_whose_gates_come_in_any_order_has_the_loops_values_and_gradients(batch):
    U = leaf(4, 16)

    def step(x, s):
        h, c = s
        a, b, d, e = mg.split(x + h @ U, 4, axis=-1)
        o, f = mg.sigmoid(e), mg.sigmoid(a)
        c = f * c + mg.sigmoid(d) * mg.tanh(b)
        return (h := o * mg.tanh(c)), (h, c)

    xs, s = leaf(4, batch, 16), (leaf(batch, 4), leaf(batch, 4, seed=1))
    agrees(step, xs, s, leaves={"xs": xs, "h": s[0], "c": s[1], "U": U})
