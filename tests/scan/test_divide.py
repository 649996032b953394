"""What is done before the loop, in it and after it, and what becomes of sums over time."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, nn, tree
from minigrad.scan import explain_scan
from minigrad.scan.divide import base
from minigrad.scan.numpy_code import Lines
from minigrad.scan.program import Program
from minigrad.scan.record import Kind, Recorder, record
from minigrad.scan.symbols import CARRIED, EARLY, FIXED, Symbol, evaluate, symbols
from minigrad.scan.totals import Sums, Total, expand, operands
from tests.nn.helpers import MGU

from .helpers import agrees, fixed, leaf

B, N, H = 2, 5, 4


def rows(size: int = H, needs_grad: bool = True, batch: int = B) -> Kind:
    return Kind((batch, size), np.dtype("float32"), needs_grad)


def program(step: Any, xs: Any = None, state: Any = None, context: Any = (), differentiate: bool = True) -> Program:
    """A step of inputs (B, N) and a state (B, H), compiled."""
    state = rows() if state is None else state
    xs = rows(N, False) if xs is None else xs
    return Program(record(step, backends.numpy, xs, state, context, differentiate), [], False)


def names(instructions: Any) -> dict[str, int]:
    """How many instructions there are of each name. Views are made once, before a loop."""
    return dict(Counter(i.name for i in instructions))


def kinds(total: Any) -> Any:
    """The kind of a total and of its parts."""
    if not isinstance(total, Total):
        return "steady"
    return (total.kind if total.instruction is None or not total.parts else total.instruction.name), *map(
        kinds, total.parts
    )


# Cells


def test_the_input_projection_of_a_cell_written_with_concat_is_out_of_the_loop():
    p = program(MGU(N, H))
    for part in (p.forward, p.light, p.backward):
        shapes = [s.shape for i in part.divided.loop for s in [*i.symbols, *i.outputs]]
        assert shapes and not any(N in shape or N + H in shape for shape in shapes)  # neither x nor what it meets
    d = p.forward.divided
    (x,) = p.recording.xs
    projections = [i for i in d.before if i.name == "matmul"]
    assert len(projections) == 2 and all(i.inputs[0] is x and i.inputs[1].shape == (N, H) for i in projections)
    assert all(x not in i.symbols for i in d.loop + d.after)


def test_the_loops_of_a_minimal_gated_unit_have_two_products_each():
    p = program(MGU(N, H))
    forward = {"matmul": 2, "add": 3, "sigmoid": 1, "multiply": 3, "tanh": 1, "subtract": 1}
    assert names(p.forward.divided.loop) == names(p.light.divided.loop) == forward
    assert names(p.backward.divided.loop) == {"matmul": 2, "add": 4, "multiply": 6}
    assert p.forward.divided.after == []


def test_gradients_of_weights_are_products_over_all_rows():
    """The weight of [x, h] has its gradient in two parts; that of a bias is a sum."""
    p = program(MGU(N, H))
    parts = ("concat", ("product",), ("product",))
    assert [kinds(t) for t in p.backward.divided.totals] == [parts, ("reshape", ("sum",))] * 2
    assert names(p.backward.divided.after) == {"matrix_transpose": 2}


def test_the_loops_of_an_lstm_have_so_many_instructions():
    """The slopes of the gates are known before the backward loop, which multiplies by each of them once."""
    p = program(nn.LSTMCell(N, H), state=(rows(), rows()))
    gates = {"matmul": 1, "add": 1, "split": 2, "sigmoid": 1, "tanh": 1}
    assert names(p.forward.divided.loop) == {**gates, "multiply": 3, "add": 2, "tanh": 2}
    assert names(p.backward.divided.loop) == {"add": 2, "multiply": 6, "concat": 1, "matmul": 1}
    assert names(p.backward.divided.after) == {"matrix_transpose": 1}
    totals = [("product",), ("product",), ("reshape", ("sum",))]
    assert sorted(map(kinds, p.backward.divided.totals)) == totals


def test_the_loops_of_an_lstm_with_many_rows_differ_only_in_the_gates():
    p = program(nn.LSTMCell(N, H), xs=rows(N, False, 20), state=(rows(batch=20), rows(batch=20)))
    forward = {"matmul": 1, "add": 2, "split": 1, "sigmoid": 3, "tanh": 2, "multiply": 3}
    assert names(p.forward.divided.loop) == forward
    assert names(p.backward.divided.loop) == {"add": 2, "multiply": 6, "concat": 1, "matmul": 1}


def test_the_loops_of_a_gru_have_so_many_instructions():
    p = program(nn.GRUCell(N, H))
    loop = names(p.forward.divided.loop)
    assert loop == {"matmul": 2, "add": 3, "sigmoid": 1, "split": 1, "multiply": 3, "tanh": 1, "subtract": 1}
    assert names(p.backward.divided.loop) == {"add": 3, "multiply": 5, "matmul": 2, "concat": 1}


def test_gradients_of_inputs_are_one_product_after_the_loop():
    p = program(MGU(N, H), xs=rows(N, True))
    without = program(MGU(N, H))
    assert names(p.backward.divided.loop) == names(without.backward.divided.loop)
    assert names(p.backward.divided.after)["matmul"] == 2


# Where things are done


def teacher_forced() -> Any:
    W, U = leaf(N, H, dtype="float32"), leaf(H, H, dtype="float32")

    def step(x, h):
        x, target = x
        return mg.tanh(x @ W + h @ U), target

    return step, {"W": W, "U": U}


def test_there_is_no_loop_where_the_next_state_does_not_depend_on_the_state():
    p = program(teacher_forced()[0], xs=(rows(N, False), rows()))
    for part in (p.forward, p.light, p.backward):
        assert part.divided.loop == [] and part.divided.carried == [] and len(part.divided.shifted) == 1
        assert " in zip(" not in part.code.source and "range(" not in part.code.source


@pytest.mark.parametrize("reverse", [False, True])
def test_a_step_without_a_loop_has_the_loops_values_and_gradients(reverse):
    step, weights = teacher_forced()
    xs, h = (leaf(6, B, N, dtype="float32"), leaf(6, B, H, dtype="float32")), leaf(B, H, dtype="float32")
    agrees(step, xs, h, leaves={**weights, "x": xs[0], "target": xs[1], "h": h}, reverse=reverse)


def test_states_that_follow_each_other_without_the_loop_are_shifted_one_after_the_other():
    """A delay line: the second state is the first one step later."""
    p = program(lambda x, s: (s[1], (x, s[0])), xs=rows(), state=(rows(), rows()))
    assert p.forward.divided.loop == [] and len(p.forward.divided.shifted) == 2
    xs, s = leaf(5, B, H), (leaf(B, H), leaf(B, H, seed=1))
    agrees(lambda x, s: (s[1], (x, s[0])), xs, s, leaves={"x": xs, "a": s[0], "b": s[1]})


def test_outputs_that_no_state_depends_on_are_computed_after_the_loop():
    W = fixed(H, 3, dtype="float32")

    def step(x, h):
        h = mg.tanh(x + h)
        return mg.softmax(h @ W, axis=-1), h

    d = program(step, xs=rows(), differentiate=False).forward.divided
    assert names(d.loop) == {"add": 1, "tanh": 1}
    assert names(d.after)["matmul"] == 1 and not names(d.after).keys() & {"tanh"}


def test_what_is_the_same_at_every_step_is_computed_once():
    W = leaf(H, H, dtype="float32")

    def step(x, h):
        h = mg.tanh(x + h @ mg.softmax(W * 2, axis=-1))
        return h, h

    d = program(step, xs=rows(), differentiate=False).forward.divided
    assert names(d.loop) == {"matmul": 1, "add": 1, "tanh": 1}
    assert d.before == [] and "exp" in names(d.fixed)


def test_what_nobody_asks_for_is_not_computed():
    def step(x, h):
        mg.exp(h)
        mg.exp(x)
        return x, mg.tanh(h + x)

    d = program(step, xs=rows(), differentiate=False).forward.divided
    assert (d.fixed, d.before, names(d.loop), d.after) == ([], [], {"add": 1, "tanh": 1}, [])


def test_only_values_that_are_used_outside_of_the_loop_are_stored_at_every_step():
    def step(x, h):
        a = mg.tanh(h + x)
        b = a * 2
        return mg.exp(b)[:, :1], mg.sin(b)

    d = program(step, xs=rows(), differentiate=False).forward.divided
    assert [s.role for s in d.stored] == ["multiply"]
    assert names(d.loop) == {"add": 1, "tanh": 1, "multiply": 1, "sin": 1}
    assert names(d.after) == {"exp": 1, "slice": 1}


def test_the_backward_pass_recomputes_what_is_cheap_and_reads_what_is_not():
    p = program(nn.LSTMCell(N, H), state=(rows(), rows()))
    kept = [s.role for s in p.keep]
    assert kept == ["state", "state", "sigmoid", "tanh", "add"]  # of tanh(c), c: the sum
    assert names(i for i in p.backward.divided.before if i.name in ("tanh", "sigmoid")) == {"tanh": 1}


def test_the_instructions_of_a_pass_come_after_those_they_need():
    p = program(MGU(N, H), xs=rows(N, True))
    for part in (p.forward, p.light, p.backward):
        d = part.divided
        known = {*d.given, *(s for pair in d.carried + d.shifted for s in pair[:1])}
        for i in [*d.fixed, *d.before, *d.loop, *d.after]:
            assert known.issuperset(i.symbols)
            known.update(i.outputs)
        assert known.issuperset([*d.wanted, *operands(d.totals), *(base(new) for _, new in d.carried)])


# Totals


def total_of(make: Any, *given: tuple[str, tuple[int, ...], int]) -> tuple[Total, Any, Any]:
    """The sum over time of an expression of symbols, as (how it is made, its value, the sum of its values)."""
    recorder, T, rng = Recorder(backends.numpy), 4, np.random.default_rng(0)
    made = [recorder.symbol(shape, np.dtype(dtype), level, "given") for dtype, shape, level in given]
    s = make(*made)
    recorder.writing = False
    arrays: dict[Symbol, Any] = {}
    for x in made:
        shape = x.shape if x.level == FIXED else (T, *x.shape)
        arrays[x] = (rng.integers(0, 3, shape) if x.dtype.kind == "i" else rng.normal(size=shape)).astype(x.dtype)

    def at(x: Any, t: int) -> Any:
        if not isinstance(x, Symbol):
            return x
        if x in arrays:
            return arrays[x] if x.level == FIXED else arrays[x][t]
        i = x.instruction
        out = evaluate(backends.numpy, i.name, [at(y, t) for y in i.inputs], i.static)
        return out[i.outputs.index(x)] if isinstance(out, list) else out

    total = expand(s, {x: x.level for x in recorder.symbols}, made)
    lines, body = Lines(), []
    values = {f"x{x.number}": at(x, 0) if x.level == FIXED else np.stack([at(x, t) for t in range(T)])
              for x in operands([total])}  # fmt: skip
    name = Sums(lines, {x: f"x{x.number}" for x in operands([total])}, {}, body).write(total)
    space = {**lines.names, **values, "T": T}
    exec("\n".join(body), space)
    return total, space[name], np.sum([at(s, t) for t in range(T)], axis=0)


E, W = ("float64", (2, 3), EARLY), ("float64", (2, 3), FIXED)
SQUARE, COLUMN = ("float64", (3, 3), FIXED), ("float64", (2, 1), EARLY)
turned = symbols.matrix_transpose
TOTALS = {
    "a product over all rows": (lambda a, b: symbols.matmul(turned(a), b), [E, E], ("product",)),
    "a sum": (lambda a: a, [E], ("sum",)),
    "what is the same at every step": (lambda w: w, [W], ("times",)),
    "a sum over rows too": (lambda a: symbols.sum(a, axis=0), [E], ("sum",)),
    "a sum over rows that stay": (lambda a: symbols.sum(a, axis=0, keepdims=True), [E], ("sum",)),
    "a sum over columns too": (lambda a: symbols.sum(a, axis=1), [E], ("sum",)),
    "a sum over everything": (lambda a: symbols.sum(a), [E], ("sum",)),
    "a sum over rows of integers": (lambda a: symbols.sum(a, axis=0), [("int64", (2, 3), EARLY)], ("sum",)),
    "a sum of two": (lambda a, b: a + b, [E, E], ("add", ("sum",), ("sum",))),
    "a difference": (lambda a, b: a - b, [E, E], ("subtract", ("sum",), ("sum",))),
    "a negative": (lambda a: -a, [E], ("negative", ("sum",))),
    "times a number": (lambda a: a * 3.0, [E], ("multiply", ("sum",), "steady")),
    "times a weight": (lambda a, w: w * a, [E, W], ("multiply", "steady", ("sum",))),
    "divided by a weight": (lambda a, w: a / w, [E, W], ("divide", ("sum",), "steady")),
    "a weight divided": (lambda a, w: w / a, [E, W], ("sum",)),
    "plus a weight": (lambda a, w: a + w, [E, W], ("sum",)),
    "of different shapes": (lambda a, b: a + b, [E, COLUMN], ("sum",)),
    "a product with a weight": (lambda a, w: symbols.matmul(a, w), [E, SQUARE], ("matmul", ("sum",), "steady")),
    "where a part of a weight is used": (
        lambda a, m: symbols.where(m, a, 0.0),
        [E, ("bool", (2, 3), FIXED)],
        ("where", "steady", ("sum",), "steady"),
    ),
    "chosen between two": (
        lambda a, b, m: symbols.where(m, a, b),
        [E, E, ("bool", (2, 3), FIXED)],
        ("where", "steady", ("sum",), ("sum",)),
    ),
    "where something else stands": (lambda a, m: symbols.where(m, a, 1.0), [E, ("bool", (2, 3), FIXED)], ("sum",)),
    "chosen anew at each step": (lambda a, m: symbols.where(m, a, 0.0), [E, ("bool", (2, 3), EARLY)], ("sum",)),
    "turned": (turned, [E], ("matrix_transpose", ("sum",))),
    "in another shape": (lambda a: symbols.reshape(a, (3, 2)), [E], ("reshape", ("sum",))),
    "with an axis more": (lambda a: symbols.expand_dims(a, axis=1), [E], ("expand_dims", ("sum",))),
    "with other axes": (lambda a: symbols.permute_dims(a, (1, 0)), [E], ("permute_dims", ("sum",))),
    "side by side": (lambda a, b: symbols.concat([a, b], axis=-1), [E, E], ("concat", ("sum",), ("sum",))),
    "stacked": (lambda a, b: symbols.stack([a, b], axis=1), [E, E], ("stack", ("sum",), ("sum",))),
    "products side by side": (
        lambda a, b: symbols.concat([symbols.matmul(turned(a), b), symbols.matmul(turned(a), a)], axis=1),
        [E, E],
        ("concat", ("product",), ("product",)),
    ),
    "a product of broadcast factors": (
        lambda a, b: a * b,
        [("float64", (2, 1, 3), EARLY), ("float64", (2, 4, 1), EARLY)],
        ("multiply",),
    ),
    "a product of stacks of matrices": (
        lambda a, b: symbols.matmul(a, b),
        [("float64", (2, 3, 4), EARLY), ("float64", (2, 4, 2), EARLY)],
        ("product",),
    ),
    "rows put where an index says": (
        lambda a, k: symbols.scatter(a, (k,), (3, 3)),
        [E, ("int64", (2,), EARLY)],
        ("scatter",),
    ),
    "what is not linear": (lambda a: symbols.exp(a), [E], ("sum",)),
    "what the loop computes": (
        lambda a, b: symbols.matmul(turned(a), b),
        [("float64", (2, 3), CARRIED), E],
        ("product",),
    ),
}


@pytest.mark.parametrize("what", TOTALS)
def test_a_sum_over_time_is_made_in_the_cheapest_way_and_is_the_sum(what):
    make, given, kind = TOTALS[what]
    total, value, expected = total_of(make, *given)
    assert kinds(total) == kind
    assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-14 * max(1, np.abs(expected).max()))


def test_a_gradient_by_rows_that_are_looked_up_is_scattered_once():
    table = leaf(6, H, dtype="float32")
    p = program(lambda x, h: (h, mg.tanh(table[x] + h)), xs=Kind((B,), np.dtype("int64"), False))
    assert [kinds(t) for t in p.backward.divided.totals] == [("scatter",)]
    assert names(p.backward.divided.loop).keys() <= {"add", "multiply"}
    xs, h = mg.tensor(np.arange(8).reshape(4, B) % 5), leaf(B, H, dtype="float32")
    agrees(lambda x, h: (h, mg.tanh(table[x] + h)), xs, h, leaves={"table": table, "h": h})


def test_gradients_of_a_weight_used_twice_are_one_total():
    W = leaf(H, H, dtype="float32")
    p = program(lambda x, h: (h, mg.tanh(x @ W + mg.sin(h @ W))), xs=rows())
    assert [kinds(t)[0] for t in p.backward.divided.totals] == ["add"]
    assert [t.kind for t in tree.leaves(p.backward.divided.totals[0].parts)] == ["product", "product"]


# Sums that are added up in the loop


def test_a_large_sum_that_is_no_product_is_added_up_in_the_loop_and_not_kept_for_every_step(monkeypatch):
    def step(x, h, memory):
        h = mg.tanh(x + mg.sum(mg.tanh(memory + mg.expand_dims(h, axis=1)), axis=1))
        return h, h

    xs, h, memory = leaf(5, 2, 3, seed=1), leaf(2, 3, seed=2), leaf(2, 4, 3, seed=3)
    leaves = {"xs": xs, "h": h, "memory": memory}
    texts = {}
    for large in (1, 10_000):
        monkeypatch.setattr(sys.modules["minigrad.scan.totals"], "LARGE", large)
        mg.scan.clear_cache()
        texts[large] = explain_scan(step, xs, h, (memory,))
        for remat in (None, 2):
            agrees(step, xs, h, (memory,), leaves=leaves, remat=remat)
    mg.scan.clear_cache()
    assert "gradient = the last sum" in texts[1]
    assert "the last sum" not in texts[10_000]
