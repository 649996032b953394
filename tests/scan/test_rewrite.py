"""Better ways to write an instruction: what an expression becomes as it is written down, and that its value stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends
from minigrad.scan.record import Recorder
from minigrad.scan.symbols import CARRIED, EARLY, FIXED, Symbol, evaluate, symbols

from .helpers import agrees, leaf

LEVELS = {"c": CARRIED, "d": CARRIED, "q": CARRIED, "a": EARLY, "b": EARLY, "e": EARLY, "w": FIXED}


def given(shapes: Any = None, dtypes: Any = None) -> dict[str, Symbol]:
    """Symbols by name: c, d and q come from the loop, a, b and e are known before it, w is the same at every step."""
    recorder, shapes, dtypes = Recorder(backends.numpy), shapes or {}, dtypes or {}
    return {
        name: recorder.symbol(shapes.get(name, (2, 3)), np.dtype(dtypes.get(name, "float64")), level, name)
        for name, level in LEVELS.items()
    }


def written(value: Any) -> str:
    """How a value is made, as calls of the functions that make it."""
    if not isinstance(value, Symbol):
        return repr(value)
    i = value.instruction
    if i is None:
        return value.role
    which = f".{[s is value for s in i.outputs].index(True)}" if len(i.outputs) > 1 else ""
    return f"{i.name}({', '.join(map(written, i.inputs))}){which}"


def computed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value of a symbol where the given ones have these."""
    if not isinstance(value, Symbol):
        return value
    i = value.instruction
    if i is None:
        return arrays[value.role]
    made = evaluate(backends.numpy, i.name, [computed(x, arrays) for x in i.inputs], i.static)
    return made[[s is value for s in i.outputs].index(True)] if isinstance(made, list) else made


def becomes(expression: Callable[..., Any], text: str, **options: Any) -> None:
    """An expression of the given symbols is written like this, and has the value that it has for arrays."""
    names = given(**options)
    s = expression(**{n: names[n] for n in expression.__code__.co_varnames})
    assert written(s) == text
    rng = np.random.default_rng(0)
    arrays = {n: (8 * rng.normal(size=x.shape)).astype(x.dtype) for n, x in names.items()}
    expected = expression(**{n: arrays[n] for n in expression.__code__.co_varnames})
    assert (s.shape, s.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(computed(s, arrays), expected, rtol=0, atol=1e-14 * max(1, abs(expected).max()))


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (lambda c, a, b: (c * a) * b, "multiply(c, multiply(a, b))"),
        (lambda c, a, b: b * (a * c), "multiply(c, multiply(a, b))"),
        (lambda c, a: (c * 2.0) * a, "multiply(c, multiply(2.0, a))"),
        (lambda c, a, b, e: ((c * a) * b) * e, "multiply(c, multiply(multiply(a, b), e))"),
        (lambda c, a, w: (c * a) * w, "multiply(c, multiply(a, w))"),
        (lambda c, a, b: (c + a) + b, "add(c, add(a, b))"),
        (lambda c, a, b: b + (a + c), "add(c, add(a, b))"),
    ],
)
def test_a_chain_of_products_or_sums_with_what_is_known_is_one_with_their_product_or_sum(expression, text):
    becomes(expression, text)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (lambda c, a: c - c * a, "multiply(c, subtract(1.0, a))"),
        (lambda c, a: c * a - c, "multiply(c, subtract(a, 1.0))"),
        (lambda c, a, b: c * a - b * c, "multiply(c, subtract(a, b))"),
        (lambda c, a, b: a * c + c * b, "multiply(c, add(a, b))"),
        (lambda c, a: c * 2.0 - c * a, "multiply(c, subtract(2.0, a))"),
        (lambda c, a: c - (c * a) * a, "multiply(c, subtract(1.0, multiply(a, a)))"),
    ],
)
def test_a_common_factor_of_the_loop_is_taken_out_of_sums_and_differences(expression, text):
    becomes(expression, text)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (lambda c, q, a, b: (c * a + q) - c * b, "add(multiply(c, subtract(a, b)), q)"),
        (lambda c, q, a, b: (q + c * a) - c * b, "add(q, multiply(c, subtract(a, b)))"),
        (lambda c, q, a, b: (c * a - q) - c * b, "subtract(multiply(c, subtract(a, b)), q)"),
        (lambda c, q, a, b: (c * a + q) + c * b, "add(multiply(c, add(a, b)), q)"),
        (lambda c, q, a: (c + q) - c * a, "add(multiply(c, subtract(1.0, a)), q)"),
        (lambda c, q, a, b: (q - c * a) - c * b, "subtract(subtract(q, multiply(c, a)), multiply(c, b))"),
    ],
)
def test_a_common_factor_is_taken_out_of_a_sum_with_something_else_in_it(expression, text):
    becomes(expression, text)


def test_adding_a_negative_is_subtracting_wherever_it_is_computed():
    becomes(lambda c, d: c + -d, "subtract(c, d)")
    becomes(lambda c, d: -d + c, "subtract(c, d)")
    becomes(lambda a, b: a + -b, "subtract(a, b)")
    becomes(lambda c: 1.0 + -c, "subtract(1.0, c)")
    becomes(lambda c, d: -c + -d, "subtract(negative(c), d)")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (lambda c, d, a: (c * d) * a, "multiply(multiply(c, d), a)"),
        (lambda c, d, a: (c * a) * d, "multiply(multiply(c, a), d)"),
        (lambda a, b, e: (a * b) * e, "multiply(multiply(a, b), e)"),
        (lambda c: (c * 2.0) * 3.0, "multiply(multiply(c, 2.0), 3.0)"),
        (lambda c, d, a: c * a - d * a, "subtract(multiply(c, a), multiply(d, a))"),
        (lambda c, d, q: c * d - c * q, "subtract(multiply(c, d), multiply(c, q))"),
        (lambda a, b: a - a * b, "subtract(a, multiply(a, b))"),
        (lambda c: c - c * 2.0, "subtract(c, multiply(c, 2.0))"),
        (lambda c, a, b: (c * a) / b, "divide(multiply(c, a), b)"),
        (lambda c, a, b: (c - a) - b, "subtract(subtract(c, a), b)"),
    ],
)
def test_what_needs_two_values_of_the_loop_or_none_stays_as_it_is_written(expression, text):
    becomes(expression, text)


def test_integers_and_mixtures_of_dtypes_stay_as_they_are_written():
    integers, mixed = dict.fromkeys(LEVELS, "int64"), {"a": "float32"}
    for dtypes in (integers, mixed):
        becomes(lambda c, a, b: (c * a) * b, "multiply(multiply(c, a), b)", dtypes=dtypes)
        becomes(lambda c, a, b: (c + a) + b, "add(add(c, a), b)", dtypes=dtypes)
        becomes(lambda c, a: c - c * a, "subtract(c, multiply(c, a))", dtypes=dtypes)


def test_what_is_computed_before_the_loop_never_has_more_axes_than_what_it_meets_in_the_loop():
    becomes(lambda c, a, b: (c * a) * b, "multiply(multiply(c, a), b)", shapes={"c": (3,), "b": (2, 3)})
    becomes(lambda c, a, b: (c * a) * b, "multiply(c, multiply(a, b))", shapes={"a": (3,), "b": ()})
    becomes(lambda c, a, b: (c * a) * b, "multiply(c, multiply(a, b))", shapes={"c": (1, 3), "a": (2, 1)})


def test_a_common_factor_stays_where_taking_it_out_would_change_a_shape():
    shapes = {"c": (1, 3), "q": (2, 3), "a": (1, 3), "b": (2, 1)}
    text = "subtract(add(multiply(c, a), q), multiply(c, b))"
    becomes(lambda c, q, a, b: (c * a + q) - c * b, text, shapes=shapes)


def test_a_matrix_that_is_transposed_twice_is_the_matrix():
    c = given()["c"]
    once = symbols.matrix_transpose(c)
    assert once.shape == (3, 2) and symbols.matrix_transpose(once) is c
    assert symbols.matrix_transpose(symbols.matrix_transpose(once)) is once


def test_an_instruction_that_is_there_is_not_written_again():
    names = given()
    c, d = names["c"], names["d"]
    assert c * d is c * d and c * d is not d * c  # the operands of a product keep their order
    assert c * 2 is not c * 2.0 and c * 0.0 is not c * -0.0
    assert symbols.sum(c, axis=0) is not symbols.sum(c, axis=1)


# concat(...) @ W


def product(parts: str, weight: str = "w", axis: int = -1, **shapes: Any) -> str:
    names = given({"w": (9, 4), **shapes})
    return written(symbols.matmul(symbols.concat([names[p] for p in parts], axis=axis), names[weight]))


def test_a_product_with_inputs_and_state_side_by_side_is_the_sum_of_a_product_with_each():
    shapes = {"a": (2, 5), "c": (2, 4)}
    assert product("ac", **shapes) == "add(matmul(a, split(w).0), matmul(c, split(w).1))"
    assert product("ca", **shapes) == "add(matmul(c, split(w).0), matmul(a, split(w).1))"


def test_parts_of_one_kind_stay_side_by_side():
    assert product("abc") == "add(matmul(concat(a, b), split(w).0), matmul(c, split(w).1))"
    assert product("cda") == "add(matmul(concat(c, d), split(w).0), matmul(a, split(w).1))"
    known = "add(matmul(a, split(w).0), matmul(b, split(w).2))"  # the sum of what is known, by the rule of chains
    assert product("acb") == f"add(matmul(c, split(w).1), {known})"
    assert product("abe") == "matmul(concat(a, b, e), w)"
    assert product("cdq") == "matmul(concat(c, d, q), w)"


def test_a_product_stays_one_if_its_matrix_changes_or_the_parts_lie_above_each_other():
    assert product("ac", "b", a=(2, 5), c=(2, 4), b=(9, 4)) == "matmul(concat(a, c), b)"
    assert product("ac", axis=0, a=(1, 9), c=(1, 9)) == "matmul(concat(a, c), w)"


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("order", ["xh", "hx", "xhx", "hxh"])
def test_cut_products_have_the_values_and_the_gradients_of_whole_ones(turned, order):
    x, h = leaf(4, 2, 3), leaf(2, 4)
    W = leaf(*(sum({"x": 3, "h": 4}[p] for p in order), 4)[:: -1 if turned else 1])

    def step(x, h):
        h = mg.tanh(mg.concat([{"x": x, "h": h}[p] for p in order], axis=-1) @ (W.mT if turned else W))
        return h, h

    agrees(step, x, h, leaves={"x": x, "h": h, "W": W})


def test_every_rewritten_form_has_the_loops_values_and_gradients_in_a_scan():
    xs, h, w = (leaf(4, 2, 3), leaf(4, 2, 3, seed=1)), leaf(2, 3), leaf(3)

    def step(x, c):
        a, b = x
        c = (c * a) * b * w + (c - c * a) + ((c * a + mg.sin(c)) - c * b) + -mg.cos(c)
        return c, mg.tanh(c)

    agrees(step, xs, h, leaves={"a": xs[0], "b": xs[1], "h": h, "w": w})
